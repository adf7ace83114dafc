"""`av-grounding reproduce`"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from av_grounding.cli import console, options

DEFAULTS = {
    "sss": (1000, 32, 300),
    "oneavm": (500, 16, 100),
    "oassl": (300, 16, 150),
    "seac": (600, 48, 150),
}
"""Paper -> steps, images of a batch, test samples."""


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "reproduce",
        parents=parents,
        help="reproduce the papers' findings on the synthetic world",
        description="Train and measure all runs of the papers' comparisons and ablations; hours. "
        "An interrupted call goes on where it stopped.",
    )
    parser.add_argument(
        "--paper",
        choices=tuple(DEFAULTS),
        default="sss",
        help="sss: papers 000 and 001 (sss); oneavm: paper 003; oassl: paper 004, and seac: paper "
        "002, whose runs "
        "begin with --start",
    )
    parser.add_argument(
        "--start", type=Path, metavar="BUNDLE",
        help="oassl, seac: encoders that every run begins with (models/synthetic-small)",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of the synthetic banks"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the runs; resumed"
    )
    parser.add_argument(
        "--page", type=Path, required=True, metavar="FILE", help="Markdown file to write"
    )
    for name, default, text in (
        ("steps", None, "steps of every run (1000; oneavm: 500; oassl: 300; seac: 600)"),
        ("pretext-steps", 700, "steps of the pretext they share"),
        ("aligner-steps", 120, "sss: steps of every run's warm-up of the aligners"),
        ("batch-size", None, "images of a batch (32; oneavm, oassl: 16; seac: 48)"),
        ("num", None, "test samples (300; of each benchmark oneavm: 100, oassl, seac: 150)"),
    ):
        parser.add_argument(
            f"--{name}", type=options.positive_int, default=default,
            help=f"{text} ({default})" if default else text,
        )  # fmt: skip
    for name, default, text in (
        ("seeds", [1, 2, 3], "of what is compared first"),
        ("ablation-seeds", [1], "of the ablations"),
    ):
        parser.add_argument(
            f"--{name}", type=options.seed, nargs="+", default=default, metavar="SEED",
            help=f"{text} ({' '.join(map(str, default))})",
        )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="a setting of every run, as for train",
    )  # fmt: skip
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.benchmarking.reproduction import regions, sources
    from av_grounding.benchmarking.reproduction.kept import reproduce_from
    from av_grounding.benchmarking.reproduction.reproduce import reproduce
    from av_grounding.benchmarking.reproduction.runs import Budget, Run
    from av_grounding.benchmarking.reproduction.unified import reproduce_unified
    from av_grounding.config.bundles import drawn_world_bundle
    from av_grounding.training.loop.loop import Interrupted

    if args.start and args.paper not in ("oassl", "seac"):
        raise ValueError("--start is for --paper oassl and seac: the other runs share a pretext")
    steps, batch_size, num = DEFAULTS[args.paper]
    schedule = Budget(
        steps=args.steps or steps,
        pretext_steps=args.pretext_steps,
        aligner_steps=args.aligner_steps,
        batch_size=args.batch_size or batch_size,
        num_samples=args.num or num,
        seeds=tuple(args.seeds),
        ablation_seeds=tuple(args.ablation_seeds),
        settings=tuple(args.settings),
    )
    with console.progress(args, "Preparing", 1) as advance:
        current = ""

        def on_run(number: int, total: int, run: Run) -> None:
            nonlocal current
            current = f"{number + 1}/{total} {run.name}: "

        def progress(stage: str, done: int, total: int, row: dict[str, float]) -> None:
            loss = f" (loss {row['loss']:.3f})" if "loss" in row else ""
            advance(done, total=total, description=current + stage + loss)

        try:
            places = (args.data, args.out, args.page, progress, on_run)
            if args.paper in ("oassl", "seac"):
                table = sources if args.paper == "oassl" else regions
                start = args.start or drawn_world_bundle()
                page = reproduce_from(table, schedule, start, *places)
            else:
                of_paper = reproduce_unified if args.paper == "oneavm" else reproduce
                page = of_paper(schedule, *places)
        except Interrupted as stopped:
            print(f"av-grounding: {stopped}", file=sys.stderr)
            return stopped.exit_code
    console.show(args, {"page": str(page)}, f"the page: {page}")
    return 0
