"""What every parser of outside bytes owes: documented errors in one line, soon, or an answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_CPU_S = 1.0
MAX_LINE = 4000
"""Characters: an error names what it got, it does not repeat it."""


@dataclass(frozen=True)
class Target:
    """A parser as a function of bytes, the errors it documents, and bytes it should take."""

    run: Callable[[bytes], object]
    documented: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]
    modules: tuple[str, ...]
    """What the coverage-guided fuzzer watches."""


class Slow(AssertionError):
    """A parser took longer than any honest input of this size needs."""


def check(target: Target, data: bytes) -> None:
    """Run the parser; AssertionError or the stray exception where it breaks its promise."""
    line, spent_s = timed(target, data)
    if spent_s > MAX_CPU_S:  # the first call of a parser imports what it needs
        line, spent_s = timed(target, data)
    assert line, "an error that says nothing"
    assert "\n" not in line, f"an error of several lines: {line[:500]!r}"
    assert len(line) <= MAX_LINE, f"an error of {len(line)} characters: {line[:200]!r}"
    if spent_s > MAX_CPU_S:
        raise Slow(f"{spent_s:.1f} s of processor time for {len(data)} bytes")


def timed(target: Target, data: bytes) -> tuple[str, float]:
    """What the parser says, and the processor time it takes: what others do must not count."""
    started_s = time.process_time()
    line = "taken"
    try:
        target.run(data)
    except target.documented as error:
        line = str(error)
    return line, time.process_time() - started_s
