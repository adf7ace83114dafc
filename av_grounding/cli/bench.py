"""`av-grounding bench`"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_grounding.cli import bench_matrix, console, options

if TYPE_CHECKING:
    from rich.table import Table


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "bench",
        parents=parents,
        help="measure latency, CPU and memory on two cores",
        description=(
            "Run the demo in real time on two cores; DIR gets bench.json. With --matrix, compare "
            "backends, precisions, image sizes and windows instead; DIR gets matrix.json, "
            "matrix.md and matrix.png."
        ),
    )
    options.add_model(parser)
    options.add_regions(parser)
    parser.add_argument(
        "--duration", type=options.seconds, default=60.0, metavar="S", help="seconds (60)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the results here")
    bench_matrix.add_arguments(parser)
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    if args.matrix:
        if args.regions:
            raise ValueError("--matrix compares encoders, which --regions leaves alone: drop it")
        return bench_matrix.execute(args)
    from av_grounding.benchmarking import speed
    from av_grounding.benchmarking.machine import pin_to_cores

    pin_to_cores()
    settings = options.load_settings(args)
    grounder = options.load_grounder(args, settings)
    with console.progress(args, "Measuring", args.duration, "s") as advance:
        report = speed.measure_speed(
            grounder, args.duration, advance, max_image_age_s=settings.max_image_age_ms / 1e3
        )
    if args.out is not None:
        from av_grounding.files import write_json

        args.out.mkdir(parents=True, exist_ok=True)
        write_json(args.out / "bench.json", report)
    lines = [f"{args.out}/bench.json"] if args.out else []
    if (load := report["real_time"]["load"]) > 1.0:
        lines.insert(0, _too_slow(report["real_time"], load))
    console.show(args, report, _table(report), *lines)
    return 0


def _too_slow(real_time: dict[str, float], load: float) -> str:
    return (
        f"Every frame and every hop in time would take {load:.1f} times this machine: "
        f"{real_time['image_ms']:.0f} ms an image, {real_time['window_ms']:.0f} ms a window of "
        "sound. A compiled bundle (export), max_rate, a longer hop or a smaller model take less."
    )


def _table(report: dict[str, Any]) -> Table:
    from rich.table import Table

    title = f"{report['duration_s']:.0f} s on two cores of {report['machine']['processor']}"
    table = Table("", title=title, box=None)
    for column in ("measured", "target", ""):
        table.add_column(column, justify="right")
    from av_grounding.benchmarking.speed import TARGETS

    for name, row in report["targets"].items():
        sign = "≥" if TARGETS[name][2] else "≤"
        value = "–" if row["value"] is None else f"{row['value']:.1f}"
        met = {True: "met", False: "missed", None: "not measured"}[row["met"]]
        table.add_row(name, value, f"{sign} {row['bound']:g}", met)
    ratio = report["cpu_ratio"]["one_window"]
    table.add_row("CPU of one window anew / streaming", f"{ratio:.1f}", "", "")
    return table
