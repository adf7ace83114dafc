"""`av-grounding ground`"""

from __future__ import annotations

import argparse
from pathlib import Path

from av_grounding.cli import console, options


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "ground",
        parents=parents,
        help="ground one picture and one clip",
        description="DIR gets sound.png, speech.png, overlay.png and heatmaps.npz.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a picture")
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="a media file with sound")
    options.add_model(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    import numpy as np

    from av_grounding.drawing.overlay import colorize, overlay, peak_px
    from av_grounding.drawing.png import write_png
    from av_grounding.files import atomic_write
    from av_grounding.sources.media_file import MediaFile
    from av_grounding.sources.still import read_image

    settings = options.load_settings(args)
    image = read_image(args.image)
    waveform, sample_rate_hz = MediaFile(args.audio).read_audio()
    args.out.mkdir(parents=True, exist_ok=True)
    grounder = options.load_grounder(args, settings)
    with console.busy(args, "Listening"):
        heatmaps = grounder.ground(image, waveform, sample_rate_hz)
    size = image.shape[:2]
    large = heatmaps.resized(*size)
    for head in ("sound", "speech"):
        write_png(args.out / f"{head}.png", colorize(getattr(large, head), head))
    write_png(args.out / "overlay.png", overlay(image, heatmaps, settings.overlay.alpha))
    with atomic_write(args.out / "heatmaps.npz") as file:
        np.savez(
            file,
            sound=heatmaps.sound,
            speech=heatmaps.speech,
            sound_score=np.float32(heatmaps.sound_score),
            speech_score=np.float32(heatmaps.speech_score),
        )
    result = {"out": str(args.out)}
    for head in ("sound", "speech"):
        heatmap, score = getattr(heatmaps, head), float(getattr(heatmaps, f"{head}_score"))
        is_present = bool(heatmap.any()) and score >= getattr(settings, head).threshold
        peak = peak_px(heatmap, *size) if is_present else None
        result[head] = {"score": round(score, 4), "peak_px": peak}
    lines = (
        f"{head}: score {result[head]['score']:.2f}, "
        + ("at {} px".format(result[head]["peak_px"]) if result[head]["peak_px"] else "nothing")
        for head in ("sound", "speech")
    )
    console.show(args, result, *lines, f"written to {args.out}")
    return 0
