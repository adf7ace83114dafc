"""`av-grounding separate`"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from av_grounding.cli import console, options
from av_grounding.files import replacing, write_json


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "separate",
        parents=parents,
        help="the sound of one place of a picture",
        description="DIR gets separated.wav and residual.wav, which add up to the sound (its "
        "channels' mean), mask.png, overlay.png and report.json.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE|VIDEO", help="a picture or a video")
    parser.add_argument(
        "audio", type=Path, nargs="?", metavar="AUDIO", help="a media file; default: the video's"
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--point", type=_numbers(2), metavar="X,Y", help="in the picture's pixels")
    place.add_argument(
        "--box", type=_numbers(4), metavar="X,Y,X,Y", help="left, top, right, bottom in pixels"
    )
    place.add_argument(
        "--mask", type=Path, metavar="PNG", help="a picture of the same size, bright on the place"
    )
    place.add_argument(
        "--peak", action="store_true", help="where the sound heatmap is highest (the default)"
    )
    options.add_model(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.audio import dbfs
    from av_grounding.drawing.overlay import overlay, peak_px
    from av_grounding.drawing.png import write_png
    from av_grounding.image import resize_heatmap
    from av_grounding.sources.media_file import MediaFile
    from av_grounding.sources.still import is_still, read_image

    settings = options.load_settings(args)
    if is_still(args.image):
        if args.audio is None:
            raise ValueError(f"{args.image} is a picture: name a sound file behind it")
        image = read_image(args.image)
    else:
        image = MediaFile(args.image).middle_frame()
    waveform, sample_rate_hz = MediaFile(args.audio or args.image).read_audio()
    mask = None
    if args.mask:
        mask = read_image(args.mask).max(axis=2) > 127
    grounder = options.load_grounder(args, settings)
    with console.busy(args, "Listening"):
        heard = grounder.separate(
            image, waveform, sample_rate_hz, point=args.point, box=args.box, mask=mask
        )
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("separated", "residual"):
        write_sound(args.out / f"{name}.wav", getattr(heard, name), sample_rate_hz)
    size = image.shape[:2]
    place = resize_heatmap(heard.place, *size)
    grey = np.rint(255 * place).astype(np.uint8)
    write_png(args.out / "mask.png", np.repeat(grey[..., None], 3, axis=2))
    shown = {"sound": heard.as_answer()}
    write_png(args.out / "overlay.png", overlay(image, shown, settings.overlay.alpha))
    kind = next((name for name in ("point", "box", "mask") if getattr(args, name)), "peak")
    report: dict[str, Any] = {
        "out": str(args.out),
        "place": kind,
        "at_px": args.point or peak_px(heard.place, *size),
        "sample_rate_hz": sample_rate_hz,
        "duration_s": round(len(heard.separated) / sample_rate_hz, 3),
        "separated_dbfs": round(dbfs(heard.separated), 2),
        "residual_dbfs": round(dbfs(heard.residual), 2),
        "model": str(options.bundle_path(args, settings)),
    }
    write_json(args.out / "report.json", report)
    console.show(
        args,
        report,
        "separated: {:.1f} dBFS at {:g}, {:g} px, the rest: {:.1f} dBFS".format(
            report["separated_dbfs"], *report["at_px"], report["residual_dbfs"]
        ),
        f"written to {args.out}",
    )
    return 0


def write_sound(path: Path, samples: Float32[np.ndarray, " s"], sample_rate_hz: int) -> None:
    """Samples as they are, 32-bit floats: above full scale too, parts still add to their whole."""
    import av

    with replacing(path) as partial, av.open(str(partial), "w", format="wav") as container:
        stream: Any = container.add_stream("pcm_f32le", rate=sample_rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = sample_rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _numbers(count: int) -> Any:
    def parse(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise argparse.ArgumentTypeError(
                f"got {text!r}, expected {count} numbers with commas between"
            )
        return values

    return parse
