"""What a run took in and answered, as the messages of a rosbag2."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from av_grounding.transports import messages
from av_grounding.transports.bag.choice import ORDER
from av_grounding.transports.bag.encoding import (
    PictureFormat,
    choose_format,
    exact_audio_fields,
    exact_image_fields,
)
from av_grounding.transports.bag.file import BagFile, Qos, require_packages
from av_grounding.transports.bag.reader import shared_typestore
from av_grounding.transports.messages import Fields
from av_grounding.transports.topics.outputs import OutputOptions, encode_outputs
from av_grounding.transports.topics.table import topics_of
from av_grounding.types import AudioChunk, Frame, Grounding

FACTS_TOPIC = "recording"
AUDIO_TOPIC = "audio"
IMAGE_TOPIC = "image"
COMPRESSED_TOPIC = "image/compressed"
INPUTS = {
    FACTS_TOPIC: Qos(is_latched=True),
    AUDIO_TOPIC: Qos(depth=100),
    IMAGE_TOPIC: Qos(depth=10),
    COMPRESSED_TOPIC: Qos(depth=10),
}
ANSWERS = frozenset({"heatmap", "score", "peaks"})
"""Kinds of topics that are kept of every head."""


class BagWriter:
    """Writes to a `BagFile`; of one thread. OSError when the disk does not take a message.

    `facts` are written before the first message. `pictures` "auto" is decided by the first one,
    for `frame_rate_hz` of them a second.
    """

    def __init__(
        self,
        path: Path,
        facts: Mapping[str, Any],
        pictures: PictureFormat,
        frame_rate_hz: float,
        thresholds: Mapping[str, float] | None,
        namespace: str,
    ) -> None:
        require_packages()
        self.pictures = pictures
        self.num_frames = 0
        self.num_audio_chunks = 0
        self._facts: dict[str, Any] | None = {
            "written_by": "av_grounding", "order": ORDER, **facts,
        }  # fmt: skip
        self._frame_rate_hz = frame_rate_hz
        self._options = OutputOptions(thresholds=thresholds or {})
        self._namespace = namespace.rstrip("/")
        self._store = shared_typestore("mgonzs13")
        self._channels: dict[str, int] = {}
        self._file = BagFile(path)

    @property
    def num_bytes(self) -> int:
        return self._file.num_bytes

    def write_audio(self, log_ns: int, chunk: AudioChunk) -> None:
        self._write(AUDIO_TOPIC, log_ns, chunk.stamp_ns, exact_audio_fields(chunk))
        self.num_audio_chunks += 1

    def write_image(self, log_ns: int, frame: Frame) -> None:
        if self.pictures == "auto":
            self.pictures = choose_format(frame.image, self._frame_rate_hz)
        topic = COMPRESSED_TOPIC if self.pictures == "png" else IMAGE_TOPIC
        fields = exact_image_fields(frame, self.pictures)
        self._write(topic, log_ns, frame.stamp_ns, fields)
        self.num_frames += 1

    def write_answer(self, log_ns: int, frame: Frame, grounding: Grounding) -> None:
        num = max((answer.max_sources for answer in grounding.heads.values()), default=0)
        kept = {
            name: topic
            for name, topic in topics_of(grounding.heads, max_sources=num).items()
            if topic.kind in ANSWERS or topic.is_of_source
        }
        outputs = encode_outputs(frame, grounding, self._options, is_wanted=kept.__contains__)
        for name, fields in outputs:
            self._write(name, log_ns, frame.stamp_ns, fields, Qos(depth=kept[name].depth))

    def flush(self) -> None:
        """Put everything so far on the disk."""
        self._file.flush()

    def close(self) -> None:
        """Complete the file."""
        self._file.close()

    def _write(
        self, topic: str, log_ns: int, publish_ns: int, fields: Fields, qos: Qos | None = None
    ) -> None:
        if self._facts is not None:
            facts, self._facts = json.dumps(self._facts, default=str), None
            text = Fields("std_msgs/msg/String", data=facts)
            self._write(FACTS_TOPIC, log_ns - 1, log_ns - 1, text)
        type_name = fields.type_name
        if topic not in self._channels:
            definition, _ = self._store.generate_msgdef(type_name, ros_version=2)
            name, digest = f"{self._namespace}/{topic}", self._store.hash_rihs01(type_name)
            self._channels[topic] = self._file.add_topic(
                name, type_name, definition, digest, qos or INPUTS[topic]
            )
        message = messages.build(fields, self._store.types.__getitem__)
        data = self._store.serialize_cdr(message, type_name)
        self._file.write(self._channels[topic], max(0, log_ns), max(0, publish_ns), data)
