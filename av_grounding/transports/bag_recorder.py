"""Recording a run as a rosbag2: what the model was given, in that order, and what it answered.

A live frame is answered with the sound that had been taken in by then, so a recording that is to
give the same answers must keep the order in which the model took things, not the order of their
stamps. `RecordedStream` therefore stands where the model is called, and log times count up in
that order; a replay follows them.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from av_grounding.audio import samples_to_ns
from av_grounding.streaming.config import StreamingConfig
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.transports import messages
from av_grounding.transports.bag_encoding import (
    PictureFormat,
    choose_format,
    exact_audio_fields,
    exact_image_fields,
)
from av_grounding.transports.bag_file import BagFile, Qos, require_packages
from av_grounding.transports.bag_reader import shared_typestore
from av_grounding.transports.bag_source import ORDER
from av_grounding.transports.messages import Fields
from av_grounding.types import AudioChunk, Backend, Frame, Heatmaps

logger = logging.getLogger(__name__)

NAMESPACE = "/av_grounding"
FACTS_TOPIC = "recording"
AUDIO_TOPIC = "audio"
IMAGE_TOPIC = "image"
COMPRESSED_TOPIC = "image/compressed"
FLUSH_S = 0.5
"""What is younger than this may be lost with the program: half of what is promised."""
WAIT_S = 0.1
MAX_QUEUE_BYTES = 256 << 20
# Sound is worth more than pictures: it is dropped only at twice the size of the queue.
MAX_AUDIO_QUEUE_BYTES = 2 * MAX_QUEUE_BYTES
TOPICS: dict[str, tuple[str, Qos]] = {
    FACTS_TOPIC: ("std_msgs/msg/String", Qos(is_latched=True)),
    AUDIO_TOPIC: ("audio_common_msgs/msg/AudioStamped", Qos(depth=100)),
    IMAGE_TOPIC: ("sensor_msgs/msg/Image", Qos(depth=10)),
    COMPRESSED_TOPIC: ("sensor_msgs/msg/CompressedImage", Qos(depth=10)),
    **{
        name: (messages.TOPICS[name].type_name, Qos(depth=messages.TOPICS[name].depth))
        for name in (f"{head}/{kind}" for head in messages.HEADS for kind in ("heatmap", "score"))
    },
    **{
        f"{head}/peaks": (messages.TOPICS[f"{head}/peaks"].type_name, Qos(depth=5))
        for head in messages.HEADS
    },
}


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
        require_packages()
        self._store = shared_typestore("mgonzs13")
        self._is_live = is_live
        self._frame_rate_hz = frame_rate_hz or 30.0
        self._pictures: PictureFormat = pictures
        self._options = messages.OutputOptions(thresholds=thresholds)
        self._flush_s = flush_s
        self._namespace = namespace.rstrip("/")
        self._channels: dict[str, int] = {}
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._last_log_ns = -1
        self._failure: BaseException | None = None
        self._counts = dict.fromkeys(
            (
                *("num_frames", "num_audio_chunks"),
                *("num_frames_dropped", "num_audio_chunks_dropped"),
            ),
            0,
        )
        self._facts = {"written_by": "av_grounding", "order": ORDER, **(facts or {})}
        self._file = BagFile(self.path)
        self._thread = threading.Thread(target=self._run, name="av-bag", daemon=True)
        self._thread.start()

    def stream(self, backend: Backend, config: StreamingConfig | None = None) -> RecordedStream:
        """A stream whose inputs and answers this recorder keeps."""
        return RecordedStream(backend, config, self)

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

    def take_frame(self, frame: Frame, heatmaps: Heatmaps, log_ns: int, answer_ns: int) -> None:
        """Record a frame that was taken in at `log_ns` and its answer of `answer_ns`."""
        item = _Item("image", log_ns, frame.image.nbytes, (frame,))
        self._put(item, MAX_QUEUE_BYTES, "num_frames_dropped")
        size = heatmaps.sound.nbytes + heatmaps.speech.nbytes
        # Of the picture the answer needs the size alone: one that was dropped must not stay.
        blank = np.broadcast_to(np.uint8(0), frame.image.shape)
        item = _Item("answer", answer_ns, size, (replace(frame, image=blank), heatmaps))
        self._put(item, MAX_AUDIO_QUEUE_BYTES, "num_frames_dropped")

    def write(self, frame: Frame, heatmaps: Heatmaps) -> None:
        """Nothing: the stream has recorded both, when it took the frame in."""

    def close(self) -> None:
        """Write what waits and complete the file; raises the OSError that ended it early."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def describe(self) -> dict[str, Any]:
        """What was recorded and what was not, counted."""
        with self._changed:
            return {
                "path": str(self.path),
                **self._counts,
                "pictures": None if self._pictures == "auto" else self._pictures,
                "num_bytes": self._file.num_bytes,
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
                self._changed.notify_all()
                return
            self._counts[dropped] += 1
            is_first = self._counts[dropped] == 1
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
                self._file.close()
        except Exception as error:
            self._fail(error)

    def _write_until_closed(self) -> None:
        flushed_s = time.monotonic()
        has_facts = False
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
            if item is not None and not has_facts:
                has_facts = True
                fields = Fields("std_msgs/msg/String", data=json.dumps(self._facts, default=str))
                self._write(FACTS_TOPIC, item.log_ns - 1, item.log_ns - 1, fields)
            if item is not None:
                getattr(self, f"_write_{item.kind}")(item.log_ns, *item.values)
            # Only the audio of a moment may hang on a stalled camera, so time decides.
            if time.monotonic() - flushed_s >= self._flush_s:
                self._file.flush()
                flushed_s = time.monotonic()

    def _write_audio(self, log_ns: int, chunk: AudioChunk) -> None:
        self._write(AUDIO_TOPIC, log_ns, chunk.stamp_ns, exact_audio_fields(chunk))
        self._counts["num_audio_chunks"] += 1

    def _write_image(self, log_ns: int, frame: Frame) -> None:
        if self._pictures == "auto":
            self._pictures = choose_format(frame.image, self._frame_rate_hz)
        topic = COMPRESSED_TOPIC if self._pictures == "png" else IMAGE_TOPIC
        fields = exact_image_fields(frame, self._pictures)
        self._write(topic, log_ns, frame.stamp_ns, fields)
        self._counts["num_frames"] += 1

    def _write_answer(self, log_ns: int, frame: Frame, heatmaps: Heatmaps) -> None:
        outputs = messages.encode_outputs(
            frame, heatmaps, self._options, is_wanted=TOPICS.__contains__
        )
        for topic, fields in outputs:
            self._write(topic, log_ns, frame.stamp_ns, fields)

    def _write(self, topic: str, log_ns: int, publish_ns: int, fields: Fields) -> None:
        type_name, qos = TOPICS[topic]
        if topic not in self._channels:
            definition, _ = self._store.generate_msgdef(type_name, ros_version=2)
            name, digest = f"{self._namespace}/{topic}", self._store.hash_rihs01(type_name)
            self._channels[topic] = self._file.add_topic(name, type_name, definition, digest, qos)
        message = messages.build(fields, self._store.types.__getitem__)
        data = self._store.serialize_cdr(message, type_name)
        self._file.write(self._channels[topic], max(0, log_ns), max(0, publish_ns), data)

    def _fail(self, error: Exception) -> None:
        counts = self._counts
        text = (
            f"recording to {self.path} stopped: {getattr(error, 'strerror', None) or error}; kept "
            f"{counts['num_frames']} frames and {counts['num_audio_chunks']} chunks of sound; "
            "free space or choose another place"
        )
        logger.warning("%s", text)
        with self._changed:
            is_disk = isinstance(error, OSError)
            self._failure = OSError(error.errno, text) if is_disk else RuntimeError(text)
            self._failure.__cause__ = error
            self._queue.clear()
            self._queued_bytes = 0
            self._changed.notify_all()


class RecordedStream(GroundingStream):
    """A GroundingStream that shows a recorder everything it takes in and answers, in order."""

    def __init__(
        self, backend: Backend, config: StreamingConfig | None, recorder: BagRecorder
    ) -> None:
        super().__init__(backend, config)
        self._recorder = recorder

    def push_audio(self, samples: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        chunk = AudioChunk(samples, int(stamp_ns), int(sample_rate_hz))
        end_ns = chunk.stamp_ns + samples_to_ns(len(samples), max(1, chunk.sample_rate_hz))
        log_ns = self._recorder.log_time_ns(end_ns)
        super().push_audio(samples, stamp_ns, sample_rate_hz)
        if len(samples):
            self._recorder.take_audio(chunk, log_ns)

    def push_frame(self, image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Heatmaps:
        log_ns = self._recorder.log_time_ns(int(stamp_ns))
        heatmaps = super().push_frame(image, stamp_ns, frame_id)
        answer_ns = self._recorder.log_time_ns(int(stamp_ns))
        frame = Frame(image, heatmaps.stamp_ns, frame_id)
        self._recorder.take_frame(frame, heatmaps, log_ns, answer_ns)
        return heatmaps
