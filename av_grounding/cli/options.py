"""Arguments that several commands share, and what they are turned into."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av_grounding.config import GroundingConfig
    from av_grounding.grounder import Grounder


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", type=Path, metavar="BUNDLE", help="bundle directory; default: the shipped one"
    )
    parser.add_argument(
        "--config", type=Path, metavar="YAML", help="parameter file, such as config/grounding.yaml"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE",
        help="one parameter of that file, such as speech.hold_s=2; may be given again",
    )


def add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sources",
        dest="num_sources",  # `evaluate --sources` says something else
        type=_num_sources,
        metavar="N|auto",
        help="maps of every frame, for a bundle that tells sources apart; default: auto, as many "
        "as it finds",
    )


def _num_sources(text: str) -> int:
    if text == "auto":
        return 0
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 1 on, or auto")
    return int(text)


def add_regions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--regions",
        nargs="?",
        const="classical",
        choices=("classical", "grid"),
        metavar="PROPOSALS",
        help="answer for regions, not for cells (paper 002): classical (default) | grid; a bundle "
        "of regions does so by itself",
    )


def load_settings(args: argparse.Namespace) -> GroundingConfig:
    from av_grounding.config import config_from_mapping, load_config

    changes = dict(args.set)
    if getattr(args, "num_sources", None) is not None:
        changes["num_sources"] = args.num_sources
    return load_config(args.config, changes) if args.config else config_from_mapping(changes)


def bundle_path(args: argparse.Namespace, settings: GroundingConfig) -> Path:
    from av_grounding.config import default_bundle, drawn_world_bundle

    # What is drawn and synthesised is told apart by the bundle that learned from drawings.
    is_drawn = getattr(args, "source", "") == "demo" or "synthetic" in getattr(
        args, "benchmark", ""
    )
    shipped = drawn_world_bundle if is_drawn else default_bundle
    return Path(args.model or settings.model.path or shipped())


def load_grounder(
    args: argparse.Namespace, settings: GroundingConfig, *, compiles: bool = True
) -> Grounder:
    """The configured bundle; `compiles`: for this processor, at its first use."""
    from av_grounding.cli.console import busy

    path = bundle_path(args, settings)
    with busy(args, f"Loading {path}"):
        from av_grounding.backends import load_configured
        from av_grounding.backends.economy import settle_threads
        from av_grounding.grounder import Grounder

        proposals = getattr(args, "regions", None) or ""
        backend = load_configured(path, settings, compiles=compiles, proposals=proposals)
        settings.check_heads(backend.spec.head_names)
        settle_threads(backend)
        return Grounder(backend, settings.stream)


def _assignment(text: str) -> tuple[str, Any]:
    from av_grounding.files import parse_yaml

    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=VALUE")
    try:
        return name, parse_yaml(value, max_depth=1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{name}: {error}") from None


def positive_int(text: str) -> int:
    value = int(text) if text.lstrip("+-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1 on")
    return value


def seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 0 on")
    return int(text)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected seconds, more than 0")
    return value
