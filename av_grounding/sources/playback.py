"""When the parts of a recording are handed out: at once, or paced as a live device would."""

from __future__ import annotations

import threading
import time

from av_grounding.audio import NS_PER_S


class PlaybackClock:
    """Maps the time inside a recording to the stamps and to the moments of its delivery.

    With `realtime` the first delivery fixes the origin on the wall clock; every source that
    shares the clock shares the origin, so picture and sound stay together. Without it a stamp is
    the time inside the recording and nothing waits.
    """

    def __init__(self, realtime: bool) -> None:
        self.realtime = realtime
        self._lock = threading.Lock()
        self._origin_ns = 0
        self._origin_monotonic_ns: int | None = None

    def stamp(self, media_ns: int) -> int:
        """The stamp of an instant that lies `media_ns` after the recording's start."""
        if not self.realtime:
            return media_ns
        self._start()
        return self._origin_ns + media_ns

    def wait(self, media_ns: int, closed: threading.Event) -> bool:
        """Wait until a live device would deliver; False if `closed` was set before that."""
        if not self.realtime:
            return not closed.is_set()
        # Waits follow the monotonic clock, so that a corrected wall clock stalls nothing.
        due_ns = self._start() + media_ns
        remaining_s = (due_ns - time.monotonic_ns()) / NS_PER_S
        if remaining_s <= 0:
            return not closed.is_set()
        return not closed.wait(min(remaining_s, threading.TIMEOUT_MAX))

    def _start(self) -> int:
        with self._lock:
            if self._origin_monotonic_ns is None:
                self._origin_monotonic_ns = time.monotonic_ns()
                self._origin_ns = time.time_ns()
            return self._origin_monotonic_ns
