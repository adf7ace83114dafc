"""`av-grounding train`"""

from __future__ import annotations

import argparse

from av_grounding.training import cli as training


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "train",
        parents=parents,
        help="train a bundle by a paper's recipe",
        description="Train a bundle by a paper's recipe; an interrupted run is resumed.",
    )
    training.add_arguments(parser)
    parser.set_defaults(execute=training.run)
