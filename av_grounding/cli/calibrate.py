"""`av-grounding calibrate`"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from pathlib import Path

from av_grounding.cli import console, options

logger = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        parents=parents,
        help="fit what a similarity means, so that 0.5 is as likely as not",
        description="Fit each head's calibration on matching and non-matching pairs and store it "
        "in the bundle.",
    )
    parser.add_argument(
        "--model", type=Path, required=True, metavar="BUNDLE", help="bundle directory; changed"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="synthetic | a folder of clips: videos with sound, or pictures and sounds of the "
        "same name; clips below its folders sound/ and speech/ count for that head alone",
    )
    parser.add_argument(
        "--num", type=options.positive_int, default=100, help="synthetic samples (100)"
    )
    parser.add_argument(
        "--seed", type=options.seed, default=0, help="seed of samples and pairings (0)"
    )
    parser.add_argument("--dry-run", action="store_true", help="leave the bundle as it is")
    parser.set_defaults(execute=execute, config=None, set=[])


def execute(args: argparse.Namespace) -> int:
    from av_grounding.modeling.bundle_config import store_calibration
    from av_grounding.training.fitting.calibration import fit_cases, folder_cases, synthetic_cases

    grounder = options.load_grounder(args, options.load_settings(args), compiles=False)
    with console.progress(args, "Comparing pairs", None, "done") as advance:

        def show(done: int, total: int) -> None:
            advance(done, total=total)

        if args.data == "synthetic":
            cases = synthetic_cases(grounder, args.num, args.seed, show)
        else:
            cases = folder_cases(grounder, Path(args.data), args.seed, show)
    calibrations, reliabilities = fit_cases(grounder, cases)
    result = {
        "bundle": str(args.model),
        "data": args.data,
        "stored": not args.dry_run,
        "heads": {
            head: {**asdict(calibrations[head]), **asdict(reliabilities[head])}
            for head in calibrations
        },
    }
    for head, fit in calibrations.items():
        if fit.scale <= 0.0:
            logger.warning(
                "%s: matching pairs score no higher than others, so its heatmap says nothing or "
                "the reverse; are these clips of what the model knows, and the heads as named?",
                head,
            )
    if not args.dry_run:
        facts = {"data": args.data, "seed": args.seed, "heads": result["heads"]}
        store_calibration(args.model, calibrations, facts)
    console.show(args, result, *_readable(result))
    return 0


def _readable(result: dict) -> list:
    from rich.table import Table

    table = Table(
        "head", "matching", "others", "ECE before", "ECE after", "scale", "bias", box=None
    )
    for head, row in result["heads"].items():
        numbers = (f"{row[key]:.3f}" for key in ("ece_before", "ece_after", "scale", "bias"))
        table.add_row(head, str(row["num_matching"]), str(row["num_others"]), *numbers)
    stored = "stored in" if result["stored"] else "not stored in"
    return [table, f"{stored} {result['bundle']}/config.json"]
