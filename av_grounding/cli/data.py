"""`av-grounding data`: making data sets, one file per subcommand."""

from __future__ import annotations

import argparse

from av_grounding.cli import data_caption, data_extended_is3, data_shard, data_throughput

SUBCOMMANDS = (data_caption, data_extended_is3, data_shard, data_throughput)
"""Modules with `add_parser`. Another one is a line above and a word here."""


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "data",
        parents=parents,
        help="make data sets for training and evaluation",
        description="Make data sets; every one has a --help of its own.",
    )
    kinds = parser.add_subparsers(dest="data", metavar="DATA", required=True)
    for command in SUBCOMMANDS:
        command.add_parser(kinds, parents=parents)
