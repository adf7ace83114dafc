"""Sources made of other sources: fewer frames, one channel, or a look at what passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np

from av_grounding.types import AudioChunk, EncodedFrame, Frame, Source

logger = logging.getLogger(__name__)
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

    def __iter__(self) -> Iterator[Frame | EncodedFrame | AudioChunk]:
        due_ns: float | None = None
        for frame in self._source:
            if isinstance(frame, AudioChunk):  # a recording gives its sound along
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

    def __init__(
        self, source: Source, listener: Callable[[Frame | EncodedFrame | AudioChunk], None]
    ) -> None:
        self._source = source
        self._listener = listener

    def __iter__(self) -> Iterator[Frame | EncodedFrame | AudioChunk]:
        for item in self._source:
            self._listener(item)
            yield item

    def close(self) -> None:
        self._source.close()


class OneChannel:
    """A source of whose sound one channel is heard; where a chunk lacks it, all are."""

    def __init__(self, source: Source, channel: int) -> None:
        self.source = source
        self.channel = channel
        """May change at any time; -1: all of them."""
        self.num_channels_missing = 0
        """Channels that the last chunk had where the chosen one was not among them, else 0."""

    def __iter__(self) -> Iterator[Frame | EncodedFrame | AudioChunk]:
        for item in self.source:
            yield self._selected(item) if isinstance(item, AudioChunk) else item

    def close(self) -> None:
        self.source.close()

    def _selected(self, chunk: AudioChunk) -> AudioChunk:
        channel, samples = self.channel, np.atleast_2d(chunk.samples.T).T
        is_missing = channel >= samples.shape[1]
        if is_missing and not self.num_channels_missing:
            logger.warning(
                "got audio.channel %d, expected one of the %d channels that there are, from 0 on: "
                "the mean of all is heard",
                *(channel, samples.shape[1]),
            )
        self.num_channels_missing = samples.shape[1] if is_missing else 0
        if channel < 0 or is_missing:
            return chunk
        chosen = np.ascontiguousarray(samples[:, channel])
        return AudioChunk(chosen, chunk.stamp_ns, chunk.sample_rate_hz)
