"""Sources that callbacks feed with messages: what arrives waits here, what is read is decoded.

Nothing here knows a middleware. Putting a message in costs microseconds, so that the thread that
receives never waits; decoding happens in the thread that iterates.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np

from av_grounding.audio import MIN_DBFS, dbfs, to_clean_mono
from av_grounding.transports.messages import MalformedCounter, MalformedMessage
from av_grounding.types import AudioChunk, Frame, Source

POLL_S = 0.1
MAX_WAITING_CHUNKS = 2000
NUM_RECENT = 300
CLIPPED = 0.999
Item = TypeVar("Item", Frame, AudioChunk)


class Recent:
    """The last few hundred measurements of something; written by one thread, read by any."""

    def __init__(self, size: int = NUM_RECENT) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        self._values.append(value)

    def percentile(self, percent: int | float) -> float:
        """NaN where nothing was measured."""
        values = self._snapshot()
        return float(np.percentile(values, percent)) if values else float("nan")

    def _snapshot(self) -> list[float]:
        while True:
            try:
                return list(self._values)
            except RuntimeError:  # it grew meanwhile
                continue


class TopicSource(Generic[Item]):
    """Messages of one topic as a Source; `put` comes from the receiving thread.

    `max_waiting` messages wait at most, the oldest go first and are counted: one for images,
    where only the newest is worth anything. What cannot be decoded is counted and named.
    """

    def __init__(
        self,
        topic: str,
        decode: Callable[[Any, int], Item],
        malformed: MalformedCounter,
        max_waiting: int,
    ) -> None:
        """`decode` takes a message and the nanoseconds at which it was received."""
        self.topic = topic
        self.num_received = 0
        self.num_replaced = 0
        self.num_decoded = 0
        self.num_unstamped = 0
        self.last_received_s: float | None = None
        """Monotonic seconds at which the last message came."""
        self.last_used_s: float | None = None
        """Likewise, of the last one that could be decoded."""
        self.last_stamp_ns = 0
        self.decoding_s = Recent()
        self._decode = decode
        self._malformed = malformed
        self._waiting: deque[tuple[Any, int]] = deque()
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, message: Any, received_ns: int) -> None:
        """Take a message; never blocks for longer than a swap of references."""
        with self._changed:
            self.num_received += 1
            self.last_received_s = time.monotonic()
            while len(self._waiting) >= self._max_waiting:
                self._waiting.popleft()
                self.num_replaced += 1
            self._waiting.append((message, received_ns))
            self._changed.notify()

    def clear(self) -> None:
        """Forget what waits."""
        with self._changed:
            self._waiting.clear()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while (taken := self._take()) is not None:
            item = self._decoded(*taken)
            del taken  # a full-size image must not outlive its turn
            if item is not None:
                yield item

    def _take(self) -> tuple[Any, int] | None:
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait(POLL_S)
            return None if self._is_closed else self._waiting.popleft()

    def _decoded(self, message: Any, received_ns: int) -> Item | None:
        started_s = time.perf_counter()
        try:
            item = self._decode(message, received_ns)
            if item.stamp_ns == 0:
                self.num_unstamped += 1
                raise MalformedMessage(
                    "unstamped", "its stamp is zero: let the driver stamp what it publishes"
                )
        except ValueError as error:
            self._malformed.add(self.topic, error)
            return None
        self.decoding_s.add(time.perf_counter() - started_s)
        self.num_decoded += 1
        self.last_used_s = time.monotonic()
        self.last_stamp_ns = item.stamp_ns
        return item


class TopicVideo(TopicSource[Frame]):
    """Frames of an image topic, the newest only, at most `max_rate_hz` of them a second."""

    def __init__(
        self,
        topic: str,
        decode: Callable[[Any, int], Frame],
        malformed: MalformedCounter,
        max_rate_hz: float = 0.0,
    ) -> None:
        super().__init__(topic, decode, malformed, max_waiting=1)
        self.max_rate_hz = max_rate_hz
        """May change at any time; 0: every frame."""
        self.num_skipped = 0
        self._due_s = 0.0

    def put(self, message: Any, received_ns: int) -> None:
        if self._is_early():
            with self._changed:
                self.num_received += 1
                self.num_skipped += 1
                self.last_received_s = time.monotonic()
            return
        super().put(message, received_ns)

    def _is_early(self) -> bool:
        """By arrival and on an even grid, so that 20 of 30 frames a second are 20, not 15."""
        if self.max_rate_hz <= 0.0:
            return False
        now_s, period_s = time.monotonic(), 1.0 / self.max_rate_hz
        if abs(now_s - self._due_s) > 2.0 * period_s:
            self._due_s = now_s
        if now_s < self._due_s - 0.1 * period_s:
            return True
        self._due_s += period_s
        return False


class TopicAudio(TopicSource[AudioChunk]):
    """Chunks of an audio topic, in order and all of them."""

    def __init__(
        self,
        topic: str,
        decode: Callable[[Any, int], AudioChunk],
        malformed: MalformedCounter,
    ) -> None:
        super().__init__(topic, decode, malformed, MAX_WAITING_CHUNKS)


class HeardAudio:
    """An audio source of which one channel may be chosen and whose level is watched."""

    def __init__(self, source: Source, channel: int = -1) -> None:
        self.source = source
        self.channel = channel
        """May change at any time; -1: all of them."""
        self.level_dbfs = MIN_DBFS
        self.num_chunks = 0
        self.num_samples = 0
        self.num_clipped = 0
        self.sample_rate_hz = 0
        self.last_heard_s: float | None = None
        self.last_sounding_s: float | None = None
        """Monotonic seconds of the last chunk that was not all zeros."""
        self._warned_channels = 0

    def __iter__(self) -> Iterator[AudioChunk]:
        for chunk in self.source:
            assert isinstance(chunk, AudioChunk)
            yield self._watched(self._selected(chunk))

    def close(self) -> None:
        self.source.close()

    @property
    def num_channels_missing(self) -> int:
        """Channels that the last chunk had where the chosen one was not among them, else 0."""
        return self._warned_channels

    def _selected(self, chunk: AudioChunk) -> AudioChunk:
        channel, samples = self.channel, chunk.samples
        if channel < 0 or (samples.ndim == 1 and channel == 0):
            self._warned_channels = 0
            return chunk
        num_channels = 1 if samples.ndim == 1 else samples.shape[1]
        if channel >= num_channels:
            self._warned_channels = num_channels
            return chunk
        self._warned_channels = 0
        return AudioChunk(
            np.ascontiguousarray(samples[:, channel]), chunk.stamp_ns, chunk.sample_rate_hz
        )

    def _watched(self, chunk: AudioChunk) -> AudioChunk:
        waveform = to_clean_mono(chunk.samples)[0]
        now_s = time.monotonic()
        self.last_heard_s = now_s
        if self.last_sounding_s is None or waveform.any():
            self.last_sounding_s = now_s
        self.level_dbfs = dbfs(waveform)
        self.sample_rate_hz = chunk.sample_rate_hz
        self.num_chunks += 1
        self.num_samples += waveform.size
        self.num_clipped += int(np.count_nonzero(np.abs(waveform) >= CLIPPED))
        return chunk
