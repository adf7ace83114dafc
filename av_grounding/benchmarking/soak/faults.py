"""What goes wrong in a soak, when, and what the stream's counters must say of it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

KINDS = {
    "sound missing": 2.0,
    "microphone gone": 30.0,
    "audio clock back": 20.0,
    "audio too fast": 20.0,
    "not a number": 1.0,
    "other sample rate": 10.0,
    "camera stalls": 20.0,
    "other size": 20.0,
    "camera clock back": 20.0,
}
"""Kind -> seconds that it lasts."""
AUDIO_STEP_S = 15.0
"""Beyond the longest gap that is filled: the timeline starts over, and again at the way back."""
CAMERA_STEP_S = 12.0
"""More than a few frames, so that it is seen although a busy machine skips some."""
TOO_FAST = 1.1


@dataclass(frozen=True)
class Fault:
    """One of `KINDS` from `start_s` to before `stop_s`, in seconds of the recording."""

    kind: str
    start_s: float
    stop_s: float


def plan(duration_s: float, every_s: float, seed: int = 0) -> list[Fault]:
    """A fault every `every_s`, all kinds in turn, at random moments; they never overlap."""
    if every_s < 2 * max(KINDS.values()):
        raise ValueError(
            f"got a fault every {every_s:.0f} s, expected {2 * max(KINDS.values()):.0f} or more: "
            "they would run into each other"
        )
    rng = np.random.default_rng(seed)
    kinds, faults = list(KINDS), []
    for number in range(int(duration_s / every_s)):
        kind = kinds[number % len(kinds)]
        # Time before it to be well again, and after it to recover.
        latest_s = every_s - KINDS[kind] - 10.0
        start_s = number * every_s + float(rng.uniform(10.0, max(10.1, latest_s)))
        faults.append(Fault(kind, start_s, start_s + KINDS[kind]))
    return faults


class FaultSchedule:
    """The faults of a plan, asked for in the order of time."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults: Iterator[Fault] = iter(faults)
        self._next = next(self._faults, None)

    def at(self, time_s: float) -> str | None:
        """What is wrong at this moment; times must not step back."""
        while self._next is not None and time_s >= self._next.stop_s:
            self._next = next(self._faults, None)
        is_on = self._next is not None and time_s >= self._next.start_s
        return self._next.kind if is_on and self._next is not None else None


def expected_counters(faults: Sequence[Fault]) -> dict[str, int]:
    """What the stream must have counted once all these faults are over."""
    num = {kind: sum(fault.kind == kind for fault in faults) for kind in KINDS}
    return {
        "num_audio_resets": num["microphone gone"] + 2 * num["audio clock back"],
        "num_rate_changes": 2 * num["other sample rate"],
        "num_frame_size_changes": 2 * num["other size"],
        "num_frame_stamp_steps_back": num["camera clock back"],
    }
