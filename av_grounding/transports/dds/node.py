"""The heatmap topics without a ROS install: a Sink that publishes them over DDS.

    bus = Bus(DdsSettings.from_environment())
    publisher = DdsPublisher(bus, spec.head_names)    # give it to a Runner as a sink

The topics are those of `topics_of` the heads, but for the points, which need TF.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from av_grounding.config import GroundingConfig
from av_grounding.streaming.separating import Place
from av_grounding.transports.dds.bus import Bus, Writer
from av_grounding.transports.messages import CameraInfo, Fields, Status, diagnostics_fields
from av_grounding.transports.topics.outputs import OutputOptions, encode_outputs
from av_grounding.transports.topics.separated import AUDIO, INFO, WantedPlace, sound_fields
from av_grounding.transports.topics.sources import Recent
from av_grounding.transports.topics.table import topics_of
from av_grounding.types import AudioChunk, Frame, Grounding

logger = logging.getLogger(__name__)

MAX_WAITING = 30
"""Frames that wait to be published: a second of them at 30 Hz."""
HISTORY = 100
"""Messages kept for readers that are late: three seconds, so that none is lost to a hiccup.
Memory is bounded by Cyclone's watermark, beyond which a write is refused and tried again."""
RETRY_S = 0.005
MAX_RETRY_S = 0.25
DIAGNOSTICS_S = 1.0
DRAIN_S = 1.0
NS_PER_MS = 1e6


class DdsPublisher:
    """Publishes every heatmap in order in a thread of its own; `write` never waits for it.

    What nobody subscribes to is not computed, and overlays are left out while heatmaps wait.
    If the thread falls behind by `MAX_WAITING` frames the oldest is dropped and counted.
    """

    def __init__(
        self,
        bus: Bus,
        heads: Iterable[str],
        config: GroundingConfig | None = None,
        camera: Callable[[], CameraInfo | None] = lambda: None,
        statuses: Callable[[], Sequence[Status]] = lambda: (),
        max_sources: int = 0,
        separates: bool = False,
    ) -> None:
        """`heads`: those of the model that is published, `max_sources` what it tells apart,
        `separates` whether somebody reads `place` and gives its sound to `write_sound`.

        `camera` gives the calibration, where it is known, and `statuses` what to diagnose.
        """
        self.config = config or GroundingConfig()
        self.camera = camera
        self.statuses = statuses
        """May be set later; asked once a second in the publishing thread."""
        self.num_written = 0
        self.num_published = 0
        self.num_dropped = 0
        """Frames dropped because publishing fell behind."""
        self.num_refused = 0
        """Messages not sent because a reliable subscriber did not keep up."""
        self.age_ms = Recent()
        """From a frame's stamp to the moment its heatmaps are on the wire."""
        self._bus = bus.retain()
        topics = topics_of(heads, max_sources=max_sources, separates=separates)
        self._topics = {n: topic for n, topic in topics.items() if topic.kind != "point"}
        self._writers: dict[str, Writer] = {
            name: bus.writer(name, topic.type_name, topic.depth if topic.is_lazy else HISTORY)
            for name, topic in self._topics.items()
        }
        self._waiting: deque[tuple[Frame, Grounding]] = deque()
        self._sounding: deque[tuple[AudioChunk, str]] = deque(maxlen=MAX_WAITING)
        self._place = WantedPlace()
        self._changed = threading.Condition()
        self._is_closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._publish, name="av-dds-publish", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, grounding: Grounding) -> None:
        with self._changed:
            if self._error is not None:
                raise RuntimeError(f"publishing over DDS failed: {self._error}") from self._error
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self.num_dropped += 1
            self._waiting.append((frame, grounding))
            self.num_written += 1
            self._changed.notify()

    def place(self, size: tuple[int, int]) -> Place | None:
        """What `sound/audio` is of, on frames of (H, W) pixels; None: nobody wants it."""
        if not any(self._is_wanted(name) for name in (AUDIO, INFO)):
            return None
        return self._place.on(size, self.config.separation)

    def write_sound(self, chunk: AudioChunk, frame: Frame) -> None:
        """Publish what was separated; where publishing falls behind, the oldest is dropped."""
        with self._changed:
            self._sounding.append((chunk, frame.frame_id))
            self._changed.notify()

    def close(self) -> None:
        """Publish what waits, for a second at most, and leave the bus."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify()
        self._thread.join(DRAIN_S + 2.0 * MAX_RETRY_S)
        if self._thread.is_alive():
            logger.warning("publishing over DDS did not end in time")
            return
        self._bus.release()

    @property
    def node_name(self) -> str:
        """With its namespace, as in `ros2 node list`."""
        return self._bus.resolve(self._bus.node_name)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_subscribers(self) -> dict[str, int]:
        """Matched subscribers of every topic."""
        return {name: writer.num_readers for name, writer in self._writers.items()}

    @property
    def incompatible(self) -> list[str]:
        """Topics with subscribers that ask for a quality of service which is not offered."""
        return [
            f"{writer.topic}: a subscriber asks for more than reliable, volatile"
            for writer in self._writers.values()
            if writer.num_incompatible
        ]

    def _publish(self) -> None:
        diagnosed_s = time.monotonic() - DIAGNOSTICS_S
        deadline_s: float | None = None
        while True:
            with self._changed:
                if not self._waiting and not self._sounding and not self._is_closed:
                    self._changed.wait(DIAGNOSTICS_S / 4)
                taken = self._waiting.popleft() if self._waiting else None
                heard, self._sounding = self._sounding, deque(maxlen=MAX_WAITING)
                is_closed = self._is_closed
            if is_closed:
                deadline_s = deadline_s or time.monotonic() + DRAIN_S
                if taken is None or time.monotonic() > deadline_s:
                    return
            try:
                for chunk, frame_id in heard:
                    for name, fields in sound_fields(chunk, frame_id, self._is_wanted):
                        self._send(name, fields)
                if taken is not None:
                    self._publish_frame(*taken)
                if time.monotonic() - diagnosed_s >= DIAGNOSTICS_S:
                    diagnosed_s = time.monotonic()
                    self._publish_diagnostics()
            except Exception as error:
                logger.exception("publishing over DDS failed")
                with self._changed:
                    self._error = error
                    self._waiting.clear()
                return

    def _publish_frame(self, frame: Frame, grounding: Grounding) -> None:
        options = OutputOptions.of(self.config, frame.image.shape[:2])
        is_first = True
        for name, fields in encode_outputs(
            frame, grounding, options, self.camera(), self._is_wanted
        ):
            self._send(name, fields)
            if is_first and self._topics[name].kind == "heatmap":
                self.age_ms.add((time.time_ns() - frame.stamp_ns) / NS_PER_MS)
                is_first = False
        self.num_published += 1

    def _is_wanted(self, name: str) -> bool:
        topic = self._topics.get(name)
        is_picture = topic is not None and topic.is_lazy and not topic.is_separated
        if topic is None or (is_picture and len(self._waiting) > 1):
            return False
        is_enabled = not topic.head or self.config.head(topic.head).enabled
        return is_enabled and self._writers[name].num_readers > 0

    def _send(self, name: str, fields: Fields) -> None:
        """Heatmaps and what goes with them are tried again for a while, pictures are not."""
        writer = self._writers[name]
        topic = self._topics[name]
        is_picture = topic.is_lazy and not topic.is_separated
        retry_until_s = time.monotonic() + (0.0 if is_picture else MAX_RETRY_S)
        while not writer.write(fields):
            if time.monotonic() >= retry_until_s or self._is_closed:
                self.num_refused += 1
                return
            # Waiting inside the write would keep the whole process waiting.
            time.sleep(RETRY_S)

    def _publish_diagnostics(self) -> None:
        statuses = list(self.statuses())
        if statuses and self._writers["/diagnostics"].num_readers:
            self._send("/diagnostics", diagnostics_fields(time.time_ns(), statuses))
