"""What all messages share: fields with types, stamps, headers, objects of any middleware."""

from __future__ import annotations

import logging
import struct
import threading
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from av_grounding.audio import NS_PER_S
from av_grounding.files import one_line

logger = logging.getLogger(__name__)
MAX_MESSAGE = 800


class MalformedMessage(ValueError):
    """A message that cannot mean what it says; `kind` is a short word to count it by."""

    def __init__(self, kind: str, message: str) -> None:
        # Parts of it are the sender's: no lines of its own in our log.
        super().__init__(one_line(message, MAX_MESSAGE))
        self.kind = kind


class MalformedCounter:
    """Counts malformed messages by topic and kind and names the first of each in the log."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._last: dict[str, str] = {}
        self.last_message = ""

    def add(self, topic: str, error: ValueError) -> None:
        """Count one; any ValueError will do, only `MalformedMessage` names its kind."""
        key = (topic, getattr(error, "kind", "other"))
        with self._lock:
            self._counts[key] += 1
            is_first = self._counts[key] == 1
            self._last[topic] = str(error)
            self.last_message = f"{topic}: {error}"
        if is_first:
            logger.warning("%s: malformed message: %s (said once; counted)", topic, error)

    def last_of(self, topic: str) -> str:
        """What was wrong with the last one of a topic; empty where none was."""
        with self._lock:
            return self._last.get(topic, "")

    @property
    def total(self) -> int:
        with self._lock:
            return sum(self._counts.values())

    def as_dict(self) -> dict[str, int]:
        """`topic kind` -> number, for reports and diagnostics."""
        with self._lock:
            return {" ".join(key): count for key, count in sorted(self._counts.items())}


class Fields(dict):
    """The fields of one message by name, with the ROS type they belong to (`pkg/msg/Name`).

    Values are Python scalars, strings, `array.array` (every sequence of numbers), `Fields`
    (nested messages) and lists of `Fields`. Every field of the type is present.
    """

    def __init__(self, type_name: str, /, **values: Any) -> None:
        super().__init__(values)
        self.type_name = type_name


def build(fields: Fields, type_of: Callable[[str], type]) -> Any:
    """Turn fields into a message object of the middleware whose classes `type_of` gives.

    `type_of("sensor_msgs/msg/Image")` returns a class that takes its fields as keywords: an
    rclpy class (`rosidl_runtime_py.utilities.get_message`), a rosbags dataclass
    (`typestore.types.__getitem__`) or an IDL dataclass. Two differences are seen to here:
    rosbags wants sequences of numbers as NumPy arrays (zero-copy views), rclpy wants the type
    `byte` as one byte of `bytes`.
    """
    cls = type_of(fields.type_name)
    is_rosbags = hasattr(cls, "__msgtype__")
    slots = getattr(cls, "get_fields_and_field_types", dict)()
    return cls(
        **{
            name: _convert(value, type_of, is_rosbags, slots.get(name) == "octet")
            for name, value in fields.items()
        }
    )


def _convert(value: Any, type_of: Callable[[str], type], is_rosbags: bool, is_octet: bool) -> Any:
    if isinstance(value, Fields):
        return build(value, type_of)
    if isinstance(value, list):
        return [_convert(item, type_of, is_rosbags, is_octet) for item in value]
    if isinstance(value, array) and is_rosbags:
        return np.asarray(value)
    return bytes([value]) if is_octet else value


def stamp_ns_of(stamp: Any) -> int:
    """Nanoseconds of a `builtin_interfaces/Time`."""
    return _nanoseconds(int(stamp.sec), int(stamp.nanosec))


def peek_stamp_ns(cdr: bytes | memoryview) -> int:
    """The stamp of a serialised message that begins with a header; the rest is not looked at."""
    if len(cdr) < 12 or cdr[0] != 0 or cdr[1] > 1:
        raise MalformedMessage(
            "serialization",
            f"{len(cdr)} bytes that begin with {bytes(cdr[:4]).hex()}: expected plain CDR with a "
            "header first; does the sender have another version of the message?",
        )
    sec, nanosec = struct.unpack_from("<iI" if cdr[1] else ">iI", cdr, 4)
    return _nanoseconds(sec, nanosec)


def _nanoseconds(sec: int, nanosec: int) -> int:
    if sec < 0 or not 0 <= nanosec < NS_PER_S:
        raise MalformedMessage(
            "stamp", f"stamp of {sec} s and {nanosec} ns: expected sec >= 0, nanosec below 1e9"
        )
    return sec * NS_PER_S + nanosec


def header_of(message: Any) -> tuple[int, str]:
    """(stamp_ns, frame_id) of a message with a header."""
    return stamp_ns_of(message.header.stamp), str(message.header.frame_id)


def stamp_fields(stamp_ns: int) -> Fields:
    sec, nanosec = divmod(int(stamp_ns), NS_PER_S)
    return Fields("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)


def header_fields(stamp_ns: int, frame_id: str) -> Fields:
    return Fields("std_msgs/msg/Header", stamp=stamp_fields(stamp_ns), frame_id=frame_id)


def as_bytes(data: Any) -> np.ndarray:
    """The octets of a message field as a flat uint8 array, without a copy where there is a buffer.

    rclpy gives `array.array`, rosbags NumPy arrays, cyclonedds bytes or lists.
    """
    if isinstance(data, list | tuple):
        try:
            return np.frombuffer(bytes(data), np.uint8)
        except (TypeError, ValueError) as error:
            raise MalformedMessage("data", f"data is no sequence of octets: {error}") from error
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        if len(data) == 0:
            return np.zeros(0, np.uint8)
        raise MalformedMessage("data", f"data is no buffer of octets: {error}") from error


def as_array(values: np.ndarray, typecode: str = "B") -> array:
    """A NumPy array's bytes as `array.array`, which rclpy assigns without looking at elements."""
    result = array(typecode)
    result.frombytes(memoryview(np.ascontiguousarray(values)).cast("B"))
    return result
