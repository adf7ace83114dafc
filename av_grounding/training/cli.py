"""The `train` command: arguments and progress; the work is in `run_sss`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", choices=["sss"], help="sss: mix-and-separate (paper 000)")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the synthetic banks; made on first use"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; resumed")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="override a setting, such as loop.steps=2000 or data.batch_size=32",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from av_grounding.training import run_sss
    from av_grounding.training.configuration import SssRun, override
    from av_grounding.training.loop import Interrupted

    config = override(SssRun(), args.settings)
    console = Console(stderr=True, quiet=args.quiet)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(), TextColumn("{task.fields[numbers]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, int] = {}

        def progress(stage: str, done: int, total: int, row: dict[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, numbers="")
            numbers = f"loss {row['loss']:.3f}" if "loss" in row else ""
            bars.update(tasks[stage], completed=done, numbers=numbers)

        try:
            bundle = run_sss.run(config, args.data, args.out, progress)
        except Interrupted as stopped:
            console.print(str(stopped))
            return 0
    print(bundle)
    return 0
