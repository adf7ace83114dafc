"""What every command shares in talking to a person or to a script."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

PLAIN_EVERY_S = 30.0

Advance = Callable[..., None]
"""Called with the amount done, and by keyword with the total or the description."""


def show(args: argparse.Namespace, result: dict[str, Any], *readable: RenderableType) -> None:
    """The result as JSON under --json, nothing under --quiet, else as text or tables."""
    if args.json:
        print(json.dumps(result, indent=2, allow_nan=False))
    elif not args.quiet:
        from rich.console import Console

        console = Console()
        for item in readable:
            console.print(item, soft_wrap=isinstance(item, str), highlight=False, markup=False)


def busy(args: argparse.Namespace, description: str) -> AbstractContextManager[Any]:
    """A sign of life on stderr while something of unknown length goes on."""
    if args.quiet or args.json:
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(description)


@contextmanager
def progress(
    args: argparse.Namespace, description: str, total: float | None, unit: str = ""
) -> Iterator[Advance]:
    """A bar on stderr for as long as the block runs; call the value with the amount done."""
    if args.quiet or args.json:
        yield lambda done, **_: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(description, total, unit)
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}" + ("/{task.total:.0f}" if total else "") + f" {unit}"),
        TimeElapsedColumn(),
        *([TimeRemainingColumn()] if total else []),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done, **changes: bar.update(task, completed=done, **changes)


def _plain_lines(description: str, total: float | None, unit: str) -> Advance:
    """For a log file: a line now and then instead of a bar, and none where it is over soon."""
    shown_s = time.monotonic()

    def advance(done: float, description: str = description, total: float | None = total) -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s >= PLAIN_EVERY_S:
            shown_s = time.monotonic()
            of_all = f"/{total:.0f}" if total else ""
            print(f"{description}: {done:.0f}{of_all} {unit}".rstrip(), file=sys.stderr)

    return advance
