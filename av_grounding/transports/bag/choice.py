"""Which topics of a bag are its picture and its sound, and what the sound does not say itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

from av_grounding.config import AudioSettings
from av_grounding.files import one_line, parse_json
from av_grounding.transports import messages
from av_grounding.transports.bag.reader import Bag, BagTopic, RawMessage, earlier_files
from av_grounding.transports.messages import AudioLayout, MalformedMessage, VideoDecoder
from av_grounding.transports.topics.table import INPUT_TYPES, input_types, is_output

logger = logging.getLogger(__name__)

INFO_TYPE = "audio_common_msgs/msg/AudioInfo"
STAMPED_TYPE, UNSTAMPED_TYPE = INPUT_TYPES["audio"][:2]
ORDER = "as processed"
"""What recordings of this component note about the order of their messages."""
STRING_TYPE = "std_msgs/msg/String"
DEPTH_ENCODING = "16UC1"
"""Grey pictures of 16 bits are mono16; this one is depth in millimetres."""
MAX_LISTED = 30
NUM_PROBED = 5
"""So many messages of a topic are tried until one says what the topic holds."""
LIKELY = {
    "image": re.compile(r"image|video|picture|FFMPEGPacket", re.IGNORECASE),
    "audio": re.compile(r"audio|sound|(^|_)mic|opus", re.IGNORECASE),
}
"""Types that sound like one of the roles, whether or not they are read."""


def first(bag: Bag, name: str, number: int = NUM_PROBED) -> Iterator[RawMessage]:
    """The first messages of a topic."""
    for _, message in zip(range(number), bag.messages([name]), strict=False):
        yield message


class TopicChoice:
    """Chooses by name, or else by type and by what the first messages hold."""

    def __init__(self, bag: Bag, settings: AudioSettings) -> None:
        self._bag = bag
        self._settings = settings
        self._unread: dict[str, str] = {}
        """Topic -> why its pictures are not read."""

    def choose(self, role: Literal["image", "audio"], name: str | None) -> BagTopic | None:
        """The topic asked for, or the only one that fits; None without any.

        ValueError where it is not there, cannot be read, or several fit.
        """
        if name is not None:
            return self._named(role, name)
        types = input_types(role, self._settings)
        topics = self._bag.topics.values()
        candidates = [t for t in topics if t.type_name in types and t.num_messages]
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
                f"{self._bag.path}: {found} could each be the {role}; choose one with "
                f"--{role} TOPIC"
            )
        return candidates[0] if candidates else None

    def missing(self, role: str) -> str:
        """What there is instead: pictures not read and why, types not read, all topics."""
        reasons = [f"{name}: {reason}" for name, reason in self._unread.items()]
        reasons += [
            f"{one_line(t.name, 80)} is {one_line(t.type_name, 80)}, which is not read"
            for t in self._bag.topics.values()
            if LIKELY[role].search(t.type_name.rpartition("/")[2])
            and t.type_name not in (*INPUT_TYPES["image"], *INPUT_TYPES["audio"], INFO_TYPE)
        ]
        reasons.append(f"read are {', '.join(INPUT_TYPES[role])}")
        return "; ".join([*reasons[:MAX_LISTED], self._listing()])

    def layout_of(self, audio: BagTopic | None) -> AudioLayout | None:
        """From the AudioInfo nearest by name; only ros-drivers' messages need one.

        A later file of a split bag has none: it is published once. That of the files before it
        holds. ValueError for sound that is compressed.
        """
        if audio is None or audio.type_name not in (STAMPED_TYPE, UNSTAMPED_TYPE):
            return None
        layout = self._info_in(self._bag, audio)
        if layout is None and not self._settings.sample_rate:
            layout = self._info_before(audio)
        if layout is None:
            layout = AudioLayout.of(self._settings)
        if layout is None:
            self._refuse_coded(audio)
            layout = AudioLayout()
            logger.warning(
                "%s: no AudioInfo for %s: taken as %d Hz, %d channel, %s; if "
                "that is wrong, set audio.sample_rate, audio.channels and audio.sample_format",
                *(self._bag.path, audio.name, layout.sample_rate_hz, layout.num_channels),
                layout.sample_format,
            )
        return layout

    def _named(self, role: Literal["image", "audio"], name: str) -> BagTopic:
        topic = self._bag.topics.get(name)
        if topic is None:
            raise ValueError(f"{self._bag.path}: no topic {name}; {self._listing()}")
        if topic.type_name not in INPUT_TYPES[role]:
            raise ValueError(
                f"{self._bag.path}: {name} is {topic.type_name}; expected one of "
                f"{', '.join(INPUT_TYPES[role])}"
            )
        if role == "image" and not self._is_picture(topic, allows_depth=True):
            raise ValueError(f"{self._bag.path}: {name}: {self._unread[name]}")
        return topic

    def _is_picture(self, topic: BagTopic, *, allows_depth: bool = False) -> bool:
        """Whether the topic's messages decode as pictures; depth and heatmaps do not."""
        decoder = VideoDecoder()
        for message in first(self._bag, topic.name):
            try:
                decoded = self._bag.decode(message)
                if getattr(decoded, "encoding", "") == DEPTH_ENCODING and not allows_depth:
                    self._unread[topic.name] = f"image encoding {DEPTH_ENCODING} is depth"
                    return False
                messages.decode_picture(decoded, decoder)
            except ValueError as error:
                if getattr(error, "kind", "") == "encoding":
                    self._unread[topic.name] = str(error)
                    return False
            else:
                return True
        return topic.num_messages > 0

    def _info_in(self, bag: Bag, audio: BagTopic) -> AudioLayout | None:
        parent = PurePosixPath(audio.name).parent
        infos = [t for t in bag.topics.values() if t.type_name == INFO_TYPE]
        infos.sort(key=lambda topic: PurePosixPath(topic.name).parent != parent)
        for topic in infos:
            for message in first(bag, topic.name):
                try:
                    return messages.decode_audio_info(bag.decode(message))
                except MalformedMessage as error:
                    if error.kind == "coding":
                        raise ValueError(f"{bag.path}: {error}") from error
                except ValueError:
                    continue
        return None

    def _info_before(self, audio: BagTopic) -> AudioLayout | None:
        for path in earlier_files(self._bag.path):
            try:
                layout = self._info_in(Bag(path), audio)
            except OSError:
                continue
            if layout is not None:
                logger.info(
                    "%s: no AudioInfo for %s: that of %s holds (%d Hz, %d channels, %s)",
                    *(self._bag.path, audio.name, path.name),
                    *(layout.sample_rate_hz, layout.num_channels, layout.sample_format),
                )
                return layout
        return None

    def _refuse_coded(self, audio: BagTopic) -> None:
        """ValueError where the first messages are compressed: samples would be noise."""
        faults = []
        for message in first(self._bag, audio.name):
            try:
                decoded = self._bag.decode(message)
                messages.decode_audio(decoded, AudioLayout(), received_ns=message.log_ns)
            except ValueError as error:
                if getattr(error, "kind", "") == "coding":
                    faults.append(str(error))
                    continue
            return
        if faults:
            info = PurePosixPath(audio.name).parent / "audio_info"
            raise ValueError(
                f"{self._bag.path}: {audio.name}: {faults[0]}; there is no AudioInfo (record "
                f"{info} too) and compressed sound is not read, whatever audio.sample_format says"
            )

    def _listing(self) -> str:
        topics = sorted(self._bag.topics.values(), key=lambda topic: topic.name)
        shown = [
            f"{one_line(t.name, 80)} ({one_line(t.type_name, 80)}, {t.num_messages})"
            for t in topics[:MAX_LISTED]
        ]
        if len(topics) > MAX_LISTED:
            shown.append(f"and {len(topics) - MAX_LISTED} more")
        return f"there are: {', '.join(shown)}" if shown else "it has none"


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
