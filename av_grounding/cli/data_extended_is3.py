"""`av-grounding data extended-is3`"""

from __future__ import annotations

import argparse
from pathlib import Path

from av_grounding.cli import console, options

ENGINES = ("espeak", "gtts", "piper")


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "extended-is3",
        parents=parents,
        help="IS3 with spoken class names: sound of one object + speech naming the other",
        description="Speak the class of every IS3 annotation and pair each sound with the speech "
        "that names the image's other object: two triplets per image. DIR gets audio_speech/ and "
        "triplets.json; images, sounds and masks stay in ROOT. A stopped run goes on.",
    )
    parser.add_argument(
        "--is3", type=Path, required=True, metavar="ROOT", help="IS3 with IS3_annotation.json"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument(
        "--tts",
        choices=ENGINES,
        default="espeak",
        help="speech engine; gtts needs a network, piper a --voice file (espeak)",
    )
    parser.add_argument(
        "--voice",
        help="the engine's own name of a voice: gmw/en-US+m3 for espeak, a language for gtts, "
        "a path to an .onnx file for piper; default: the engine's, for espeak eight in turn",
    )
    parser.add_argument("--seed", type=options.seed, default=0, help="seed of the voices (0)")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.evaluation.benchmarks.extended_is3_build import build_extended_is3

    with console.progress(args, "Speaking", None, "names") as advance:
        summary = build_extended_is3(
            args.is3,
            args.out,
            engine=args.tts,
            voice=args.voice,
            seed=args.seed,
            progress=lambda done, total: advance(done, total=total),
        )
    lines = [f"{summary['num_triplets']} triplets of {summary['num_images']} images: {args.out}"]
    if summary["num_left_out"]:
        lines.append(f"{summary['num_left_out']} left out, listed in {args.out}/triplets.json")
    console.show(args, summary, *lines)
    return 0
