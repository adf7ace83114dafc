"""The topics of this component: what it publishes for a model's heads, and what it reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from av_grounding.config import AudioSettings


class Topic(NamedTuple):
    """One published topic: reliable, volatile, keep last `depth`."""

    kind: str
    type_name: str
    purpose: str
    depth: int = 1
    is_lazy: bool = False
    """Computed only while somebody subscribes."""
    is_of_head: bool = True
    is_separated: bool = False
    """Of models that separate alone, and of their sound."""
    is_of_source: bool = False
    """One for each source that the model tells apart, its number in place of {source}."""
    head: str = ""
    """The head whose answer it carries; set by `topics_of`."""

    @property
    def name(self) -> str:
        """Relative to the node's namespace, but for names with a leading slash."""
        return name_of(self.kind, self.head)


def name_of(kind: str, head: str = "") -> str:
    """The topic of a kind, of a head where the kind is one of every head."""
    return f"{head}/{kind}" if head else kind


SEPARATED = "sound"
"""The head whose sound is separated."""
TOPICS: dict[str, Topic] = {
    topic.kind: topic
    for topic in (
        Topic(
            "heatmap",
            "sensor_msgs/msg/Image",
            "32FC1, absolute values in [0, 1]; all zeros: nothing heard",
        ),
        Topic(
            "source_{source}/heatmap",
            "sensor_msgs/msg/Image",
            "heatmap of one source alone; all zeros: it is not there",
            is_of_source=True,
        ),
        Topic(
            "heatmap/camera_info",
            "sensor_msgs/msg/CameraInfo",
            "the camera's, scaled to the heatmap; where it is known",
            is_of_head=False,
        ),
        Topic(
            "score",
            "vision_msgs/msg/Classification",
            "evidence behind the heatmap: its largest value, in [0, 1]",
        ),
        Topic(
            "peaks",
            "vision_msgs/msg/Detection2DArray",
            "maxima above the threshold, boxes in pixels of the image",
            depth=5,
        ),
        Topic(
            "rays",
            "geometry_msgs/msg/PoseArray",
            "+x points from the camera to each peak; with camera_info",
        ),
        Topic(
            "point",
            "geometry_msgs/msg/PointStamped",
            "the highest peak in space; the rclpy node, with depth and TF",
        ),
        Topic("overlay", "sensor_msgs/msg/Image", "bgr8, heatmap over the image", is_lazy=True),
        Topic(
            "overlay/compressed",
            "sensor_msgs/msg/CompressedImage",
            "jpeg of the same",
            is_lazy=True,
        ),
        Topic(
            "audio",
            "audio_common_msgs/msg/AudioDataStamped",
            "the sound of separation.target; zeros: nothing heard",
            depth=50,
            is_lazy=True,
            is_separated=True,
        ),
        Topic(
            "audio_info",
            "audio_common_msgs/msg/AudioInfo",
            "what that sound's samples are",
            is_lazy=True,
            is_separated=True,
        ),
        Topic(
            "/diagnostics",
            "diagnostic_msgs/msg/DiagnosticArray",
            "inputs, synchronisation and inference, once a second",
            is_of_head=False,
        ),
    )
}
"""By kind: what is published of every head, and what belongs to none."""


def topics_of(
    heads: Iterable[str], *, separates: bool = False, max_sources: int = 0
) -> dict[str, Topic]:
    """Name -> topic of everything that is published of a model with these heads.

    `separates`: whether it separates sound. `max_sources`: how many sources it tells apart; 0 for
    one that does not.
    """
    heads = tuple(heads)
    separated = (SEPARATED,) if separates else ()
    numbers = range(1, max_sources + 1)
    topics = (
        topic._replace(head=head, kind=kind)
        for topic in TOPICS.values()
        for kind in (
            [source_kind(number) for number in numbers] if topic.is_of_source else [topic.kind]
        )
        for head in (separated if topic.is_separated else heads if topic.is_of_head else ("",))
    )
    return {topic.name: topic for topic in topics}


def source_kind(number: int) -> str:
    """The kind of the heatmap topic of one source, numbered from 1."""
    return f"source_{number}/heatmap"


# What may come in, by role; best effort, newest image only, two seconds of audio.
INPUT_TYPES: dict[str, tuple[str, ...]] = {
    "image": (
        "sensor_msgs/msg/Image",
        "sensor_msgs/msg/CompressedImage",
        "foxglove_msgs/msg/CompressedVideo",
    ),
    "camera_info": ("sensor_msgs/msg/CameraInfo",),
    "depth": ("sensor_msgs/msg/Image",),
    "audio": (
        "audio_common_msgs/msg/AudioDataStamped",
        "audio_common_msgs/msg/AudioData",
        "audio_common_msgs/msg/AudioStamped",
        "foxglove_msgs/msg/RawAudio",
        "audio_utils_msgs/msg/AudioFrame",
        "naoqi_bridge_msgs/msg/AudioBuffer",
    ),
    "audio_info": ("audio_common_msgs/msg/AudioInfo",),
}
_PICTURES = tuple(
    f"/{topic.kind}" for topic in TOPICS.values() if topic.type_name in INPUT_TYPES["image"]
)


def input_types(role: str, settings: AudioSettings) -> tuple[str, ...]:
    """The types that may serve as `role`, the preferred first; of sound, what the settings say."""
    is_chosen = role == "audio" and settings.msg_type != "auto"
    return tuple(
        name
        for name in INPUT_TYPES[role]
        if not is_chosen or name.endswith(f"/{settings.msg_type}")
    )


def is_output(topic: str) -> bool:
    """Whether a topic looks like one of this component's own pictures, of whatever head."""
    return topic.endswith(_PICTURES)
