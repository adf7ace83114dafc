"""`av-grounding render`"""

from __future__ import annotations

import argparse
from pathlib import Path

from av_grounding.cli import console


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "render",
        parents=parents,
        help="make a clip of a recording: the camera and every head side by side",
        description="The clip has the sound, the scores, and a timeline with the utterances.",
    )
    parser.add_argument("recording", metavar="RECORDING", help="what run --record has written")
    parser.add_argument("--out", type=Path, required=True, metavar="CLIP.mp4")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.transports.bag.render import render_recording

    path = args.recording.removeprefix("bag:")
    with console.progress(args, "Rendering", None, "s") as advance:
        report = render_recording(
            path, args.out, lambda done_s, total_s: advance(done_s, total=total_s)
        )
    line = f"{report['clip']}: {report['duration_s']:.1f} s, {report['num_frames']} frames"
    fault = f"{path}: {report['fault']}" if report["fault"] else None
    frames, chunks = report["num_implausible_frames"], report["num_implausible_chunks"]
    left_out = (
        f"left out: {frames} frames and {chunks} chunks of sound, stamped implausibly"
        if frames or chunks
        else None
    )
    console.show(args, report, *filter(None, (fault, line, left_out)))
    return 0
