"""`av-grounding data throughput`"""

from __future__ import annotations

import argparse
from pathlib import Path

from av_grounding.cli import console, options


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "throughput",
        parents=parents,
        help="how many clips a second one core reads from shards",
        description="Read clips in a random order, sound and one picture each, on one core. "
        "Without SHARDS, of 10 s and 224 x 224 pixels made for it.",
    )
    parser.add_argument("shards", type=Path, nargs="?", metavar="SHARDS", help="from data shard")
    parser.add_argument("--duration", type=options.seconds, default=5.0, help="seconds (5)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the numbers as JSON")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.benchmarking.throughput import measure_throughput
    from av_grounding.files import write_json

    with console.busy(args, "Reading clips"):
        result = measure_throughput(args.shards, args.duration)
    if args.out:
        write_json(args.out, result)
    console.show(
        args,
        result,
        f"{result['clips_per_cpu_s']} clips per second of one core ({result['clips_per_s']} by "
        f"the clock), {result['mean_audio_s']} s of sound each",
    )
    return 0
