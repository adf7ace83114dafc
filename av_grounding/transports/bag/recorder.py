"""Recording a run as a rosbag2 without making it wait for the disk."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from av_grounding.transports.bag.encoding import PictureFormat
from av_grounding.transports.bag.stream import RecordedStream
from av_grounding.transports.bag.writer import BagWriter
from av_grounding.types import AudioChunk, Frame, Grounding, Stream

logger = logging.getLogger(__name__)

NAMESPACE = "/av_grounding"
FLUSH_S = 0.5
"""What is younger than this may be lost with the program: half of what is promised."""
GIVE_UP_S = 30.0
"""A disk that finishes nothing for so long is not waited for when the recording ends."""
MAX_QUEUE_BYTES = 256 << 20
# Sound is worth more than pictures: it is dropped only at twice the size of the queue.
MAX_AUDIO_QUEUE_BYTES = 2 * MAX_QUEUE_BYTES


class _Item(NamedTuple):
    """What waits for the writer thread: sound, a picture, or the answer to one."""

    kind: Literal["audio", "image", "answer"]
    log_ns: int
    num_bytes: int
    values: tuple[Any, ...]


class BagRecorder:
    """Writes a run to PATH.mcap or to the rosbag2 folder PATH, in a thread of its own.

    Live, nothing here waits for the disk but `close`. Where the writer falls behind by more than
    256 MB, pictures and then sound are dropped and counted; an offline run waits instead. A disk
    that fills up ends the recording with one log line and an OSError from `close`; the run goes
    on, and what was written until then is complete.

    `is_live`: log times are those of the system clock; else they follow the stamps. `pictures`:
    both formats are lossless; auto takes PNG if it is smaller and quick enough at
    `frame_rate_hz`. `facts` are kept in the recording as JSON.
    """

    def __init__(
        self,
        path: str | Path,
        facts: Mapping[str, Any] | None = None,
        *,
        is_live: bool = True,
        frame_rate_hz: float = 30.0,
        pictures: PictureFormat = "auto",
        thresholds: Mapping[str, float] | None = None,
        namespace: str = NAMESPACE,
        flush_s: float = FLUSH_S,
    ) -> None:
        self.path = Path(path)
        self._is_live = is_live
        self._flush_s = flush_s
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._last_log_ns = -1
        self._failure: BaseException | None = None
        self._dropped = {"num_frames_dropped": 0, "num_audio_chunks_dropped": 0}
        self._num_steps = 0
        self._num_taken = {"audio": 0, "image": 0, "answer": 0}
        self._num_on_disk = {"audio": 0, "image": 0}
        self._writer = BagWriter(
            self.path, facts or {}, pictures, frame_rate_hz or 30.0, thresholds, namespace
        )
        self._thread = threading.Thread(target=self._run, name="av-bag", daemon=True)
        self._thread.start()

    def wrap(self, stream: Stream) -> RecordedStream:
        """The stream, whose inputs and answers this recorder keeps."""
        return RecordedStream(stream, self)

    def log_time_ns(self, due_ns: int) -> int:
        """The next moment of the recording's own time line; it never stands still."""
        with self._changed:
            now_ns = time.time_ns() if self._is_live else due_ns
            self._last_log_ns = max(now_ns, self._last_log_ns + 1)
            return self._last_log_ns

    def take_audio(self, chunk: AudioChunk, log_ns: int) -> None:
        """Record a chunk that was taken in at `log_ns`."""
        # The driver may use its buffer again.
        chunk = AudioChunk(chunk.samples.copy(), chunk.stamp_ns, chunk.sample_rate_hz)
        item = _Item("audio", log_ns, chunk.samples.nbytes, (chunk,))
        self._put(item, MAX_AUDIO_QUEUE_BYTES, "num_audio_chunks_dropped")

    def take_frame(self, frame: Frame, grounding: Grounding, log_ns: int, answer_ns: int) -> None:
        """Record a frame that was taken in at `log_ns` and its answer of `answer_ns`."""
        item = _Item("image", log_ns, frame.image.nbytes, (frame,))
        self._put(item, MAX_QUEUE_BYTES, "num_frames_dropped")
        size = sum(answer.logits.nbytes for answer in grounding.heads.values())
        # Of the picture the answer needs the size alone: one that was dropped must not stay.
        blank = np.broadcast_to(np.uint8(0), frame.image.shape)
        item = _Item("answer", answer_ns, size, (replace(frame, image=blank), grounding))
        self._put(item, MAX_AUDIO_QUEUE_BYTES, "num_frames_dropped")

    def write(self, frame: Frame, grounding: Grounding) -> None:
        """Nothing: the stream has recorded both, when it took the frame in."""

    def close(self) -> None:
        """Write what waits and complete the file; raises the OSError that ended it early.

        A disk that does not answer any more is waited for no longer than `GIVE_UP_S`.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        num_seen = -1
        while self._thread.is_alive() and num_seen != self._num_steps:
            num_seen = self._num_steps
            self._thread.join(GIVE_UP_S)
        if self._thread.is_alive():
            self._give_up()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def describe(self) -> dict[str, Any]:
        """What was recorded and what was not, counted."""
        writer = self._writer
        with self._changed:
            return {
                "path": str(self.path),
                "num_frames": writer.num_frames,
                "num_audio_chunks": writer.num_audio_chunks,
                **self._dropped,
                "pictures": None if writer.pictures == "auto" else writer.pictures,
                "num_bytes": writer.num_bytes,
                "error": None if self._failure is None else str(self._failure),
            }

    def _put(self, item: _Item, max_bytes: int, dropped: str) -> None:
        with self._changed:
            if not self._is_live:
                # Nothing waits for an offline run, so it may wait for the disk.
                self._changed.wait_for(lambda: self._has_room(item, max_bytes))
            if self._failure is not None or self._is_closing:
                return
            if self._has_room(item, max_bytes):
                self._queue.append(item)
                self._queued_bytes += item.num_bytes
                self._num_taken[item.kind] += 1
                self._changed.notify_all()
                return
            self._dropped[dropped] += 1
            is_first = self._dropped[dropped] == 1
        if is_first:
            logger.warning("%s: the disk is too slow; %s (counting)", self.path, dropped)

    def _has_room(self, item: _Item, max_bytes: int) -> bool:
        is_empty = not self._queue  # one item is taken, whatever its size
        is_over = self._failure is not None or self._is_closing
        return is_empty or is_over or self._queued_bytes + item.num_bytes <= max_bytes

    def _run(self) -> None:
        """The writer thread."""
        try:
            try:
                self._write_until_closed()
            finally:
                self._writer.close()
        except Exception as error:
            self._fail(error)

    def _write_until_closed(self) -> None:
        flushed_s = time.monotonic()
        writer = self._writer
        write = {
            "audio": writer.write_audio,
            "image": writer.write_image,
            "answer": writer.write_answer,
        }
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._queue or self._is_closing, max(0.01, self._flush_s / 2)
                )
                item = self._queue.popleft() if self._queue else None
                if item is not None:
                    self._queued_bytes -= item.num_bytes
                    self._changed.notify_all()
                elif self._is_closing:
                    return
            if item is not None:
                write[item.kind](item.log_ns, *item.values)
            # Only the audio of a moment may hang on a stalled camera, so time decides.
            if time.monotonic() - flushed_s >= self._flush_s:
                writer.flush()
                self._num_on_disk = {
                    "audio": writer.num_audio_chunks, "image": writer.num_frames,
                }  # fmt: skip
                flushed_s = time.monotonic()
            self._num_steps += 1

    def _fail(self, error: Exception) -> None:
        writer = self._writer
        text = (
            f"recording to {self.path} stopped: {getattr(error, 'strerror', None) or error}; kept "
            f"{writer.num_frames} frames and {writer.num_audio_chunks} chunks of sound; "
            "free space or choose another place"
        )
        is_disk = isinstance(error, OSError)
        failure = OSError(error.errno, text) if is_disk else RuntimeError(text)
        failure.__cause__ = error
        self._end_with(failure)

    def _give_up(self) -> None:
        """The writer hangs in a call of the system; if that ever returns, it closes the file."""
        kept = self._num_on_disk
        lost = {kind: self._num_taken[kind] - num for kind, num in kept.items()}
        self._end_with(
            OSError(
                errno.ETIMEDOUT,
                f"recording to {self.path} stopped: the disk has not answered for "
                f"{GIVE_UP_S:g} s; kept {kept['image']} frames and {kept['audio']} chunks of "
                f"sound, lost {lost['image']} and {lost['audio']}; see to the disk or choose "
                "another place",
            )
        )

    def _end_with(self, failure: Exception) -> None:
        """Nothing more is taken, and what waits is let go."""
        logger.warning("%s", failure.args[-1])
        with self._changed:
            self._failure = failure
            self._queue.clear()
            self._queued_bytes = 0
            self._changed.notify_all()


def recorder_in(folder: str | Path, facts: Mapping[str, Any], **options: Any) -> BagRecorder:
    """A recorder of a new file in `folder`, which is made; the file is named by its time, UTC."""
    name = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S_%fZ.mcap")
    path = Path(folder).expanduser() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return BagRecorder(path, facts, **options)
