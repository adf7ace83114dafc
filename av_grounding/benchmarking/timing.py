"""Timing several ways of doing the same in turns, so that what disturbs one disturbs all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

WARM_UP, MIN_CALLS, MAX_CALLS = 3, 5, 2000

Task = Callable[[], float]
"""Does its work once and returns how many seconds count."""


def timed(work: Callable[[], object], wait: Callable[[], None] = lambda: None) -> Task:
    """A task of which all counts, until `wait` returns."""

    def task() -> float:
        wait()
        began_s = time.perf_counter()
        work()
        wait()
        return time.perf_counter() - began_s

    return task


def in_turns(tasks: Mapping[str, Task], seconds: float) -> dict[str, list[float]]:
    """Seconds of every call, after a warm-up that is discarded.

    The tasks are called one by one in turns until each has had `seconds` on average, and at least
    `MIN_CALLS` times.
    """
    for task in tasks.values():
        for _ in range(WARM_UP):
            task()
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    began_s = time.perf_counter()
    for num_calls in range(1, MAX_CALLS + 1):
        for name, task in tasks.items():
            taken[name].append(task())
        is_long = time.perf_counter() - began_s >= seconds * len(tasks)
        if is_long and num_calls >= MIN_CALLS:
            break
    return taken
