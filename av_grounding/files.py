"""Files: written whole or not at all, hashed, and read with bounds on size and depth.

What others wrote is never trusted: errors are one line that says what is wrong with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

MAX_CONFIG_BYTES = 1 << 20
"""Of a file that describes one thing: a bundle, a checkpoint, a set of shards."""
MAX_LIST_BYTES = 1 << 29
"""Of a data set's list; the longest that are published have 200 MB."""
MAX_LINE = 500
MAX_SHOWN_BITS = 128


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes that name when the block ends without an error.

    For writers that want a name rather than a file: it has the same suffix. Its content reaches
    the disk before the name does; on an error nothing is left, and what stood there stays. Two
    processes that write the same file do not meet: the last to end has written it whole.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield partial
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under its name only when the block ends without an error."""
    with replacing(path) as partial, open(partial, "wb") as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text; the file appears whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON; the file appears whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """The hexadecimal digest of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class _Brief(reprlib.Repr):
    """`repr`, cut short at every level; Python itself refuses to print very long numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlevel = 3

    def repr_int(self, x: int, level: int) -> str:
        bits = x.bit_length()
        return repr(x) if bits <= MAX_SHOWN_BITS else f"<number of {bits} bits>"


_BRIEF = _Brief()


def brief(value: object) -> str:
    """A value as an error names it: on one line, however long or deep it is."""
    return _BRIEF.repr(value).replace("\n", " ")[:MAX_LINE]


def one_line(error: object, limit: int = MAX_LINE) -> str:
    """What an error says, or any text, on one line of at most `limit` characters."""
    text = " ".join(str(error)[: 2 * limit].split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


STRANGE_ROWS = (KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)
"""What code that reads the rows of a list raises where they are not what they should be."""


def read_text(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> str:
    """A UTF-8 file; ValueError for one that is none or too large, OSError where it cannot be read.

    A byte order mark at its beginning is left out.
    """
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"{path}: over {max_bytes} bytes, which is more than such a file needs")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 text ({error}): fetch it again") from None


def parse_json(text: str) -> Any:
    """The value; ValueError in one line for text that is no JSON or nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(one_line(error)) from None


def read_json(path: Path, max_bytes: int = MAX_LIST_BYTES) -> Any:
    """The content of a JSON file; ValueError naming the file where it does not parse."""
    try:
        return parse_json(read_text(path, max_bytes))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); fetch it again") from None


def parse_yaml(text: str, max_depth: int) -> Any:
    """The document; ValueError for what is no YAML, and for aliases and deep nesting.

    Both would let a small file grow without end, or end the process.
    """
    import yaml

    # libyaml, where it is there, is ten times as fast, but overflows the stack by itself: so the
    # events, which need no stack, are looked at first.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("got an alias (*name), expected none: write it out")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > max_depth:
                raise ValueError(f"got over {max_depth} levels of nesting: expected fewer")
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(f"expected YAML, got {one_line(error)}: mend the file") from None
    except OverflowError as error:  # a date that Python cannot hold
        raise ValueError(f"got {one_line(error)}, expected numbers and text") from None
