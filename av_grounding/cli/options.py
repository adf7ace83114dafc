"""Arguments that several commands share, and what they are turned into."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

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


def load_settings(args: argparse.Namespace) -> GroundingConfig:
    from av_grounding.config import GroundingConfig, load_config

    return load_config(args.config) if args.config else GroundingConfig()


def bundle_path(args: argparse.Namespace, settings: GroundingConfig) -> Path:
    from av_grounding.config import default_bundle

    return Path(args.model or settings.model.path or default_bundle())


def load_grounder(args: argparse.Namespace, settings: GroundingConfig) -> Grounder:
    from av_grounding.cli.console import busy
    from av_grounding.streaming.config import StreamingConfig

    stream = StreamingConfig(**settings.streaming_values())
    path = bundle_path(args, settings)
    with busy(args, f"Loading {path}"):
        from av_grounding.backends import load_configured, settle_threads
        from av_grounding.grounder import Grounder

        backend = load_configured(path, settings)
        settle_threads(backend)
        return Grounder(backend, stream)


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
