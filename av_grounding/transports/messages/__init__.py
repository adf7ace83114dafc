"""Our types to the fields of ROS messages and back, importing no middleware.

How to use it. Reading: hand any message object with ROS field names (rclpy, rosbags, IDL
dataclass) to `decode_image`, `decode_compressed_image`, `decode_camera_info`, `decode_depth`,
`decode_audio_info` or `decode_audio`, and give the MalformedMessage they raise to a
`MalformedCounter`. Writing: `encode_outputs(frame, heatmaps, options, camera, is_wanted)` yields
(topic, fields) of everything that was asked for, `diagnostics_fields` the diagnostics, and
`build(fields, type_of)` turns fields into message objects of the middleware at hand.

`TOPICS` is what the component publishes, names relative to the node's namespace except those
with a leading slash. `definitions.py` has the message definitions that pip packages lack.

Stamps. An output's header is its image's header, verbatim. A chunk of audio is stamped with its
first sample: so do ros-drivers, mgonzs13 (just before the blocking read, that is) and foxglove;
for drivers that stamp the end, say `stamp_reference="end"`.
"""

from __future__ import annotations

from typing import NamedTuple

from av_grounding.transports.messages.audio import (
    SAMPLE_FORMATS,
    AudioLayout,
    StampReference,
    audio_fields,
    audio_info_fields,
    decode_audio,
    decode_audio_info,
)
from av_grounding.transports.messages.fields import (
    Fields,
    MalformedCounter,
    MalformedMessage,
    build,
    header_fields,
    header_of,
    stamp_fields,
    stamp_ns_of,
)
from av_grounding.transports.messages.image import (
    IMAGE_ENCODINGS,
    CameraInfo,
    camera_info_fields,
    compressed_image_fields,
    decode_camera_info,
    decode_compressed_image,
    decode_depth,
    decode_image,
    image_fields,
)
from av_grounding.transports.messages.out import (
    HEADS,
    OutputOptions,
    Status,
    decode_heatmap,
    diagnostics_fields,
    draw_overlay,
    encode_outputs,
    heatmap_fields,
    peaks_fields,
    point_fields,
    rays_fields,
    score_fields,
)
from av_grounding.transports.messages.peaks import Peak, find_peaks

__all__ = [
    "HEADS",
    "IMAGE_ENCODINGS",
    "INPUT_TYPES",
    "SAMPLE_FORMATS",
    "TOPICS",
    "AudioLayout",
    "CameraInfo",
    "Fields",
    "MalformedCounter",
    "MalformedMessage",
    "OutputOptions",
    "Peak",
    "StampReference",
    "Status",
    "Topic",
    "audio_fields",
    "audio_info_fields",
    "build",
    "camera_info_fields",
    "compressed_image_fields",
    "decode_audio",
    "decode_audio_info",
    "decode_camera_info",
    "decode_compressed_image",
    "decode_depth",
    "decode_heatmap",
    "decode_image",
    "diagnostics_fields",
    "draw_overlay",
    "encode_outputs",
    "find_peaks",
    "header_fields",
    "header_of",
    "heatmap_fields",
    "image_fields",
    "peaks_fields",
    "point_fields",
    "rays_fields",
    "score_fields",
    "stamp_fields",
    "stamp_ns_of",
]


class Topic(NamedTuple):
    """One published topic: reliable, volatile, keep last `depth`."""

    name: str
    type_name: str
    purpose: str
    depth: int = 1
    is_lazy: bool = False
    """Computed only while somebody subscribes."""


def _of_each_head(name: str, *rest: object, **options: object) -> list[Topic]:
    return [Topic(f"{head}/{name}", *rest, **options) for head in HEADS]


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        *_of_each_head(
            "heatmap",
            "sensor_msgs/msg/Image",
            "32FC1, absolute values in [0, 1]; all zeros: nothing heard",
        ),
        Topic(
            "heatmap/camera_info",
            "sensor_msgs/msg/CameraInfo",
            "the camera's, scaled to the heatmap; where it is known",
        ),
        *_of_each_head(
            "score",
            "vision_msgs/msg/Classification",
            "evidence behind the heatmap before any gate, in [0, 1]",
        ),
        *_of_each_head(
            "peaks",
            "vision_msgs/msg/Detection2DArray",
            "maxima above the threshold, boxes in pixels of the image",
            depth=5,
        ),
        *_of_each_head(
            "rays",
            "geometry_msgs/msg/PoseArray",
            "+x points from the camera to each peak; with camera_info",
        ),
        *_of_each_head(
            "point",
            "geometry_msgs/msg/PointStamped",
            "the highest peak in space; the rclpy node, with depth and TF",
        ),
        *_of_each_head(
            "overlay", "sensor_msgs/msg/Image", "bgr8, heatmap over the image", is_lazy=True
        ),
        *_of_each_head(
            "overlay/compressed",
            "sensor_msgs/msg/CompressedImage",
            "jpeg of the same",
            is_lazy=True,
        ),
        Topic(
            "/diagnostics",
            "diagnostic_msgs/msg/DiagnosticArray",
            "inputs, synchronisation and inference, once a second",
        ),
    )
}

# What may come in, by role; best effort, newest image only, two seconds of audio.
INPUT_TYPES: dict[str, tuple[str, ...]] = {
    "image": ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"),
    "camera_info": ("sensor_msgs/msg/CameraInfo",),
    "depth": ("sensor_msgs/msg/Image",),
    "audio": (
        "audio_common_msgs/msg/AudioDataStamped",
        "audio_common_msgs/msg/AudioData",
        "audio_common_msgs/msg/AudioStamped",
        "foxglove_msgs/msg/RawAudio",
    ),
    "audio_info": ("audio_common_msgs/msg/AudioInfo",),
}
