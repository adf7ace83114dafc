"""Sources made of other sources: fewer frames, or a look at what passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from av_grounding.types import AudioChunk, Frame, Source

NS_PER_S = 1_000_000_000
EARLY_SHARE = 0.1
"""Share of the period by which a frame may come early, since drivers' stamps jitter."""


class RateLimiter:
    """At most `max_rate_hz` frames a second of a source, by their stamps; the rest is skipped.

    The kept frames lie on an even grid, so 20 of 30 frames a second are 20 and not 15.
    """

    def __init__(self, source: Source, max_rate_hz: float) -> None:
        if not max_rate_hz > 0.0:
            raise ValueError(f"got a rate of {max_rate_hz} Hz, expected more than 0")
        self._source = source
        self._period_ns = NS_PER_S / max_rate_hz

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        due_ns: float | None = None
        for frame in self._source:
            if not isinstance(frame, Frame):  # a recording gives its sound along
                yield frame
                continue
            early_ns = 0.0 if due_ns is None else due_ns - frame.stamp_ns
            # After a pause, or a clock that was set, the grid starts anew.
            if due_ns is None or abs(early_ns) > 2 * self._period_ns:
                due_ns, early_ns = float(frame.stamp_ns), 0.0
            if early_ns <= EARLY_SHARE * self._period_ns:
                due_ns += self._period_ns
                yield frame

    def close(self) -> None:
        self._source.close()


class Tee:
    """A source that shows every item to `listener` before it hands it on."""

    def __init__(self, source: Source, listener: Callable[[Frame | AudioChunk], None]) -> None:
        self._source = source
        self._listener = listener

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        for item in self._source:
            self._listener(item)
            yield item

    def close(self) -> None:
        self._source.close()
