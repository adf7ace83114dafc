"""How often inputs come, and when their silence is worth a line in the log."""

from __future__ import annotations

from collections import deque

SILENCE_S = 2.0
"""No input for this long is a warning in the diagnostics."""
WATCHDOG_S = 5.0
"""A missing input is named in the log after this long, and again after `REPEAT_S`."""
REPEAT_S = 30.0
RATE_WINDOW_S = 5.0


class RateMeter:
    """Events per second over the last few seconds, from a growing counter that is read often."""

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._readings: deque[tuple[float, int]] = deque()

    def update(self, count: int, now_s: float) -> float:
        """Take a reading of the counter and return Hz."""
        if self._readings and count < self._readings[-1][1]:  # it started over
            self._readings.clear()
        self._readings.append((now_s, count))
        while self._readings[0][0] < now_s - self._window_s and len(self._readings) > 2:
            self._readings.popleft()
        (first_s, first), (last_s, last) = self._readings[0], self._readings[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


class Watchdog:
    """Barks once an input has been missing for five seconds, then twice a minute."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._barked_s: float | None = None

    def barks(self, last_s: float | None, now_s: float) -> bool:
        """Whether a line is due; `last_s`: when the input was last there."""
        if last_s is not None and last_s > self._since_s:
            self._since_s = last_s
            self._barked_s = None
        if now_s - self._since_s < WATCHDOG_S:
            return False
        if self._barked_s is not None and now_s - self._barked_s < REPEAT_S:
            return False
        self._barked_s = now_s
        return True
