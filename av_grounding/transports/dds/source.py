"""Image and audio topics as sources, over DDS and without a ROS install."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from av_grounding.config import GroundingConfig
from av_grounding.streaming.liveness import Watchdog
from av_grounding.transports.dds.bus import Bus, Offer, Reader
from av_grounding.transports.messages import (
    AudioLayout,
    CameraInfo,
    MalformedCounter,
    VideoDecoder,
    decode_audio,
    decode_audio_info,
    decode_camera_info,
    decode_picture,
    peek_stamp_ns,
)
from av_grounding.transports.topics.sources import HeardAudio, TopicAudio, TopicVideo
from av_grounding.transports.topics.table import INPUT_TYPES, input_types, is_output
from av_grounding.types import AudioChunk, Frame

logger = logging.getLogger(__name__)

AUDIO_DEPTH = 400
"""Two seconds of chunks of 5 ms."""
VIDEO_DEPTH = 30
"""Messages of compressed video, of which none may be left out."""


class DdsInputs:
    """Subscriptions and the sources they feed: `video`, and `audio` unless it is None.

    A subscription is made as soon as somebody publishes the topic and its type is known. Five
    seconds without input are a line in the log that says what is missing.
    """

    def __init__(
        self,
        bus: Bus,
        image: str,
        audio: str | None = None,
        *,
        camera_info: str | None = None,
        audio_info: str | None = None,
        config: GroundingConfig | None = None,
    ) -> None:
        """`audio_info` defaults to the topic beside `audio`, as ros-drivers publishes it."""
        self.malformed = MalformedCounter()
        self.config = config or GroundingConfig()
        self.image_topic = bus.resolve(image)
        self.audio_topic = None if audio is None else bus.resolve(audio)
        self._bus = bus.retain()
        self._camera_topic = None if camera_info is None else bus.resolve(camera_info)
        self._camera: CameraInfo | None = None
        self._layout = AudioLayout.of(self.config.audio)
        self._decoder = VideoDecoder()
        self._readers: dict[str, Reader] = {}
        self._is_video_closed = self._is_audio_closed = False
        self._lock = threading.Lock()
        self._info_topic: str | None = None
        self.video = _Video(self)
        self.audio: HeardAudio | None = None
        self._topic_audio: TopicAudio | None = None
        if self.audio_topic is not None:
            beside = f"{self.audio_topic.rpartition('/')[0]}/audio_info"
            self._info_topic = beside if audio_info is None else bus.resolve(audio_info)
            self._topic_audio = _Audio(self.audio_topic, self._decode_audio, self)
            self.audio = HeardAudio(self._topic_audio, self.config.audio.channel)
        now_s = time.monotonic()
        self._watchdogs = {"image": Watchdog(now_s), "audio": Watchdog(now_s)}
        bus.on_tick(self._look)

    @property
    def camera(self) -> CameraInfo | None:
        """The newest camera_info."""
        return self._camera

    def _look(self) -> None:
        """Subscribe to what has appeared, and name what is missing; in the bus's thread."""
        if self._is_video_closed:
            return
        wanted = {
            topic: role
            for topic, role in (
                (self.image_topic, "image"),
                (self.audio_topic, "audio"),
                (self._camera_topic, "camera_info"),
                (self._info_topic, "audio_info"),
            )
            if topic is not None
        }
        offers = self._bus.offers()
        for topic, role in wanted.items():
            offered = offers.get(topic, [])
            reader = self._readers.get(topic)
            if reader is not None and any(o.type_name == reader.type_name for o in offered):
                continue
            offer = _known_offer(offered, input_types(role, self.config.audio))
            if offer is None:
                continue
            if reader is not None:  # the driver came back with another type
                self._bus.remove(reader)
            self._readers[topic] = self._subscribe(role, topic, offer)
        self._watch()

    def _subscribe(self, role: str, topic: str, offer: Offer) -> Reader:
        handlers: dict[str, Callable[[bytes, int], None]] = {
            "camera_info": lambda cdr, _: self._take_info(reader, cdr, self._set_camera),
            "audio_info": lambda cdr, _: self._take_info(reader, cdr, self._set_layout),
            "image": lambda cdr, now_ns: self.video.put((reader, cdr), now_ns),
            "audio": lambda cdr, now_ns: self._put_audio((reader, cdr), now_ns),
        }
        # What was published once, and kept for late subscribers, is asked for.
        is_kept = role.endswith("_info") and offer.is_transient_local
        is_video = offer.type_name == INPUT_TYPES["image"][2]
        if role == "image":
            self.video.is_video = is_video
        depth = AUDIO_DEPTH if role == "audio" else VIDEO_DEPTH if is_video else 1
        is_portaudio = offer.type_name.endswith("/AudioStamped")
        # Messages come in the thread that runs this, so `reader` has its value by then.
        reader = self._bus.reader(
            topic,
            offer.type_name,
            handlers[role],
            depth=depth,
            # Every picture of compressed video builds on the one before.
            is_reliable=is_kept or (is_video and offer.is_reliable),
            is_transient_local=is_kept,
            audio="mgonzs13" if is_portaudio else "ros-drivers",
        )
        logger.info("subscribed to %s (%s)", topic, offer.type_name)
        return reader

    def _put_audio(self, message: tuple[Reader, bytes], now_ns: int) -> None:
        assert self._topic_audio is not None
        self._topic_audio.put(message, now_ns)

    def _take_info(self, reader: Reader, cdr: bytes, use: Callable[[Any], None]) -> None:
        try:
            use(reader.decode(cdr))
        except ValueError as error:
            self.malformed.add(reader.topic, error)

    def _set_camera(self, message: Any) -> None:
        self._camera = decode_camera_info(message)

    def _set_layout(self, message: Any) -> None:
        self._layout = decode_audio_info(message)

    def _decode_image(self, message: tuple[Reader, bytes], received_ns: int) -> Frame:
        reader, cdr = message
        return decode_picture(reader.decode(cdr), self._decoder)

    def _decode_audio(self, message: tuple[Reader, bytes], received_ns: int) -> AudioChunk:
        reader, cdr = message
        audio = self.config.audio
        return decode_audio(
            reader.decode(cdr),
            self._layout,
            received_ns=received_ns if audio.allow_unstamped else None,
            stamp_reference=audio.stamp_reference,
        )

    def _watch(self) -> None:
        now_s = time.monotonic()
        for role, source in (("image", self.video), ("audio", self._topic_audio)):
            if source is not None and self._watchdogs[role].barks(source.last_used_s, now_s):
                logger.warning("no %s: %s", role, self._reason(role, source.topic))

    def _reason(self, role: str, topic: str) -> str:
        source = self.video if role == "image" else self._topic_audio
        assert source is not None
        if source.is_arriving and (fault := self.malformed.last_of(topic)):
            return f"what comes on {topic} cannot be used: {fault}"
        offers = self._bus.offers()
        if topic not in offers:
            known = sorted(
                name
                for name, offered in offers.items()
                if _known_offer(offered, INPUT_TYPES[role]) and not is_output(name)
            )
            return (
                f"nobody publishes {topic}; topics of that kind: {', '.join(known) or 'none'}. "
                f"Is the driver running in ROS_DOMAIN_ID {self._bus.settings.domain_id}, within "
                f"the discovery range {self._bus.settings.discovery}?"
            )
        if topic not in self._readers:
            types = ", ".join(sorted({offer.type_name for offer in offers[topic]}))
            expected = " or ".join(input_types(role, self.config.audio))
            return f"{topic} carries {types}, expected {expected}"
        sends = "stopped sending" if source.num_received else "sends nothing"
        return f"the publisher of {topic} is there but {sends}"

    def on_closed(self, source: TopicVideo | TopicAudio) -> None:
        """Leave the bus once neither source is read any more."""
        with self._lock:
            was_closed = self._is_video_closed and self._is_audio_closed
            self._is_video_closed |= source is self.video
            self._is_audio_closed |= source is not self.video or self.audio is None
            is_closed = self._is_video_closed and self._is_audio_closed
        if is_closed and not was_closed:
            self._bus.release()


class _Video(TopicVideo):
    def __init__(self, inputs: DdsInputs) -> None:
        super().__init__(
            inputs.image_topic,
            lambda message, _: peek_stamp_ns(message[1]),
            inputs._decode_image,
            inputs.malformed,
            inputs.config.max_rate,
        )
        self._inputs = inputs

    def close(self) -> None:
        super().close()
        self._inputs.on_closed(self)


class _Audio(TopicAudio):
    def __init__(self, topic: str, decode: Callable[..., AudioChunk], inputs: DdsInputs) -> None:
        super().__init__(topic, decode, inputs.malformed)
        self._inputs = inputs

    def close(self) -> None:
        super().close()
        self._inputs.on_closed(self)


def _known_offer(offers: list[Offer], types: tuple[str, ...]) -> Offer | None:
    """The offer whose type comes first among those that can be read."""
    known = [offer for offer in offers if offer.type_name in types and not offer.is_own]
    return min(known, key=lambda offer: types.index(offer.type_name), default=None)


def find_topic(bus: Bus, role: str, timeout_s: float = 3.0) -> str | None:
    """The only topic on the bus that can serve as `role` (image, audio); None without any.

    Raises ValueError, naming them, where there are several.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        found = sorted(
            topic
            for topic, offers in bus.offers().items()
            if _known_offer(offers, INPUT_TYPES[role]) is not None and not is_output(topic)
        )
        if len(found) > 1:
            raise ValueError(
                f"got no --{role} and several topics of that kind, expected one: choose from "
                f"{', '.join(found)}"
            )
        # One more look after the first find: its rival may be a moment behind.
        if time.monotonic() >= deadline_s:
            return found[0] if found else None
        time.sleep(0.1)
