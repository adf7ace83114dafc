"""`av-grounding train`"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from av_grounding.cli import console

EXIT_INTERRUPTED = 130


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "train",
        parents=parents,
        help="train a bundle by a paper's recipe",
        description="Train a bundle by a paper's recipe; an interrupted run is resumed.",
    )
    parser.add_argument("recipe", choices=("sss",), help="sss: mix-and-separate (paper 000)")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the synthetic banks; made on first use",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="folder of the run; resumed"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="override a setting, such as loop.steps=2000 or data.batch_size=32",
    )
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.training import run_sss
    from av_grounding.training.configuration import SssRun, override
    from av_grounding.training.loop import Interrupted

    config = override(SssRun(), args.settings)
    with console.progress(args, "Preparing", 1) as advance:

        def progress(stage: str, done: int, total: int, row: dict[str, float]) -> None:
            loss = f" (loss {row['loss']:.3f})" if "loss" in row else ""
            advance(done, total=total, description=stage + loss)

        try:
            bundle = run_sss.run(config, args.data, args.out, progress)
        except Interrupted as stopped:
            print(f"av-grounding: {stopped}", file=sys.stderr)
            return EXIT_INTERRUPTED
    console.show(args, {"bundle": str(bundle)}, f"trained bundle: {bundle}")
    return 0
