"""What every command shares in talking to a person or to a script."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def stdout() -> Console:
    from rich.console import Console

    return Console()


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def show(args: argparse.Namespace, result: dict[str, Any], *readable: RenderableType) -> None:
    """The result as JSON under --json, nothing under --quiet, else as text or tables."""
    if args.json:
        print(json.dumps(result, indent=2, allow_nan=False))
    elif not args.quiet:
        console = stdout()
        for item in readable:
            console.print(item, soft_wrap=isinstance(item, str), highlight=False)


@contextmanager
def progress(
    args: argparse.Namespace, description: str, total: float | None
) -> Iterator[Callable[[float], None]]:
    """A bar on stderr for as long as the block runs; call the value with the amount done."""
    if args.quiet or args.json:
        yield lambda done: None
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
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr(), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.update(task, completed=done)
