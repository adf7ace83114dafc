"""`av-grounding data shard`"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from av_grounding.cli import console, options

LAYOUTS = ("audioset", "places", "vggsound", "synthetic", "folder")
NUM_SHOWN = 5


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "shard",
        parents=parents,
        help="WebDataset shards of a data set, for training: short clips that decode quickly",
        description="Write shards of AudioSet, PlacesAudio, VGGSound, samples of synth, or a "
        "folder of videos (or of pictures and sounds of the same name; those below speech/ count "
        "as speech). DIR gets train/, val/, shards.json and problems.jsonl, which says what was "
        "missing, unreadable, muted or unused and why. A stopped run goes on.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of the data set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--layout", choices=LAYOUTS, help="default: by the lists in SOURCE")
    parser.add_argument(
        "--split", choices=("train", "test"), default="train", help="the data set's own (train)"
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="where PlacesAudio's pictures are"
    )
    parser.add_argument("--clip-s", type=options.seconds, default=10.0, help="longest clip (10)")
    parser.add_argument(
        "--sample-rate", type=options.positive_int, default=16_000, help="in Hz (16000)"
    )
    parser.add_argument(
        "--short-side", type=options.positive_int, default=256, help="of pictures, in px (256)"
    )
    parser.add_argument(
        "--frames", type=options.positive_int, default=3, help="pictures per clip, at most (3)"
    )
    parser.add_argument(
        "--shard-size", type=options.positive_int, default=256, help="listed clips a shard (256)"
    )
    parser.add_argument(
        "--validation", type=float, default=0.02, metavar="SHARE",
        help="of recordings for validation, chosen by their names (0.02)",
    )  # fmt: skip
    parser.add_argument(
        "--leave-out-muted", action="store_true",
        help="clips in which nothing is heard (they are kept, and listed)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=options.positive_int, default=os.cpu_count() or 1,
        help="processes (all cores)",
    )  # fmt: skip
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    import json

    from av_grounding.training.data.folder import list_clips
    from av_grounding.training.data.shard_writer import ShardConfig, write_shards

    config = ShardConfig(
        clip_s=args.clip_s,
        sample_rate_hz=args.sample_rate,
        short_side_px=args.short_side,
        num_frames=args.frames,
        files_per_shard=args.shard_size,
        validation_fraction=args.validation,
        leave_out_muted=args.leave_out_muted,
    )
    with console.busy(args, f"Listing {args.source}"):
        listing = list_clips(args.source, args.layout, args.split, args.pictures)
    with console.progress(args, "Sharding", len(listing.clips), "clips") as advance:
        report = write_shards(
            listing, args.out, config, num_workers=args.workers,
            progress=lambda done, total: advance(done, total=total),
        )  # fmt: skip
    counts = ", ".join(f"{n} {name}" for name, n in report["num_clips"].items() if n)
    lines = [f"{args.out}: {counts} clips, {report['hours']:.2f} h"]
    num_bad = report["num_missing"] + report["num_unreadable"]
    num_strange = report["num_muted"] + report["num_unused"]
    if num_bad:
        lines.append(
            f"of {report['num_listed']} listed, {report['num_missing']} are missing and "
            f"{report['num_unreadable']} unreadable: {report['problems']}"
        )
    if num_strange:
        what = "left out" if args.leave_out_muted else "kept (--leave-out-muted leaves them out)"
        lines.append(
            f"{report['num_muted']} clips are muted and {what}, {report['num_unused']} files are "
            f"unused: {report['problems']}"
        )
    if num_bad or num_strange:
        with open(report["problems"], encoding="utf-8") as file:
            rows = [json.loads(line) for line, _ in zip(file, range(NUM_SHOWN), strict=False)]
        lines += [f"  {row['id']}: {row['reason']}" for row in rows]
        lines += ["  …"] * (num_bad + num_strange > NUM_SHOWN)
    console.show(args, report, *lines)
    return 0
