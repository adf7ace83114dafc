"""`av-grounding ground`"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from av_grounding.cli import console, options


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "ground",
        parents=parents,
        help="ground one picture and one clip",
        description="DIR gets sound.png, speech.png, overlay.png and heatmaps.npz; source_1.png, "
        "… too, the strongest first, from a bundle that tells sources apart; regions.json and "
        "regions.png from a model of regions.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a picture")
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="a media file with sound")
    options.add_model(parser)
    options.add_sources(parser)
    options.add_regions(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    import numpy as np

    from av_grounding.drawing.overlay import colorize, overlay, peak_px
    from av_grounding.drawing.png import write_png
    from av_grounding.drawing.regions import describe_regions, draw_regions
    from av_grounding.files import atomic_write, write_json
    from av_grounding.image import resize_heatmap
    from av_grounding.sources.media_file import MediaFile
    from av_grounding.sources.still import read_image

    settings = options.load_settings(args)
    image = read_image(args.image)
    waveform, sample_rate_hz = MediaFile(args.audio).read_audio()
    args.out.mkdir(parents=True, exist_ok=True)
    grounder = options.load_grounder(args, settings)
    with console.busy(args, "Listening"):
        grounding = grounder.ground(image, waveform, sample_rate_hz)
    size = image.shape[:2]
    is_numbered = grounder.spec.sources is not None
    for head, answer in grounding.heads.items():
        large = resize_heatmap(answer.heatmap, *size)
        write_png(args.out / f"{head}.png", colorize(large, head))
        for number, heatmap in enumerate(answer.heatmaps if is_numbered else (), 1):
            write_png(
                args.out / f"source_{number}.png", colorize(resize_heatmap(heatmap, *size), head)
            )
    write_png(args.out / "overlay.png", overlay(image, grounding.heads, settings.overlay.alpha))
    with atomic_write(args.out / "heatmaps.npz") as file:
        maps = {head: answer.heatmap for head, answer in grounding.heads.items()}
        scores = {f"{head}_score": np.float32(grounding.score(head)) for head in grounding.heads}
        if is_numbered:
            (answer,) = grounding.heads.values()
            maps["sources"] = answer.heatmaps
            scores["source_score"] = answer.heatmaps.max(axis=(1, 2), initial=0.0)
        np.savez(file, **maps, **scores)
    regions = {head: of.regions for head, of in grounding.heads.items() if of.regions}
    if regions:
        write_png(args.out / "regions.png", draw_regions(image, regions))
        write_json(args.out / "regions.json", describe_regions(regions, size))
    result: dict[str, Any] = {"out": str(args.out)}
    lines = []
    for head, answer in grounding.heads.items():
        is_present = bool(len(answer.logits)) and answer.score >= settings.head(head).threshold
        peak = peak_px(answer.heatmap, *size) if is_present else None
        result[head] = {"score": round(answer.score, 4), "peak_px": peak}
        place = "nothing" if peak is None else f"at {peak} px"
        lines.append(f"{head}: score {answer.score:.2f}, {place}")
        if is_numbered:
            peaks = [peak_px(one, *size) for one in answer.heatmaps]
            result[head]["sources_px"] = peaks
            where = ", ".join(f"{number} at {peak} px" for number, peak in enumerate(peaks, 1))
            lines.append(f"sources: {where or 'none'}")
    console.show(args, result, *lines, f"written to {args.out}")
    return 0
