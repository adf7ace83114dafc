"""What waited in a driver while nobody took it, told from what is of the moment."""

from __future__ import annotations

MIN_PAUSE_S = 0.25
"""After so long without anything, what comes next may have been captured before."""
LOOK_S = 0.2
"""So long, or five periods, the rate is looked at."""
MAX_RATE = 1.5
"""What comes faster than this, relative to its own rate, was waiting."""
MAX_CATCH_UP_S = 2.0


class Backlog:
    """Tells whether a frame or a block of sound is old, by the rate at which they come.

    Where drivers give no capture time, things are stamped when they arrive. While the process is
    starved or frozen they gather in the driver or the network, and afterwards they come faster
    than they were captured. So after a pause things are old until they come at their usual rate
    again. Costs a few where it was the device that paused. Times are monotonic seconds.
    """

    def __init__(self, period_s: float = 0.0) -> None:
        """`period_s` between two things; where it is not known it is learnt."""
        self._period_s = period_s
        self._min_pause_s = MIN_PAUSE_S
        self._came_s: float | None = None
        self._paused_s: float | None = None
        self._look_began_s = 0.0
        self._num_seen = 0
        self._longest_s = 0.0

    def holds(self, now_s: float) -> bool:
        """Whether what comes now is old."""
        interval_s = self._period_s if self._came_s is None else now_s - self._came_s
        self._came_s = now_s
        if self._paused_s is not None:
            return self._goes_on_holding(now_s, interval_s)
        if interval_s > max(self._min_pause_s, 3.0 * self._period_s):
            self._paused_s, self._longest_s = now_s, 0.0
            self._look_began_s, self._num_seen = now_s, 0
            return True
        self._period_s += 0.1 * (interval_s - self._period_s)
        return False

    def _goes_on_holding(self, now_s: float, interval_s: float) -> bool:
        assert self._paused_s is not None
        self._num_seen += 1
        self._longest_s = max(self._longest_s, interval_s)
        seen_s = now_s - self._look_began_s
        if seen_s < max(LOOK_S, 5.0 * self._period_s):
            return True
        is_usual = self._num_seen * self._period_s <= MAX_RATE * seen_s
        if not is_usual and now_s - self._paused_s < MAX_CATCH_UP_S:
            self._look_began_s, self._num_seen = now_s, 0
            return True
        self._paused_s = None
        self._period_s = max(self._period_s, min(interval_s, seen_s / self._num_seen))
        # A device that always comes in bursts does not pause.
        self._min_pause_s = max(self._min_pause_s, 2.0 * self._longest_s)
        return False
