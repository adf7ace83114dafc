"""ROS message types on a DDS wire: names, hashes, and samples that carry finished CDR.

Cyclone's Python binding would serialise field by field. Here rosbags does it, 40 to 200 times
faster for images; the binding gets a type that describes the message and hands bytes through.
"""

from __future__ import annotations

import functools
from typing import Any

from cyclonedds.idl import make_idl_struct
from cyclonedds.idl import types as idl
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError

from av_grounding.transports.messages import Fields, MalformedMessage, build
from av_grounding.transports.messages.definitions import AudioPackage, typestore

_PRIMITIVES: dict[str, Any] = {
    "bool": bool,
    "byte": idl.byte,
    "octet": idl.byte,
    "char": idl.uint8,
    "string": str,
    **{
        f"{sign}int{bits}": getattr(idl, f"{sign}int{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    "float32": idl.float32,
    "float64": idl.float64,
}


def dds_topic(topic: str) -> str:
    """`/camera/image_raw` -> `rt/camera/image_raw`."""
    return f"rt{topic}"


def dds_type(type_name: str) -> str:
    """`sensor_msgs/msg/Image` -> `sensor_msgs::msg::dds_::Image_`."""
    package, kind, name = type_name.split("/")
    return f"{package}::{kind}::dds_::{name}_"


def ros_type(type_name: str) -> str | None:
    """Inverse of `dds_type`; None for a type that is not of ROS."""
    parts = type_name.split("::")
    if len(parts) != 4 or parts[2] != "dds_" or not parts[3].endswith("_"):
        return None
    return f"{parts[0]}/{parts[1]}/{parts[3][:-1]}"


class WireTypes:
    """All message types of one distro, and of one of the two `audio_common_msgs`."""

    def __init__(self, distro: str = "jazzy", audio: AudioPackage = "ros-drivers") -> None:
        self.distro = distro
        self.store = typestore(distro, audio)
        self._structs: dict[str, type] = {}
        self._samples: dict[str, type] = {}

    def type_hash(self, type_name: str) -> str:
        """RIHS01 hash, as `ros2 topic info -v` shows it; empty on Humble, which has none."""
        return "" if self.distro == "humble" else self.store.hash_rihs01(type_name)

    def sample_type(self, type_name: str) -> type:
        """The class that Cyclone's topics are made of: an instance holds its CDR as `cdr`."""
        if type_name not in self._samples:
            struct = self._make_struct(type_name)
            # Code is generated per type: now, or the first message would wait for it.
            self.store.get_msgdef(type_name)

            def hold(cls: type, data: bytes, *_: object, **__: object) -> Any:
                sample = object.__new__(cls)
                sample.cdr = data
                return sample

            struct.serialize = lambda self, *_, **__: self.cdr
            struct.deserialize = classmethod(hold)
            struct.deserialize_key = classmethod(hold)
            self._samples[type_name] = struct
        return self._samples[type_name]

    def encode(self, fields: Fields) -> Any:
        """A message ready for a writer of its type."""
        message = build(fields, self.store.types.__getitem__)
        cdr = bytes(self.store.serialize_cdr(message, fields.type_name))
        return self.sample_type(fields.type_name).deserialize(cdr)

    def decode(self, cdr: bytes, type_name: str) -> Any:
        """The message in CDR bytes, whose sequences are views of them; MalformedMessage if bad."""
        try:
            return self.store.deserialize_cdr(memoryview(cdr), type_name)
        except (SerdeError, ValueError, IndexError, AssertionError) as error:
            raise MalformedMessage(
                "serialization",
                f"{len(cdr)} bytes are no {type_name} ({error}): does the sender have another "
                "version of the message?",
            ) from error

    def _struct(self, type_name: str) -> type:
        if type_name not in self._structs:
            self._structs[type_name] = self._make_struct(type_name)
        return self._structs[type_name]

    def _make_struct(self, type_name: str) -> type:
        package, kind, name = type_name.split("/")
        fields = {field: self._idl(node) for field, node in self.store.fielddefs[type_name][1]}
        return make_idl_struct(f"{name}_", f"{package}.{kind}.dds_.{name}_", fields)

    def _idl(self, node: Any) -> Any:
        kind, detail = node
        if kind is Nodetype.BASE:
            return _PRIMITIVES[detail[0]]
        if kind is Nodetype.NAME:
            return self._struct(detail)
        element = self._idl(detail[0])
        return idl.array[element, detail[1]] if kind is Nodetype.ARRAY else idl.sequence[element]


@functools.cache
def wire_types(distro: str = "jazzy", audio: AudioPackage = "ros-drivers") -> WireTypes:
    """The only one of its kind: classes that were made for a type are never given back."""
    return WireTypes(distro, audio)
