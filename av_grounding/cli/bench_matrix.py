"""`av-grounding bench --matrix`: backends, precisions, image sizes and windows compared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_grounding.cli import console, options

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT_OUT = Path("out/bench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("matrix")
    how.add_argument(
        "--matrix", action="store_true", help="compare instead of the run in real time"
    )
    how.add_argument(
        "--backends", type=_words, metavar="B[,B]", help="with --matrix (every one there is)"
    )
    how.add_argument(
        "--precisions", type=_words, default=[], metavar="P[,P]", help="(those that each has)"
    )
    how.add_argument(
        "--exports", type=Path, action="append", default=[], metavar="DIR",
        help="a bundle exported from this one, beside its own exports; may be repeated",
    )  # fmt: skip
    how.add_argument(
        "--image-sizes", type=_sizes, default=[], metavar="PX[,PX]",
        help="short sides in pixels (the bundle's)",
    )  # fmt: skip
    how.add_argument(
        "--windows", type=_windows, default=[], metavar="S[,S]", help="seconds (the bundle's)"
    )
    how.add_argument(
        "--seconds", type=options.seconds, default=2.0, metavar="S",
        help="for each stage of each combination (2)",
    )  # fmt: skip


def execute(args: argparse.Namespace) -> int:
    from av_grounding.benchmarking.machine import pin_to_cores
    from av_grounding.benchmarking.matrix_report import FILES, write_matrix
    from av_grounding.evaluation.report.plots import check_plots

    check_plots()
    from av_grounding.backends import BACKENDS

    known = [name for name in BACKENDS if name != "auto"]
    backends = known if args.backends is None else args.backends
    if unknown := [name for name in backends if name not in known]:
        raise ValueError(f"backend {unknown[0]!r}; expected some of {', '.join(known)}")
    pin_to_cores()
    from av_grounding.benchmarking.matrix import measure_matrix

    settings = options.load_settings(args)
    with console.progress(args, "Measuring", None, "measurements") as advance:
        report = measure_matrix(
            options.bundle_path(args, settings),
            backends=backends,
            precisions=args.precisions,
            image_sizes=args.image_sizes,
            windows=args.windows,
            seconds=args.seconds,
            device=settings.device,
            exports=args.exports,
            on_progress=lambda done, total: advance(done, total=total),
        )
    out = args.out or DEFAULT_OUT
    write_matrix(out, report)
    not_run = [_not_run(row) for row in report["not_run"]]
    console.show(args, report, _table(report), *not_run, f"{out}/{', '.join(FILES)}")
    return 0


def _table(report: dict[str, Any]) -> Table:
    from rich.table import Table

    machine = report["machine"]
    title = f"ms, p50, on {machine['num_cores']} cores of {machine['processor']}"
    table = Table(title=title, box=None)
    for column in ("backend", "image", "window"):
        table.add_column(column, no_wrap=True)
    for column in ("image", "audio", "ground", "whole", "× eager", "frames/s"):
        table.add_column(column, justify="right")
    for row in report["rows"]:
        stages = ("encode_image", "encode_audio", "ground", "end_to_end")
        table.add_row(
            f"{row['backend']} {row['precision']}",
            row["image"],
            f"{row['window_s']:g} s",
            *(f"{row[f'{stage}_ms']['p50']:.1f}" for stage in stages),
            f"{row['ratio']['end_to_end']:.2f}" if row["ratio"]["end_to_end"] else "–",
            f"{row['frame_rate_hz']:.1f}",
        )
    return table


def _not_run(row: dict[str, Any]) -> str:
    size = "" if row["image_size"] is None else f" at {row['image_size']} px"
    window = "" if row["window_s"] is None else f", windows of {row['window_s']:g} s"
    return f"not run: {row['backend']} {row['precision']}{size}{window}: {row['reason']}"


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected names with commas between them")
    return words


def _sizes(text: str) -> list[int]:
    return [options.positive_int(word) for word in _words(text)]


def _windows(text: str) -> list[float]:
    return [options.seconds(word) for word in _words(text)]
