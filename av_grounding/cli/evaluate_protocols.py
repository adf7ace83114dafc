"""`av-grounding evaluate BENCHMARK --protocol NAME`: the harness, its options and its tables."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_grounding.cli import console, options

if TYPE_CHECKING:
    from rich.table import Table

    from av_grounding.evaluation.benchmark import Benchmark
    from av_grounding.evaluation.harness import Evaluation
    from av_grounding.evaluation.noise import NoiseBank
    from av_grounding.evaluation.prediction import Predictor
    from av_grounding.evaluation.protocols import Protocol

SWEEP_METRICS = ("sound_mAP", "speech_mAP", "ciou@0.5", "iiou@0.5", "cap", "miou")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("protocols")
    how.add_argument("--data", type=Path, metavar="ROOT", help="folder of a real benchmark")
    which = how.add_mutually_exclusive_group()
    which.add_argument("--protocol", metavar="NAME", help="how to score; default: the task's own")
    which.add_argument(
        "--all-protocols", action="store_true", help="every protocol of the task, and the spread"
    )
    how.add_argument(
        "--against", type=Path, metavar="BUNDLE", help="a second bundle, with paired intervals"
    )
    how.add_argument(
        "--streaming",
        action="store_true",
        help="also through the streaming core, against the whole clip",
    )
    how.add_argument(
        "--window",
        type=_seconds_list,
        metavar="S[,S]",
        help="the stream's window; several with --hop make a sweep (the bundle's)",
    )
    how.add_argument(
        "--hop", type=_seconds_list, metavar="S[,S]", help="the stream's hop (the bundle's)"
    )
    how.add_argument(
        "--sources",
        choices=("given", "auto"),
        default="auto",
        help="whether a model that tells sources apart is told their number (auto)",
    )
    how.add_argument("--noise", type=Path, metavar="DIR", help="recordings to add to every clip")
    how.add_argument("--snr", type=float, metavar="DB", help="clip over noise, in dB")
    how.add_argument(
        "--workers", type=_workers, metavar="N", help="scoring processes (one a core)"
    )


def is_asked_for(args: argparse.Namespace) -> bool:
    """Whether any option asks for the harness, and not for the report of `synthetic` alone."""
    asked = ("protocol", "all_protocols", "against", "streaming", "noise", "data", "workers")
    return any(getattr(args, name) not in (None, False) for name in (*asked, "window", "hop"))


def execute(args: argparse.Namespace) -> int:
    _check(args)
    from av_grounding.backends import has_regions
    from av_grounding.evaluation.benchmarks import DRAWN, open_benchmark
    from av_grounding.evaluation.noise import NoiseBank
    from av_grounding.evaluation.prediction import GrounderPredictor
    from av_grounding.evaluation.protocols import find_protocol, protocols_of
    from av_grounding.evaluation.report.content import build_report
    from av_grounding.evaluation.report.plots import check_plots
    from av_grounding.evaluation.report.write import FILES, write_report

    check_plots()
    settings = options.load_settings(args)
    is_world = args.benchmark in ("synthetic", "everyday")
    name = f"{args.benchmark}-simultaneous" if is_world else args.benchmark
    with console.busy(args, f"Opening {name}"):
        benchmark = open_benchmark(name, args.data, num=args.num, seed=args.seed, part=args.part)
    task = benchmark.info.task
    bundle = str(options.bundle_path(args, settings))
    if args.all_protocols:
        # seac's classes are those of named regions (002 eq. 5), which other models have none of.
        answers_regions = bool(args.regions) or has_regions(Path(bundle))
        protocols = tuple(
            one for one in protocols_of(task).values() if answers_regions or one.name != "seac"
        )
    else:
        protocols = (find_protocol(args.protocol, task),)
    noise = NoiseBank(args.noise, args.snr) if args.noise else None
    grounder = options.load_grounder(args, settings, compiles=False)
    started_s = time.perf_counter()

    def run(predictor: Predictor, what: str) -> Evaluation:
        return _run(args, benchmark, predictor, protocols, noise, what)

    predictor = GrounderPredictor(grounder, sources=args.sources)
    model = {"bundle": bundle, **predictor.describe()}
    evaluation = run(predictor, "Evaluating")
    against = None
    streams = []
    for streaming in _streams(args):
        stream = GrounderPredictor(grounder, streaming, sources=args.sources)
        described = {"bundle": bundle, **stream.describe()}
        what = f"Streaming {described['window_s']:g} s by {described['hop_s']:g} s"
        streams.append((run(stream, what), described))
    if streams:
        against = streams[0]
    elif args.against:
        from av_grounding.backends import load_backend
        from av_grounding.grounder import Grounder

        backend = load_backend(args.against, settings.backend, settings.device, compiles=False)
        other = GrounderPredictor(Grounder(backend, grounder.config), sources=args.sources)
        against = (run(other, "Second"), {"bundle": str(args.against), **other.describe()})
    report = build_report(
        evaluation,
        model,
        noise=noise.describe() if noise else None,
        seed=args.seed if name in DRAWN else None,
        duration_s=time.perf_counter() - started_s,
        against=against,
        sweep=_sweep(evaluation, streams) if len(streams) > 1 else None,
    )
    with console.busy(args, "Writing the report"):
        write_report(args.out, report, evaluation)
    shown = {key: value for key, value in report.items() if key != "samples"}
    console.show(args, shown, *_readable(report), f"{args.out}/{', '.join(FILES)}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if (args.noise is None) != (args.snr is None):
        raise ValueError("--noise and --snr go together: a folder of recordings and a level in dB")
    if args.streaming and args.against:
        raise ValueError(
            "--streaming compares the bundle with itself as a whole clip; run --against apart"
        )
    if (args.window or args.hop) and not args.streaming:
        raise ValueError("--window and --hop are the stream's: add --streaming")


def _run(
    args: argparse.Namespace,
    benchmark: Benchmark,
    predictor: Predictor,
    protocols: tuple[Protocol, ...],
    noise: NoiseBank | None,
    what: str,
) -> Evaluation:
    from av_grounding.evaluation.evaluating import evaluate_benchmark

    with console.progress(args, what, len(benchmark), "samples") as advance:
        return evaluate_benchmark(
            benchmark,
            predictor,
            protocols,
            num_workers=args.workers,
            noise=noise,
            progress=lambda done, total: advance(done),
        )


def _streams(args: argparse.Namespace) -> list[Any]:
    from av_grounding.evaluation.prediction import StreamingOptions

    if not args.streaming:
        return []
    return [
        StreamingOptions(window_s, hop_s)
        for window_s in args.window or [None]
        for hop_s in args.hop or [None]
    ]


def _sweep(
    whole: Evaluation, streams: list[tuple[Evaluation, dict[str, Any]]]
) -> dict[str, Any] | None:
    name = whole.protocols[0].name
    table = whole.tables[name]["model"]
    metrics = [metric for metric in SWEEP_METRICS if metric in table]
    return {
        "metrics": metrics,
        "whole_clip": {metric: table[metric] for metric in metrics},
        "points": [
            {
                "window_s": described["window_s"],
                "hop_s": described["hop_s"],
                "metrics": {metric: one.tables[name]["model"][metric] for metric in metrics},
            }
            for one, described in streams
        ],
    }


def _readable(report: dict[str, Any]) -> Iterator[Table | str]:
    from rich.table import Table

    from av_grounding.evaluation.report.content import LABELS, cell, columns_of, row_label
    from av_grounding.evaluation.report.markdown import facts

    yield "\n".join(line.removeprefix("- ") for line in facts(report))
    for name, one in report["protocols"].items():
        # Metrics go down: they are more than a terminal is wide.
        table = Table("%", title=f"{report['benchmark']}, {name}", box=None)
        for row in one["table"]:
            table.add_column(row_label(row), justify="right")
        for metric in columns_of(one["table"]):
            cells = (cell(metric, values.get(metric)) for values in one["table"].values())
            table.add_row(LABELS[metric], *cells)
        yield table
    if "spread" in report:
        table = Table("%", "lowest", "highest", title="spread over protocols", box=None)
        for metric, of in report["spread"].items():
            ends = (
                (end, next(p for p, value in of["by_protocol"].items() if value == of[end]))
                for end in ("lowest", "highest")
            )
            table.add_row(
                LABELS.get(metric, metric),
                *(f"{cell(metric, of[end])} {where}" for end, where in ends),
            )
        yield table
    for name, metrics in report.get("comparison", {}).items():
        second = report["against"]["model"]
        title = f"second: {second['bundle']}, {second['mode']}"
        table = Table(name, "first", "second", "difference", "95 %", title=title, box=None)
        for metric, one in metrics.items():
            numbers = (cell(metric, one[key]) for key in ("first", "second", "difference"))
            interval = f"{cell(metric, one['low'])} to {cell(metric, one['high'])}"
            table.add_row(LABELS.get(metric, metric), *numbers, interval)
        yield table
    for kind, number in report["problems"]["counts"].items():
        yield f"{number} {kind}: {report['problems']['policy'][kind]}"


def _seconds_list(text: str) -> list[float]:
    return [options.seconds(part) for part in text.split(",")]


def _workers(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected 0 (this process) or more")
    return int(text)
