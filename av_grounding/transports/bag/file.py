"""A rosbag2 file while it is written: MCAP that stays readable when program or disk give up.

The `mcap` library writes the format: unlike the writer of rosbags it closes chunks when told to,
checks them with a CRC, needs no folder and takes any stream. This module adds what a recording
on a robot needs: space is claimed before it is used, and what ROS 2 expects beside the messages.
"""

from __future__ import annotations

import errno
import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from av_grounding.files import atomic_write

CHUNK_BYTES = 4 << 20
CLAIM_STEP_BYTES = 4 << 20
"""Space is claimed in steps of this size, ahead of what is written."""
SPARE_BYTES = 64 << 10
"""Kept free for metadata.yaml and whatever else the end of a recording needs."""
# Upper bounds of what the format adds to a message, a chunk and a channel, its indexes included.
MESSAGE_BYTES = 64
CHUNK_BYTES_OVERHEAD = 256
CHANNEL_BYTES = 96
NO_CLAIMS = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
# rosbag2 8 is read by every distro from Humble on; 9 writes the profiles in another way.
METADATA_VERSION = 8
INFINITE = {"sec": 2147483647, "nsec": 4294967295}


@dataclass(frozen=True)
class Qos:
    """What a topic's publisher offers; `ros2 bag play` offers the same."""

    is_reliable: bool = True
    is_latched: bool = False
    depth: int = 1

    def as_dict(self) -> dict[str, Any]:
        """The profile in the spelling of rosbag2 up to version 8."""
        return {
            "history": 1,
            "depth": self.depth,
            "reliability": 1 if self.is_reliable else 2,
            "durability": 1 if self.is_latched else 2,
            "deadline": INFINITE,
            "lifespan": INFINITE,
            "liveliness": 1,
            "liveliness_lease_duration": INFINITE,
            "avoid_ros_namespace_conventions": False,
        }


@dataclass
class _Channel:
    name: str
    type_name: str
    type_hash: str
    qos_yaml: str
    num_messages: int = 0


@dataclass
class _Span:
    """Log times of the messages so far."""

    first_ns: int = 0
    last_ns: int = 0
    num_messages: int = 0

    def add(self, log_ns: int) -> None:
        self.first_ns = min(self.first_ns, log_ns) if self.num_messages else log_ns
        self.last_ns = max(self.last_ns, log_ns)
        self.num_messages += 1


class BagFile:
    """A recording of serialised messages: PATH.mcap, or else the folder PATH in rosbag2's layout.

    Every `flush` leaves a file that can be read up to there after a crash. `write` raises
    OSError when the disk cannot hold a message any more; `close` completes the file even then.
    FileExistsError if PATH exists.
    """

    def __init__(self, path: Path) -> None:
        require_packages()
        from mcap.writer import CompressionType, Writer

        is_bare = path.suffix == ".mcap"
        self.path = path
        self.file_path = path if is_bare else path / f"{path.name}.mcap"
        if path.exists():
            raise FileExistsError(f"{path} exists already: choose another name for the recording")
        self.file_path.parent.mkdir(parents=True, exist_ok=True)
        self._metadata_path = None if is_bare else path / "metadata.yaml"
        self._file = _ClaimedFile(self.file_path)
        # Pictures are PNG or too many to be compressed here, and the rest is little.
        self._writer = Writer(
            self._file, chunk_size=2 * CHUNK_BYTES, compression=CompressionType.NONE
        )
        self._writer.start("ros2", "av_grounding")
        self._channels: dict[int, _Channel] = {}
        self._schemas: dict[str, int] = {}
        self._span = _Span()
        self._pending_bytes = 0
        self._summary_bytes = 4096
        self.num_bytes = 0

    def add_topic(
        self, name: str, type_name: str, definition: str, type_hash: str, qos: Qos
    ) -> int:
        """Announce a topic; returns the channel number that `write` takes."""
        import yaml

        qos_yaml = yaml.safe_dump([qos.as_dict()], sort_keys=False)
        schema_bytes = len(definition) + len(type_name) + CHANNEL_BYTES
        channel_bytes = 2 * (len(name) + len(qos_yaml) + len(type_hash) + CHANNEL_BYTES)
        self._claim(2 * schema_bytes + 2 * channel_bytes)
        self._summary_bytes += schema_bytes + channel_bytes
        if type_name not in self._schemas:
            self._schemas[type_name] = self._writer.register_schema(
                type_name, "ros2msg", definition.encode()
            )
        metadata = {"offered_qos_profiles": qos_yaml, "topic_type_hash": type_hash}
        channel = self._writer.register_channel(name, "cdr", self._schemas[type_name], metadata)
        self._channels[channel] = _Channel(name, type_name, type_hash, qos_yaml)
        self._pending_bytes += schema_bytes + channel_bytes
        return channel

    def write(self, channel: int, log_ns: int, publish_ns: int, data: bytes | memoryview) -> None:
        """Add one message. Replays follow `log_ns`."""
        size = len(data) + MESSAGE_BYTES
        self._claim(size)
        topic = self._channels[channel]
        self._writer.add_message(channel, log_ns, data, publish_ns, topic.num_messages)
        self._pending_bytes += size
        self._span.add(log_ns)
        topic.num_messages += 1
        self.num_bytes += len(data)
        if self._pending_bytes >= CHUNK_BYTES:
            self._flush_chunk()

    def flush(self) -> None:
        """Put everything so far on the disk, where not even a power cut takes it away."""
        self._flush_chunk()
        self._file.sync()

    def close(self) -> None:
        """Complete the file; the space for that was claimed before."""
        import yaml

        text = yaml.safe_dump({"rosbag2_bagfile_information": self._metadata()}, sort_keys=False)
        try:
            # After a write that failed the index would not fit the file: it is left out.
            if not self._file.is_broken:
                self._flush_chunk()
                self._writer.add_metadata("rosbag2", {"serialized_metadata": text})
                self._writer.finish()
        finally:
            self._file.close()
        if self._metadata_path is not None:
            with atomic_write(self._metadata_path) as file:
                file.write(text.encode())

    def _flush_chunk(self) -> None:
        self._writer.flush()
        self._pending_bytes = 0
        self._summary_bytes += CHUNK_BYTES_OVERHEAD + 10 * len(self._channels)

    def _claim(self, num_bytes: int) -> None:
        """Have room for these bytes beside all that a complete file needs by now."""
        per_chunk = CHUNK_BYTES_OVERHEAD + CHANNEL_BYTES * len(self._channels)
        tail = self._pending_bytes + 2 * per_chunk + 2 * self._summary_bytes + SPARE_BYTES
        self._file.claim(num_bytes + tail)

    def _metadata(self) -> dict[str, Any]:
        span = self._span
        start = {"nanoseconds_since_epoch": span.first_ns}
        duration = {"nanoseconds": max(0, span.last_ns - span.first_ns)}
        file = {
            "path": self.file_path.name,
            "starting_time": start,
            "duration": duration,
            "message_count": span.num_messages,
        }
        topics = [
            {
                "topic_metadata": {
                    "name": channel.name,
                    "type": channel.type_name,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": channel.qos_yaml,
                    "type_description_hash": channel.type_hash,
                },
                "message_count": channel.num_messages,
            }
            for channel in self._channels.values()
        ]
        return {
            "version": METADATA_VERSION,
            "storage_identifier": "mcap",
            "duration": dict(duration),
            "starting_time": dict(start),
            "message_count": span.num_messages,
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self.file_path.name],
            "files": [file],
            "custom_data": {"recorded_by": "av_grounding"},
            "ros_distro": "",
        }


@dataclass
class _ClaimedFile:
    """An output stream whose space is allocated before it is written, and cut to size at the end.

    A file that was not closed ends in zeros.
    """

    path: Path
    end: int = 0
    is_broken: bool = False
    _descriptor: int = field(init=False)
    _claimed: int = 0
    _can_claim: bool = hasattr(os, "posix_fallocate")

    def __post_init__(self) -> None:
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def claim(self, num_bytes: int) -> None:
        """Make sure that so many bytes more can be written; OSError if the disk has no room."""
        wanted = self.end + num_bytes
        if wanted <= self._claimed or not self._can_claim:
            return
        for step in (CLAIM_STEP_BYTES, 0):
            try:
                os.posix_fallocate(self._descriptor, self._claimed, wanted + step - self._claimed)
            except OSError as error:
                if error.errno in NO_CLAIMS:
                    self._can_claim = False
                    return
                if step == 0:
                    raise
            else:
                self._claimed = wanted + step
                return

    def write(self, data: bytes) -> int:
        view, end = memoryview(data), self.end
        try:
            while view:
                written = os.pwrite(self._descriptor, view, end)
                view, end = view[written:], end + written
        except OSError:
            self.is_broken = True
            raise
        self.end = end
        return len(data)

    def tell(self) -> int:
        return self.end

    def flush(self) -> None:
        pass  # nothing is held back

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.end)
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)


def require_packages() -> None:
    """ImportError with the remedy where a package that recordings need is missing."""
    for name in ("mcap", "rosbags"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f"recordings need the package {name}: pip install 'av_grounding[bag]'", name=name
            )
