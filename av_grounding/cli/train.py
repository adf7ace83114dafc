"""`av-grounding train`"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_grounding.cli import console

if TYPE_CHECKING:
    from av_grounding.training.loop.run_folder import Progress

ALONE = ("everyday", "instruments")
"""Recipes that take what they learn from packages."""


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "train",
        parents=parents,
        help="train a bundle by a paper's recipe",
        description="Train a bundle by a paper's recipe; an interrupted run is resumed.",
    )
    parser.add_argument(
        "recipe",
        choices=("sss", "denseav", "seac", "oneavm", "oassl", *ALONE),
        help="sss: mix-and-separate (paper 000); denseav: head-max contrast (paper 001); seac: "
        "segment, associate, classify (paper 002); oneavm: locate, separate and recognise (paper "
        "003); oassl: object-aware localisation of several sources (paper 004); everyday: "
        "photographs, recordings and voices of packages; instruments: a separator of sampled "
        "instruments (neither needs --data)",
    )
    parser.add_argument(
        "--preset",
        choices=("synthetic", "paper"),
        default="synthetic",
        help="synthetic: the small model, from scratch (the default); paper: the backbones and "
        "values of the recipe's paper, on real clips",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of shards or clips (see data shard); a new or empty one is filled with the "
        "synthetic banks",
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
    from av_grounding.training import runs
    from av_grounding.training.loop.loop import Interrupted
    from av_grounding.training.paper_configuration import PRESETS
    from av_grounding.training.settings import override

    if args.recipe not in ALONE and args.data is None:
        raise ValueError(f"no --data for {args.recipe}: expected a folder of shards or clips")
    if int(os.environ.get("RANK", "0")) > 0:  # Under torchrun one process speaks.
        args.quiet, args.json = True, False
    if args.recipe == "everyday":
        from av_grounding.training.everyday.run import EverydayRun, run_everyday

        settings, run = EverydayRun(), run_everyday
    elif args.recipe == "instruments":
        from av_grounding.training.everyday.instruments import InstrumentsRun, run_instruments

        settings, run = InstrumentsRun(), run_instruments
    elif args.recipe in PRESETS[args.preset]:
        settings = PRESETS[args.preset][args.recipe]()

        def run(config: Any, out: Path, progress: Progress) -> Path:
            return runs.run(config, args.data, out, progress)
    else:
        known = ", ".join(name for name, recipes in PRESETS.items() if args.recipe in recipes)
        raise ValueError(f"{args.recipe} has no preset {args.preset!r}; expected {known}")
    config = override(settings, args.settings)
    with console.progress(args, "Preparing", 1) as advance:

        def progress(stage: str, done: int, total: int, row: dict[str, float]) -> None:
            loss = f" (loss {row['loss']:.3f})" if "loss" in row else ""
            if row.get("samples_per_s"):
                loss = f"{loss[:-1]}, {row['samples_per_s']:.0f} samples/s)"
            advance(done, total=total, description=stage + loss)

        try:
            bundle = run(config, args.out, progress)
        except Interrupted as stopped:
            print(f"av-grounding: {stopped}", file=sys.stderr)
            return stopped.exit_code
    console.show(args, {"bundle": str(bundle)}, f"trained bundle: {bundle}")
    return 0
