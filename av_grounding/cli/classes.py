"""`av-grounding classes`"""

from __future__ import annotations

import argparse
from pathlib import Path

from av_grounding.cli import console


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "classes",
        parents=parents,
        help="give a bundle of regions that sees with CLIP the names of your choice",
        description="Write a copy of a bundle of regions that names them by a list of yours, as "
        "CLIP's text side reads it. Nothing is trained, and the text side does not ship.",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument(
        "--names", type=Path, required=True, metavar="FILE", help="a name a line, such as 'dog'"
    )
    parser.add_argument(
        "--clip",
        default="openai/clip-vit-base-patch16",
        metavar="NAME|DIR",
        help="the CLIP that the bundle sees with, on the Hugging Face hub or in a local folder "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--templates",
        type=Path,
        metavar="FILE",
        help="a sentence a line with {} for the name, such as 'a photo of a {}.'",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="new bundle")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.modeling.class_texts import name_classes
    from av_grounding.modeling.clip import TEMPLATES

    names = _lines(args.names)
    templates = _lines(args.templates) if args.templates else TEMPLATES
    with console.progress(args, "Reading names", len(names)) as advance:
        name_classes(
            args.model, args.out, names, args.clip, templates,
            lambda done, total: advance(done, total=total),
        )  # fmt: skip
    console.show(args, {"bundle": str(args.out)}, f"{args.out} names {len(names)} things")
    return 0


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8; expected one entry a line") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
