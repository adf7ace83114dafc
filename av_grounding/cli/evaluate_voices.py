"""`av-grounding evaluate voices`"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from av_grounding.cli import console, options

if TYPE_CHECKING:
    from rich.table import Table

NUM_NOUNS = 40


def execute(args: argparse.Namespace) -> int:
    """Which noun was said, by every installed engine and by the person of the stamps."""
    settings = options.load_settings(args)
    path = options.bundle_path(args, settings)
    grounder = options.load_grounder(args, settings)
    from av_grounding.evaluation.voices import (
        PERSON,
        by_engine,
        evaluate_voices,
        speech_tokens,
        vocabulary_of,
    )
    from av_grounding.everyday.corpus import VALIDATION_VOICES
    from av_grounding.everyday.voices import list_voices
    from av_grounding.files import write_json

    vocabulary = vocabulary_of(path)
    speakers = [voice for voice in list_voices() if not voice.startswith("espeak:")]
    speakers += [*sorted(VALIDATION_VOICES)[:4], PERSON]
    args.out.mkdir(parents=True, exist_ok=True)
    with console.progress(args, "Evaluating", len(speakers), "voices") as advance:
        results = evaluate_voices(
            speech_tokens(grounder.backend), vocabulary, speakers,
            nouns_per_voice=args.num or NUM_NOUNS, seed=args.seed,
            progress=lambda done, total: advance(done),
        )  # fmt: skip
    report = {
        "benchmark": "voices",
        "seed": args.seed,
        "num_nouns": len(vocabulary),
        "engines": by_engine(results),
        "voices": results,
    }
    write_json(args.out / "report.json", report)
    console.show(args, report, *_readable(report), f"{args.out}/report.json")
    return 0


def _readable(report: dict[str, Any]) -> Iterator[Table]:
    from rich.table import Table

    title = f"top-1 / top-5 of {report['num_nouns']} spoken nouns, seed {report['seed']}"
    for kind in ("engines", "voices"):
        cases = list(dict.fromkeys(case for row in report[kind].values() for case in row))
        table = Table("%", *cases, title=title if kind == "engines" else None, box=None)
        for name, row in report[kind].items():
            cells = (row.get(case) for case in cases)
            table.add_row(
                name,
                *(
                    "–" if cell is None else f"{100 * cell['top1']:.0f} / {100 * cell['top5']:.0f}"
                    for cell in cells
                ),
            )
        yield table
