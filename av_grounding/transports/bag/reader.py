"""Any rosbag2, whole or broken: its topics, and its messages in the order of their log times.

rosbags reads whole bags (sqlite3, MCAP, compressed, split). What it refuses, since the program
that wrote it died or the disk was full, is read here record by record, as far as it goes.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from av_grounding.files import one_line
from av_grounding.transports.bag import limits as bag_limits
from av_grounding.transports.bag import recovery as bag_salvage
from av_grounding.transports.bag.file import require_packages
from av_grounding.transports.messages.definitions import AudioPackage, typestore

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

logger = logging.getLogger(__name__)

STORAGE_SUFFIXES = (".mcap", ".db3")
PACKED_SUFFIX = ".zstd"
"""Follows that of a file that was compressed as a whole."""
ROS1_MAGIC = b"#ROSBAG V"
MGONZS13_TYPES = {"audio_common_msgs/msg/AudioStamped", "audio_common_msgs/msg/Audio"}


class RawMessage(NamedTuple):
    """One serialised message as a bag holds it."""

    topic: str
    log_ns: int
    data: bytes | memoryview


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag: name, ROS type (`pkg/msg/Name`) and how many messages there are."""

    name: str
    type_name: str
    num_messages: int


class Bag:
    """A rosbag2 folder, or one .mcap or .db3 file of one.

    `fault` says in words what is wrong with a bag of which only a part can be read; it may be
    set while messages are read. Raises FileNotFoundError, or ValueError where nothing in it can
    be read. Iterating `messages` several times, also at once, is fine.
    """

    def __init__(self, path: str | Path) -> None:
        require_packages()
        self.path = Path(path)
        self.fault: str | None = None
        self._salvage: list[bag_salvage.Recovery] = []
        if not self.path.exists():
            raise FileNotFoundError(f"{path}: no such recording; expected a rosbag2")
        _refuse_ros1(self.path)
        self._unpacked = bag_limits.Unpacked()
        try:
            files = _storage_files(self.path)
            bag_limits.check_bag(self.path, [f for f in files if f.suffix != PACKED_SUFFIX])
            bag_limits.check_write_ahead(files)
            if self.path.is_dir() and not (self.path / "metadata.yaml").exists():
                raise ValueError("metadata.yaml is missing (the recorder was killed?)")
            if self.path.suffix == PACKED_SUFFIX:
                raise ValueError(f"{PACKED_SUFFIX} without metadata.yaml")
            self._open_whole()
        except Exception as error:  # rosbags raises whatever its parsers stumble over
            self._open_broken(error)
        # A database holds values of any type in any column.
        self.topics = {
            name: topic
            for name, topic in self.topics.items()
            if isinstance(name, str) and isinstance(topic.type_name, str)
        }

    def messages(self, names: Collection[str]) -> Iterator[RawMessage]:
        """The messages of these topics in the order of their log times, as far as they go."""
        last_ns, num_given = -1, 0
        if not self._salvage:
            try:
                for message in self._whole_messages(names):
                    last_ns, num_given = message.log_ns, num_given + 1
                    yield message
                self._check_number(names, num_given)
                return
            except GeneratorExit:
                raise
            except Exception as error:
                self._salvage_files(error)
        for file in self._salvage:
            for topic, log_ns, data in file.messages(names):
                if log_ns > last_ns:
                    yield RawMessage(topic, log_ns, data)

    def decode(self, message: RawMessage) -> Any:
        """The message as an object with ROS field names; ValueError if it is damaged."""
        type_name = self.topics[message.topic].type_name
        try:
            data = bag_limits.inflate_message(message.data)
            return self._typestore().deserialize_cdr(data, type_name)
        except Exception as error:  # struct, index, Unicode and serde errors alike
            type_name = one_line(type_name, 80)
            raise ValueError(
                f"{len(message.data)} bytes that are no {type_name}: {one_line(error)}"
            ) from error

    @property
    def duration_s(self) -> float:
        return max(0, self.end_ns - self.start_ns) / 1e9

    def _open_whole(self) -> None:
        from rosbags.rosbag2 import Reader

        bag_limits.bound_rosbags()
        with Reader(self.path) as reader:
            _check_connections(reader)
            self.start_ns = reader.start_time if reader.message_count else 0
            self.end_ns = reader.end_time if reader.message_count else 0
            self._definitions = " ".join(c.msgdef.data for c in reader.connections)
            self.topics = {
                name: BagTopic(name, connections[0].msgtype, sum(c.msgcount for c in connections))
                for name, connections in (
                    (topic, info.connections) for topic, info in reader.topics.items()
                )
            }

    def _whole_messages(self, names: Collection[str]) -> Iterator[RawMessage]:
        from rosbags.rosbag2 import Reader

        with Reader(self.path) as reader:
            wanted = [c for c in reader.connections if c.topic in names]
            _take_over_unpacking(reader)
            if wanted:  # rosbags takes an empty list as everything
                for connection, log_ns, data in reader.messages(wanted):
                    if bag_salvage.is_message(log_ns, data):
                        yield RawMessage(connection.topic, log_ns, data)

    def _check_number(self, names: Collection[str], num_given: int) -> None:
        """Say where fewer messages came than the bag states."""
        wanted = [self.topics[name] for name in names if name in self.topics]
        num_stated = sum(topic.num_messages for topic in wanted)
        if num_given < num_stated and not self.fault:
            listed = one_line(", ".join(sorted(topic.name for topic in wanted)), 200)
            self.fault = f"{num_given} of the {num_stated} messages of {listed} are in its files"
            logger.warning("%s: %s", self.path, self.fault)

    def _open_broken(self, error: Exception) -> None:
        self._salvage_files(error)
        self.topics = {}
        for file in self._salvage:
            for name, (type_name, num_messages) in file.topics.items():
                have = self.topics.get(name)
                num_messages += have.num_messages if have else 0
                self.topics[name] = BagTopic(name, type_name, num_messages)
        self._definitions = " ".join(file.definitions for file in self._salvage)
        self.start_ns = min((f.start_ns for f in self._salvage if f.topics), default=0)
        self.end_ns = max((f.end_ns for f in self._salvage), default=0)
        if not any(topic.num_messages for topic in self.topics.values()):
            raise ValueError(
                f"{self.path}: no message in it can be read ({_reason(error)}); expected a "
                "rosbag2 folder, or one .mcap or .db3 file"
            ) from error

    def _salvage_files(self, error: Exception) -> None:
        files = [
            self._unpacked.file(path) if path.suffix == PACKED_SUFFIX else path
            for path in _storage_files(self.path)
        ]
        self._salvage = [bag_salvage.open_file(path) for path in files]
        faults = [f"{file.path.name}: {file.fault}" for file in self._salvage if file.fault]
        self.fault = "; ".join(faults) or _reason(error)

    def _typestore(self) -> Typestore:
        types = {topic.type_name for topic in self.topics.values()}
        is_mgonzs13 = bool(types & MGONZS13_TYPES) or "float32_data" in self._definitions
        return shared_typestore("mgonzs13" if is_mgonzs13 else "ros-drivers")


@lru_cache
def shared_typestore(audio: AudioPackage) -> Typestore:
    """Building one takes a second; nobody adds to it afterwards."""
    return typestore("jazzy", audio)


def _storage_files(path: Path) -> list[Path]:
    """The files of a recording, oldest first."""
    if path.is_file():
        return [path] if _is_storage(path) else []
    return sorted(filter(_is_storage, path.iterdir()), key=_number)


def _is_storage(path: Path) -> bool:
    return path.name.removesuffix(PACKED_SUFFIX).endswith(STORAGE_SUFFIXES)


def _number(file: Path) -> tuple[int, str]:
    digits = file.name.partition(".")[0].rpartition("_")[2]
    return (int(digits) if digits.isdigit() else 0, file.name)


def earlier_files(path: Path) -> list[Path]:
    """The files before this one of a split bag (`NAME_0.mcap` before `NAME_1.mcap`), oldest first.

    Empty for a folder, whose files are read together.
    """
    if path.is_dir():
        return []
    name = path.name.partition(".")[0].rpartition("_")[0]
    return [
        file
        for file in _storage_files(path.parent)
        if file.name.partition(".")[0].rpartition("_")[0] == name and _number(file) < _number(path)
    ]


def _refuse_ros1(path: Path) -> None:
    """ValueError for a bag of ROS 1, or a folder of them."""
    files = [path] if path.is_file() else sorted(path.glob("*.bag"))
    for file in files:
        with open(file, "rb") as opened:
            is_ros1 = opened.read(len(ROS1_MAGIC)) == ROS1_MAGIC
        if is_ros1 and not (path / "metadata.yaml").exists():
            converted = file.with_suffix("")
            raise ValueError(
                f"{file}: a bag of ROS 1, expected a rosbag2: convert it with rosbags-convert "
                f"--src {shlex.quote(str(file))} --dst {shlex.quote(str(converted))}, then run "
                f"bag:{converted}"
            )


def _reason(error: BaseException) -> str:
    return one_line(error) or type(error).__name__


def _take_over_unpacking(reader: Any) -> None:
    """Have rosbags leave messages that are compressed one by one as they are: `decode` unpacks."""
    metadata = reader.storage.metadata
    if metadata.compression_mode == "message":
        reader.storage.metadata = metadata._replace(compression_mode=None)


def _check_connections(reader: Any) -> None:
    """ValueError where metadata.yaml describes a topic otherwise than the file that holds it.

    rosbags then leaves the topic's messages out without a word.
    """
    stated = [(c.topic, c.msgtype, c.ext) for c in reader.connections]
    for storage in getattr(reader.storage, "storages", ()):
        for held in storage.connections:
            if (held.topic, held.msgtype, held.ext) not in stated:
                raise ValueError(
                    f"metadata.yaml does not describe {one_line(held.topic, 80)} as "
                    f"{storage.path.name} does"
                )
