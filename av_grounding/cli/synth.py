"""`av-grounding synth`"""

from __future__ import annotations

import argparse
from pathlib import Path

from av_grounding.cli import console, options


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "synth",
        parents=parents,
        help="write samples of the synthetic world: images, masks, sound, speech, mixtures",
        description="Write images, masks, wavs and manifest.jsonl; the same seed, the same files.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument(
        "--num", type=options.positive_int, default=100, help="number of samples (100)"
    )
    parser.add_argument("--seed", type=options.seed, default=0, help="seed of the samples (0)")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        default="train",
        help="splits share no object, sound or voice (train)",
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.synthetic.samples import write_samples

    with console.progress(args, "Drawing and speaking", args.num, "samples") as advance:
        manifest = write_samples(
            args.out, args.num, args.seed, args.split, lambda done, total: advance(done)
        )
    result = {
        "manifest": str(manifest),
        "num_samples": args.num,
        "split": args.split,
        "seed": args.seed,
    }
    console.show(args, result, f"{args.num} samples of split {args.split}: {manifest}")
    return 0
