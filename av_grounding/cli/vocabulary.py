"""`av-grounding vocabulary`"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from av_grounding.cli import console, options

if TYPE_CHECKING:
    from rich.table import Table


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "vocabulary",
        parents=parents,
        help="list the things that a bundle knows",
        description="List what each head of a bundle knows. With WORD, say which heads know it; "
        "exit code 1 and the nearest words where none does.",
    )
    parser.add_argument("word", nargs="?", metavar="WORD", help="a thing to look up")
    options.add_model(parser)
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    from av_grounding.config import nearest, read_vocabulary

    bundle = options.bundle_path(args, options.load_settings(args))
    vocabulary = read_vocabulary(bundle)
    if not vocabulary:
        raise ValueError(
            f'{bundle} does not say what it knows, expected "vocabulary" in its config.json: '
            "name another bundle with --model"
        )
    if args.word is None:
        report = {head: list(words) for head, words in vocabulary.items()}
        console.show(args, report, *_readable(vocabulary))
        return 0
    word = " ".join(args.word.lower().split())
    heads = [head for head, words in vocabulary.items() if word in words]
    known = tuple(sorted({one for words in vocabulary.values() for one in words}))
    near = [] if heads else nearest(word, known)
    said = f"known to {', '.join(heads)}" if heads else "in no head's vocabulary"
    hint = f"; nearest: {', '.join(near)}" if near else ""
    console.show(args, {"word": word, "heads": heads, "nearest": near}, f"{word}: {said}{hint}")
    return 0 if heads else 1


def _readable(vocabulary: dict[str, tuple[str, ...]]) -> Iterator[Table | str]:
    for head, words in vocabulary.items():
        yield f"{head}: {len(words)} things\n{', '.join(sorted(words))}\n"
