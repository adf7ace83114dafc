"""A rosbag2 as SOURCE: pictures and sound of its topics, paced as live or as fast as asked for.

Our own recordings keep the order in which the model took things in, and played as fast as
possible they give the same answers again: one source hands out frames and sound in that order.
Of other bags every frame gets the sound up to its stamp, as with media files.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from av_grounding.audio import NS_PER_S
from av_grounding.config import AudioSettings
from av_grounding.files import one_line, parse_json
from av_grounding.sources.playback import PlaybackClock
from av_grounding.transports import messages
from av_grounding.transports.bag.reader import Bag, BagTopic, RawMessage
from av_grounding.transports.messages import AudioLayout, MalformedCounter, MalformedMessage
from av_grounding.transports.topics.table import INPUT_TYPES, input_types, is_output
from av_grounding.types import AudioChunk, Frame, Source

logger = logging.getLogger(__name__)

COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
INFO_TYPE = "audio_common_msgs/msg/AudioInfo"
UNSTAMPED_TYPE = "audio_common_msgs/msg/AudioData"
ORDER = "as processed"
"""What recordings of this component note about the order of their messages."""
STRING_TYPE = "std_msgs/msg/String"
DEPTH_ENCODING = "16UC1"
"""Grey pictures of 16 bits are mono16; this one is depth in millimetres."""
MAX_RATE_HZ = 1000.0
"""A rate beyond this says that the log times say nothing."""
MAX_LISTED = 30
NUM_PROBED = 5
"""So many messages of a topic are tried until one says what the topic holds."""
SAME_CLOCK_S = 10.0
"""Stamps within this of the log time are of the clock that the bag was recorded by."""


class BagPlayback:
    """What of a bag is played: its picture and its sound, and the clock that both share.

    `image` and `audio` name topics; by default the only one of a fitting type. `audio` "none"
    leaves the sound out; `settings` say of it what its messages do not. Raises ValueError that
    lists the topics where the choice is not clear.
    """

    def __init__(
        self,
        bag: Bag,
        image: str | None = None,
        audio: str | None = None,
        *,
        realtime: bool = True,
        settings: AudioSettings | None = None,
    ) -> None:
        self.bag = bag
        self._settings = settings or AudioSettings()
        self.clock = PlaybackClock(realtime)
        self.malformed = MalformedCounter()
        self.facts = read_facts(bag)
        self.image = self._choose("image", image)
        self.audio = None if audio == "none" else self._choose("audio", audio)
        self._layout = self._find_layout()
        self._zero_stamp_ns = self._find_zero_stamp()

    @property
    def is_in_order(self) -> bool:
        """Whether the bag keeps the order in which a model took its messages in."""
        return self.facts.get("order") == ORDER

    def sources(self) -> tuple[Source | None, Source | None]:
        """Frames and sound; as fast as possible and in order, the first source gives both."""
        if self.is_in_order and not self.clock.realtime and self.image is not None:
            names = [topic for topic in (self.image, self.audio) if topic is not None]
            return BagSource(self, names, self._frame_rate_hz()), None
        video = audio = None
        if self.image is not None:
            video = BagSource(self, [self.image], self._frame_rate_hz())
        if self.audio is not None:
            audio = BagSource(self, [self.audio])
        return video, audio

    def item(self, message: RawMessage) -> Frame | AudioChunk:
        """The message with the stamp that the clock gives it; MalformedMessage."""
        try:
            decoded = self.bag.decode(message)
        except ValueError as error:
            raise MalformedMessage("damaged", str(error)) from error
        if self.audio is not None and message.topic == self.audio.name:
            chunk = messages.decode_audio(
                decoded,
                self._layout,
                received_ns=message.log_ns,
                stamp_reference=self._settings.stamp_reference,
            )
            stamp_ns = self._stamp(chunk.stamp_ns)
            return AudioChunk(chunk.samples, stamp_ns, chunk.sample_rate_hz)
        frame = self._decode_picture(message.topic, decoded)
        stamp_ns = frame.stamp_ns
        if stamp_ns == 0 and not self.is_in_order:
            # Drivers that set no stamp leave zero; when it was received is the best guess.
            stamp_ns = message.log_ns
        return Frame(frame.image, self._stamp(stamp_ns), frame.frame_id)

    def due_ns(self, message: RawMessage) -> int:
        """When the message is delivered, from the start of the bag on."""
        return message.log_ns - self.bag.start_ns

    def _stamp(self, stamp_ns: int) -> int:
        return self.clock.stamp(
            stamp_ns - self._zero_stamp_ns if self.clock.realtime else stamp_ns
        )

    def _frame_rate_hz(self) -> float:
        assert self.image is not None
        duration_s = self.bag.duration_s
        rate_hz = self.image.num_messages / duration_s if duration_s > 0.0 else 0.0
        return rate_hz if rate_hz <= MAX_RATE_HZ else 0.0

    def _choose(self, role: Literal["image", "audio"], name: str | None) -> BagTopic | None:
        topics = self.bag.topics
        if name is not None:
            topic = topics.get(name)
            if topic is None:
                raise ValueError(f"{self.bag.path}: no topic {name}; {self._listing()}")
            if topic.type_name not in INPUT_TYPES[role]:
                raise ValueError(
                    f"{self.bag.path}: {name} is {topic.type_name}; expected one of "
                    f"{', '.join(INPUT_TYPES[role])}"
                )
            return topic
        types = input_types(role, self._settings)
        candidates = [t for t in topics.values() if t.type_name in types and t.num_messages]
        if role == "image":
            candidates = [t for t in candidates if not is_output(t.name) and self._is_picture(t)]
            # An image and its compressed twin show the same.
            names = {topic.name for topic in candidates}
            candidates = [
                t for t in candidates if t.name.removesuffix("/compressed") not in names - {t.name}
            ]
        if len(candidates) > 1:
            found = one_line(", ".join(sorted(topic.name for topic in candidates)))
            raise ValueError(
                f"{self.bag.path}: {found} could each be the {role}; choose one with "
                f"--{role} TOPIC"
            )
        return candidates[0] if candidates else None

    def _is_picture(self, topic: BagTopic) -> bool:
        """Whether the topic's messages decode as pictures; depth and heatmaps do not."""
        for message in self._first(topic.name, NUM_PROBED):
            try:
                decoded = self.bag.decode(message)
                if getattr(decoded, "encoding", "") == DEPTH_ENCODING:
                    return False
                self._decode_picture(topic.name, decoded)
            except ValueError as error:
                if getattr(error, "kind", "") == "encoding":
                    return False
            else:
                return True
        return topic.num_messages > 0

    def _decode_picture(self, name: str, decoded: Any) -> Frame:
        if self.bag.topics[name].type_name == COMPRESSED_TYPE:
            return messages.decode_compressed_image(decoded)
        return messages.decode_image(decoded)

    def _first(self, name: str, number: int) -> Iterator[RawMessage]:
        found = self.bag.messages([name])
        for _, message in zip(range(number), found, strict=False):
            yield message

    def _find_layout(self) -> AudioLayout | None:
        """From the AudioInfo nearest by name; only ros-drivers' messages need one."""
        needed = ("audio_common_msgs/msg/AudioDataStamped", UNSTAMPED_TYPE)
        if self.audio is None or self.audio.type_name not in needed:
            return None
        parent = PurePosixPath(self.audio.name).parent
        infos = [t for t in self.bag.topics.values() if t.type_name == INFO_TYPE]
        infos.sort(key=lambda topic: PurePosixPath(topic.name).parent != parent)
        for topic in infos:
            for message in self._first(topic.name, NUM_PROBED):
                try:
                    return messages.decode_audio_info(self.bag.decode(message))
                except MalformedMessage as error:
                    if error.kind == "coding":
                        raise ValueError(f"{self.bag.path}: {error}") from error
                except ValueError:
                    continue
        layout = AudioLayout.of(self._settings)
        if layout is not None:
            return layout
        layout = AudioLayout()
        logger.warning(
            "%s: no AudioInfo for %s: taken as %d Hz, %d channel, %s; if "
            "that is wrong, set audio.sample_rate, audio.channels and audio.sample_format",
            *(self.bag.path, self.audio.name, layout.sample_rate_hz, layout.num_channels),
            layout.sample_format,
        )
        return layout

    def _find_zero_stamp(self) -> int:
        """The stamp that a sample taken at the start of the bag has."""
        for topic in (self.image, self.audio):
            if topic is None or topic.type_name == UNSTAMPED_TYPE:
                continue
            for message in self._first(topic.name, NUM_PROBED):
                try:
                    decoded = self.bag.decode(message)
                    stamp = getattr(decoded, "timestamp", None) or decoded.header.stamp
                    stamp_ns = messages.stamp_ns_of(stamp)
                except ValueError:
                    continue
                if stamp_ns == 0 or abs(message.log_ns - stamp_ns) <= SAME_CLOCK_S * NS_PER_S:
                    return self.bag.start_ns
                return stamp_ns - self.due_ns(message)
        return self.bag.start_ns

    def _listing(self) -> str:
        topics = sorted(self.bag.topics.values(), key=lambda topic: topic.name)
        shown = [
            f"{one_line(t.name, 80)} ({one_line(t.type_name, 80)}, {t.num_messages})"
            for t in topics[:MAX_LISTED]
        ]
        if len(topics) > MAX_LISTED:
            shown.append(f"and {len(topics) - MAX_LISTED} more")
        return f"there are: {', '.join(shown)}" if shown else "it has none"


class BagSource:
    """Some topics of a bag as a Source; `close` ends the iteration from any thread."""

    def __init__(
        self, playback: BagPlayback, topics: list[BagTopic], frame_rate_hz: float = 0.0
    ) -> None:
        self.duration_s = playback.bag.duration_s
        self.frame_rate_hz = frame_rate_hz
        self.holds_sound = playback.audio in topics
        self._playback = playback
        self._names = [topic.name for topic in topics]
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        playback = self._playback
        for message in playback.bag.messages(self._names):
            if self._closed.is_set():
                return
            try:
                # Decoded before it is due: what a driver does before it hands over.
                item = playback.item(message)
            except MalformedMessage as error:
                playback.malformed.add(message.topic, error)
                continue
            if not playback.clock.wait(playback.due_ns(message), self._closed):
                return
            yield item

    def close(self) -> None:
        self._closed.set()


def read_facts(bag: Bag) -> dict[str, Any]:
    """What our recorder noted of the run that a bag holds; empty for other bags."""
    for topic in bag.topics.values():
        if topic.type_name == STRING_TYPE and topic.name.endswith("/recording"):
            for message in bag.messages([topic.name]):
                try:
                    facts = parse_json(bag.decode(message).data)
                except ValueError:
                    break
                if isinstance(facts, dict) and facts.get("written_by") == "av_grounding":
                    return facts | {"topic": topic.name}
                break
    return {}


def open_bag(
    path: str | Path,
    image: str | None = None,
    audio: str | None = None,
    *,
    realtime: bool = True,
    settings: AudioSettings | None = None,
) -> tuple[Source, Source | None, BagPlayback]:
    """Sources of a bag's pictures and sound, and the playback both belong to.

    A bag of which only a part can be read is played as far as it goes; one warning says what is
    wrong. ValueError or FileNotFoundError where there is nothing to play.
    """
    bag = Bag(path)
    playback = BagPlayback(bag, image, audio, realtime=realtime, settings=settings)
    if bag.fault:
        logger.warning("%s: %s; playing the %.1f s there are", path, bag.fault, bag.duration_s)
    if playback.image is None:
        types = ", ".join(INPUT_TYPES["image"])
        raise ValueError(f"{path}: no topic with pictures ({types}); {playback._listing()}")
    if playback.audio is None and audio != "none":
        logger.warning("%s: no sound in it; the heatmaps will be empty", path)
    return (*playback.sources(), playback)
