"""Hand-over between threads: the newest frame only, every chunk of audio, files at their pace."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from av_grounding.types import AudioChunk, EncodedFrame, Frame


@dataclass
class LatestFrame:
    """A place for one frame: the newest wins, and what it replaces was never decoded.

    Every member needs the condition held that guards it.
    """

    waiting: tuple[Frame | EncodedFrame, float] | None = None
    """The newest frame and when it arrived (monotonic seconds)."""
    has_ended: bool = False
    num_put: int = 0
    num_replaced: int = 0

    def put(self, frame: Frame | EncodedFrame, arrived_s: float) -> None:
        """Let a frame wait; one that waits already is counted as replaced."""
        self.clear()
        self.num_put += 1
        self.waiting = (frame, arrived_s)

    def take(self) -> tuple[Frame | EncodedFrame, float] | None:
        """The waiting frame, if any."""
        taken, self.waiting = self.waiting, None
        return taken

    def clear(self) -> None:
        """Forget what waits; it counts as replaced."""
        self.num_replaced += self.waiting is not None
        self.waiting = None


@dataclass
class AudioQueue:
    """Every chunk of sound, in order, up to `max_s` seconds. Needs the condition held, too."""

    max_s: float
    chunks: deque[AudioChunk] = field(default_factory=deque)
    queued_s: float = 0.0
    num_put: int = 0
    num_overruns: int = 0

    def put(self, chunk: AudioChunk) -> int:
        """Queue a chunk; returns how many of the oldest had to go for it."""
        self.num_put += 1
        self.chunks.append(chunk)
        self.queued_s += _duration_s(chunk)
        num_lost = 0
        while self.queued_s > self.max_s and len(self.chunks) > 1:
            self.queued_s -= _duration_s(self.chunks.popleft())
            num_lost += 1
        self.num_overruns += num_lost
        return num_lost

    def take(self) -> AudioChunk | None:
        """The oldest waiting chunk, if any."""
        if not self.chunks:
            return None
        chunk = self.chunks.popleft()
        self.queued_s = self.queued_s - _duration_s(chunk) if self.chunks else 0.0
        return chunk

    def clear(self) -> None:
        """Forget what waits."""
        self.chunks.clear()
        self.queued_s = 0.0


def _duration_s(chunk: AudioChunk) -> float:
    return len(chunk.samples) / max(1, chunk.sample_rate_hz)


class Pacer:
    """Releases what files hold at the pace of its stamps, all sources on one epoch.

    The epoch is set once every source has shown its first stamp or has ended, so that a file
    that opens slowly does not shift sound against picture.
    """

    def __init__(self, num_sources: int) -> None:
        self._changed = threading.Condition()
        self._num_awaited = num_sources
        self._first_ns: list[int] = []
        self._epoch: tuple[int, float] | None = None

    def enter(self, stamp_ns: int | None) -> None:
        """A source's first due stamp, or None where it ended or failed without one."""
        with self._changed:
            self._num_awaited -= 1
            if stamp_ns is not None:
                self._first_ns.append(stamp_ns)
            if self._num_awaited == 0 and self._first_ns:
                self._epoch = (min(self._first_ns), time.monotonic())
            self._changed.notify_all()

    def wait(self, stamp_ns: int, stopped: threading.Event) -> None:
        """Sleep until the stamp is due, or until stopped."""
        with self._changed:
            while self._epoch is None and not stopped.is_set():
                self._changed.wait(0.05)
            if self._epoch is None:
                return
            first_ns, first_s = self._epoch
        stopped.wait(max(0.0, first_s + (stamp_ns - first_ns) * 1e-9 - time.monotonic()))
