"""Hand-over between threads: the newest frame only, every chunk of audio, files at their pace."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from av_grounding.types import AudioChunk, EncodedFrame, Frame, Grounding

POLL_S = 0.1
"""How long a wait may last before it looks at the stop flag again."""
END_S = 1.0
"""How long the sound that waits is taken in after the last frame, and how long after its duration
a run waits for a video that gives no frame which would end it."""
MAX_UNWRITTEN_RESULTS = 4


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
    has_ended: bool = False

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


class Handover:
    """All that waits between the threads of one run, and the flag that ends it."""

    def __init__(self, *, sees_apart: bool, max_audio_queue_s: float) -> None:
        """`sees_apart`: frames are encoded in a thread of their own, and wait once more."""
        self.sees_apart = sees_apart
        self.changed = threading.Condition()
        """Held for everything below but results; told of everything that is put."""
        self.frames = LatestFrame()
        self.ready = LatestFrame() if sees_apart else self.frames
        """Where the model finds its next frame."""
        self.chunks = AudioQueue(max_audio_queue_s)
        self.results: queue.Queue[tuple[Frame, Grounding] | None] = queue.Queue(
            MAX_UNWRITTEN_RESULTS
        )
        """Answers for the sinks; None ends them."""
        self.ends_s = float("inf")
        """When the run ends even though no frame comes (monotonic seconds)."""
        self.stopped = threading.Event()

    def stop(self) -> None:
        """Raise the flag and wake everybody, from any thread."""
        self.stopped.set()
        with self.changed:
            self.changed.notify_all()

    def forget(self) -> None:
        """Drop the frame and the sound that wait for the model, from any thread."""
        with self.changed:
            self.frames.clear()
            self.ready.clear()
            self.chunks.clear()

    @property
    def num_replaced(self) -> int:
        """Frames that newer ones replaced, before they were decoded or once they were encoded."""
        seen = self.ready.num_replaced if self.sees_apart else 0
        return self.frames.num_replaced + seen

    def end_frames(self, place: LatestFrame) -> None:
        """No further frame will be put there."""
        with self.changed:
            place.has_ended = True
            self.changed.notify_all()

    def put_frame(self, place: LatestFrame, frame: Frame | EncodedFrame, arrived_s: float) -> None:
        """Let a frame wait in `frames` or `ready`."""
        with self.changed:
            place.put(frame, arrived_s)
            self.changed.notify_all()

    def put_result(self, result: tuple[Frame, Grounding] | None) -> bool:
        """Wait until the sinks have room for an answer; False where the run ended first."""
        while not self.stopped.is_set():
            try:
                self.results.put(result, timeout=POLL_S)
                return True
            except queue.Full:
                continue
        return False
