"""Sources that callbacks feed with messages: what arrives waits here, what is read is decoded.

Nothing here knows a middleware. Putting a message in costs microseconds, so that the thread that
receives never waits. Sound is decoded in the thread that iterates; a picture only when the model
takes it, since a newer one may come before that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from av_grounding.audio import MIN_DBFS, dbfs, to_clean_mono
from av_grounding.sources.adapters import OneChannel
from av_grounding.streaming.liveness import SILENCE_S
from av_grounding.transports.messages import MalformedCounter, MalformedMessage
from av_grounding.types import AudioChunk, EncodedFrame, Frame, Source

POLL_S = 0.1
MAX_WAITING_CHUNKS = 2000
MAX_WAITING_VIDEO = 300
"""Messages of compressed video: ten seconds at 30 Hz. A loss shows until the next key frame."""
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
        self._waiting: deque[tuple[Any, int, float]] = deque()
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._is_closed = False

    @property
    def is_arriving(self) -> bool:
        """Whether messages have come in the last seconds, of use or not."""
        last_s = self.last_received_s
        return last_s is not None and time.monotonic() - last_s <= SILENCE_S

    def put(self, message: Any, received_ns: int) -> None:
        """Take a message; never blocks for longer than a swap of references."""
        with self._changed:
            self.num_received += 1
            self.last_received_s = time.monotonic()
            while len(self._waiting) >= self._max_waiting:
                self._waiting.popleft()
                self.num_replaced += 1
            self._waiting.append((message, received_ns, self.last_received_s))
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

    def _take(self) -> tuple[Any, int, float] | None:
        """The oldest that waits, when it was received and when it came; None: closed."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait(POLL_S)
            return None if self._is_closed else self._waiting.popleft()

    def _decoded(self, message: Any, received_ns: int) -> Item | None:
        started_s = time.perf_counter()
        try:
            item = self._decode(message, received_ns)
            self._check_stamp(item.stamp_ns)
        except ValueError as error:
            self._malformed.add(self.topic, error)
            return None
        self.decoding_s.add(time.perf_counter() - started_s)
        self.num_decoded += 1
        self.last_used_s = time.monotonic()
        self.last_stamp_ns = item.stamp_ns
        return item

    def _check_stamp(self, stamp_ns: int) -> None:
        if stamp_ns == 0:
            self.num_unstamped += 1
            raise MalformedMessage(
                "unstamped", "its stamp is zero: let the driver stamp what it publishes"
            )


class TopicVideo(TopicSource[Frame]):
    """Frames of an image topic, the newest only, at most `max_rate_hz` of them a second.

    They are given as they came, with their stamps: whoever takes one decodes it. Compressed video
    (`is_video`) is decoded here, all of it and in order, since each picture builds on the one
    before; the newest is given, and the rate is kept, after that.
    """

    def __init__(
        self,
        topic: str,
        stamp_of: Callable[[Any, int], int],
        decode: Callable[[Any, int], Frame],
        malformed: MalformedCounter,
        max_rate_hz: float = 0.0,
    ) -> None:
        """`stamp_of` and `decode` take a message and the nanoseconds at which it was received."""
        super().__init__(topic, decode, malformed, max_waiting=1)
        self._stamp_of = stamp_of
        self._is_readable = True
        self.is_video = False
        """Set before messages of such a type are put in."""
        self.max_rate_hz = max_rate_hz
        """May change at any time; 0: every frame."""
        self.num_skipped = 0
        self._due_s = 0.0

    def put(self, message: Any, received_ns: int) -> None:
        if self.is_video:
            self._max_waiting = MAX_WAITING_VIDEO
        elif self._is_early():
            with self._changed:
                self.num_received += 1
                self.num_skipped += 1
                self.last_received_s = time.monotonic()
            return
        super().put(message, received_ns)

    def __iter__(self) -> Iterator[EncodedFrame]:
        while (taken := self._take()) is not None:
            message, received_ns, arrived_s = taken
            try:
                stamp_ns = self._stamp_of(message, received_ns)
                self._check_stamp(stamp_ns)
            except ValueError as error:
                self._malformed.add(self.topic, error)
                continue
            if self.is_video:
                if (frame := self._newest(message, received_ns, arrived_s)) is not None:
                    yield frame
                continue
            if self._is_readable:
                self.last_used_s = time.monotonic()
            frame = EncodedFrame(stamp_ns, partial(self._read, message, received_ns), arrived_s)
            del taken, message  # a full-size image must not outlive its turn
            yield frame
            del frame

    def _newest(self, message: Any, received_ns: int, arrived_s: float) -> EncodedFrame | None:
        """The message's picture; None where none came out, it is too early or another waits."""
        picture = self._read(message, received_ns)
        if picture is None:
            return None
        with self._changed:
            is_replaced = bool(self._waiting)
            self.num_replaced += is_replaced
            is_early = not is_replaced and self._is_early()
            self.num_skipped += is_early
        if is_replaced or is_early:
            return None
        return EncodedFrame(picture.stamp_ns, lambda: picture, arrived_s)

    def _read(self, message: Any, received_ns: int) -> Frame | None:
        frame = self._decoded(message, received_ns)
        # While none can be read, those that are replaced say nothing of the topic.
        self._is_readable = frame is not None
        return frame

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

    def __iter__(self) -> Iterator[AudioChunk]:
        while (taken := self._take()) is not None:
            chunk = self._decoded(*taken[:2])
            if chunk is not None:
                yield chunk


class HeardAudio(OneChannel):
    """An audio source of which one channel may be chosen and whose level is watched."""

    def __init__(self, source: Source, channel: int = -1) -> None:
        super().__init__(source, channel)
        self.level_dbfs = MIN_DBFS
        self.num_chunks = 0
        self.num_samples = 0
        self.num_clipped = 0
        self.sample_rate_hz = 0
        self.last_heard_s: float | None = None
        self.last_sounding_s: float | None = None
        """Monotonic seconds of the last chunk that was not all zeros."""

    def __iter__(self) -> Iterator[AudioChunk]:
        for chunk in super().__iter__():
            assert isinstance(chunk, AudioChunk)
            yield self._watched(chunk)

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
