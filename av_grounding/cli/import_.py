"""`av-grounding import`"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from av_grounding.cli import console

# The names of `denseav_import.VARIANTS`, which this parser does not load.
VARIANTS = ("sound", "language", "sound_and_language")


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "import",
        parents=parents,
        help="make a bundle of published weights",
        description="Make a bundle of published weights; needs the network, or their files.",
    )
    families = parser.add_subparsers(dest="family", metavar="FAMILY", required=True)
    denseav = families.add_parser(
        "denseav",
        parents=parents,
        help="DenseAV (CVPR 2024): real-world sound and speech",
        description="Make a bundle of an official DenseAV checkpoint, or of one like it.",
    )
    denseav.add_argument(
        "source",
        metavar="SOURCE",
        help=f"{' | '.join(VARIANTS)} | a .ckpt or .safetensors file | a folder with "
        "model.safetensors | a URL; what is downloaded is kept in the user's cache folder, and "
        "an interrupted download goes on where it stopped",
    )
    denseav.add_argument(
        "--out", type=Path, required=True, metavar="BUNDLE", help="where to write"
    )
    denseav.add_argument(
        "--sha256", metavar="HEX", help="refuse a checkpoint whose file has another hash"
    )
    denseav.add_argument(
        "--variant", choices=VARIANTS, help="what a file is, where it does not say so itself"
    )
    denseav.add_argument(
        "--first-head",
        choices=("speech", "sound"),
        default="speech",
        help="which head comes first in a checkpoint of two (speech, as in the official one); "
        "the heads command shows whether that was right",
    )
    scaling = denseav.add_mutually_exclusive_group()
    scaling.add_argument(
        "--normalize-audio",
        action="store_true",
        default=True,
        help="bring every window to zero mean and unit variance, as in training (default)",
    )
    scaling.add_argument(
        "--raw-audio",
        dest="normalize_audio",
        action="store_false",
        help="leave the level as it is, as the official demo does",
    )
    denseav.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.modeling.denseav_import import import_denseav

    with console.progress(args, f"Importing {args.source}", None, "MB") as advance:

        def show_bytes(done: int, total: int | None) -> None:
            # Total None keeps the bar pulsing; megabytes, as a byte count is hard to read.
            of_all = {} if total is None else {"total": total / 1e6}
            advance(done / 1e6, description="Downloading", **of_all)

        imported = import_denseav(
            args.source,
            args.out,
            variant=args.variant,
            expected_sha256=args.sha256,
            normalize_audio=args.normalize_audio,
            first_head=args.first_head,
            progress=show_bytes,
        )
    result = {
        **asdict(imported),
        "bundle": str(imported.bundle),
        "heads": list(imported.heads),
        "normalize_audio": args.normalize_audio,
    }
    console.show(
        args,
        result,
        f"{imported.bundle}: {' and '.join(imported.heads)}, {imported.num_tensors} tensors, "
        f"{imported.num_parameters / 1e6:.0f} M parameters",
        f"sha256 of the source: {imported.sha256}",
        f"Next: av-grounding heads --model {imported.bundle}",
        f"      av-grounding export --model {imported.bundle} --backend cpu --precision int8 "
        f"--examples YOUR_VIDEO --out {imported.bundle}   (live on a CPU)",
        f"      av-grounding calibrate --model {imported.bundle} --data synthetic",
    )
    return 0
