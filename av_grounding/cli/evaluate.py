"""`av-grounding evaluate`"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_grounding.cli import console, evaluate_protocols, evaluate_voices, options

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT_NUM = {"synthetic": 500, "everyday": 300}
"""The worlds that have a report of their own, and how many samples it draws."""


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    from av_grounding.evaluation.benchmarks import NAMES

    parser = subparsers.add_parser(
        "evaluate",
        parents=parents,
        help="measure a bundle on a benchmark",
        description=(
            "Measure a bundle. `synthetic` and `everyday` alone are the reports of the shipped "
            "models: report.json and panels.png. Every benchmark under a named protocol leaves "
            "report.json, report.md and report.html."
        ),
        epilog=f"benchmarks: {', '.join((*DEFAULT_NUM, 'voices', *NAMES))}",
    )
    parser.add_argument("benchmark", type=_benchmark, metavar="BENCHMARK", help="see below")
    options.add_model(parser)
    options.add_regions(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--seed", type=options.seed, default=0, help="seed of the samples (0)")
    parser.add_argument(
        "--num",
        type=options.positive_int,
        help="number of samples "
        f"({', '.join(f'{name}: {num}' for name, num in DEFAULT_NUM.items())}; voices: "
        f"nouns for each voice, {evaluate_voices.NUM_NOUNS}; else all)",
    )
    parser.add_argument(
        "--part",
        choices=("test", "validation"),
        default="test",
        help="everyday: the part that measures, or the one that may choose (test)",
    )
    parser.add_argument(
        "--voices",
        metavar="ENGINE",
        help="synthetic: another engine says the phrases, such as flite, or some of its voices, "
        "such as flite:slt,flite:rms (the test split's own)",
    )
    evaluate_protocols.add_arguments(parser)
    parser.set_defaults(execute=execute)


def _benchmark(text: str) -> str:
    from av_grounding.evaluation.benchmarks import NAMES

    known = (*DEFAULT_NUM, "voices", *NAMES)
    if text not in known:
        close = difflib.get_close_matches(text, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
        raise argparse.ArgumentTypeError(f"unknown benchmark {text!r}; {hint}")
    return text


def execute(args: argparse.Namespace) -> int:
    if args.benchmark == "voices":
        return evaluate_voices.execute(args)
    if args.part != "test" and not args.benchmark.startswith("everyday"):
        raise ValueError(f"--part {args.part} is of everyday alone: leave it out")
    if args.voices is not None:
        if args.benchmark != "synthetic":
            raise ValueError(f"--voices {args.voices} is of synthetic alone: leave it out")
        from av_grounding.everyday.utterances import speaker_of

        speaker_of(args.voices)  # which says what is wrong with an engine
    if args.benchmark not in DEFAULT_NUM or evaluate_protocols.is_asked_for(args):
        return evaluate_protocols.execute(args)
    settings = options.load_settings(args)
    grounder = options.load_grounder(args, settings, compiles=False)
    from av_grounding.backends import has_regions
    from av_grounding.config import read_vocabulary
    from av_grounding.evaluation.prediction import GrounderPredictor, StreamingOptions
    from av_grounding.evaluation.synthetic import evaluate

    is_everyday = args.benchmark == "everyday"
    if is_everyday:
        from av_grounding.backends.caching import CachingBackend
        from av_grounding.grounder import Grounder

        # A picture stands before the camera for seconds, and comes again under other sound.
        grounder = Grounder(CachingBackend(grounder.backend), grounder.config)
    cells = None
    if args.regions and not has_regions(options.bundle_path(args, settings)):
        plain = argparse.Namespace(**{**vars(args), "regions": None})
        cells = GrounderPredictor(
            options.load_grounder(plain, settings, compiles=False), word_margin_s=0.0
        )
    with console.progress(args, "Evaluating", None, "samples") as advance:
        report = evaluate(
            GrounderPredictor(grounder, word_margin_s=0.0),
            args.out, args.seed, args.num or DEFAULT_NUM[args.benchmark],
            lambda done, total: advance(done, total=total),
            split=args.part,
            world=args.benchmark,
            vocabulary=read_vocabulary(options.bundle_path(args, settings)) or None,
            stream=GrounderPredictor(grounder, StreamingOptions()) if is_everyday else None,
            cells=cells,
            voices=args.voices or "own",
        )  # fmt: skip
    console.show(args, report, *_readable(report), f"{args.out}/report.json, panels.png")
    return 0


def _readable(report: dict[str, Any]) -> Iterator[Table]:
    from rich.table import Table

    heads = list(report["per_class"])
    table = Table(title=f"{report['num_samples']} samples, seed {report['seed']}", box=None)
    table.add_column("%", no_wrap=True)
    for head in heads:
        for column in ("mAP", "mIoU", "peak"):
            table.add_column(f"{head} {column}", justify="right")
    known = report.get("in_vocabulary", {})
    rows = {
        "mixture": report["mixture"],
        "clean": report["clean"],
        **{f"mixture {ratio} dB": row for ratio, row in report["ratios_db"].items()},
        **({"mixture, streaming": report["streaming"]} if "streaming" in report else {}),
        **({"mixture, cells": report["cells"]} if "cells" in report else {}),
        **({"mixture, known": known} if len(known) == len(heads) else {}),
        **{name.replace("_", " "): row for name, row in report["baselines"].items()},
        **{f"ceiling: {name.replace('_', ' ')}": row for name, row in report["ceilings"].items()},
    }
    for name, row in rows.items():
        values = (row[head][key] for head in heads for key in ("mAP", "miou", "peak"))
        table.add_row(name, *(f"{100 * value:.1f}" for value in values))
    yield table

    classes = Table("class", title="mixture, by class", box=None)
    for head in heads:
        for column in ("AP", "peak"):
            classes.add_column(f"{head} {column}", justify="right")
    by_head = report["per_class"]
    for name in sorted({name for of_head in by_head.values() for name in of_head}):
        cells = (by_head[head].get(name, {}).get(key) for head in heads for key in ("ap", "peak"))
        classes.add_row(name, *("–" if cell is None else f"{100 * cell:.1f}" for cell in cells))
    yield classes

    rest = Table("%", "", title="mixture", box=None)
    rest.add_row("wrong-head leakage", f"{100 * report['mixture']['leakage']:.1f}")
    for head, row in known.items():
        rest.add_row(f"{head} head knows", f"{row['num_classes']} classes, {row['num']} samples")
    for name, value in report.get("word_timing", {}).items():
        rest.add_row(f"speech mAP, word timing: {name}", f"{100 * value:.1f}")
    for of_what, beside in (("outlines", ""), ("outlines_of_cells", ", cells")):
        for reading, rows in report.get(of_what, {}).items():
            for head, row in rows.items():
                name = f"{head} boundary F, {reading}{beside}"
                rest.add_row(name, f"{100 * row['boundary_f']:.1f}")
    rest.add_row("dark maps below 0.5", f"{100 * report['gating']:.1f}")
    for case, share in report["gating_cases"].items():
        rest.add_row(f"  {case.replace('_', ' ').replace('.', ': ')}", f"{100 * share:.1f}")
    yield rest
