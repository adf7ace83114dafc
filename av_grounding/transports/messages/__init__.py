"""Our types to the fields of ROS messages and back, importing no middleware.

How to use it. Reading: hand any message object with ROS field names (rclpy, rosbags, IDL
dataclass) to `decode_image`, `decode_compressed_image`, `decode_camera_info`, `decode_depth`,
`decode_audio_info` or `decode_audio`, and give the MalformedMessage they raise to a
`MalformedCounter`. Writing: `heatmap_fields`, `peaks_fields` and their like give the fields of a
message, and `build(fields, type_of)` turns them into an object of the middleware at hand; which
message goes out on which topic says `transports.topics`. `definitions.py` has the message
definitions that pip packages lack.

Stamps. An output's header is its image's header, verbatim. A chunk of audio is stamped with its
first sample: so do ros-drivers, mgonzs13 (just before the blocking read, that is) and foxglove;
for drivers that stamp the end, say `stamp_reference="end"`.
"""

from __future__ import annotations

from av_grounding.config import SAMPLE_FORMATS, StampReference
from av_grounding.transports.messages.audio import (
    AudioLayout,
    audio_fields,
    audio_info_fields,
    decode_audio,
    decode_audio_info,
)
from av_grounding.transports.messages.camera import (
    CameraInfo,
    camera_info_fields,
    decode_camera_info,
)
from av_grounding.transports.messages.fields import (
    Fields,
    MalformedCounter,
    MalformedMessage,
    build,
    header_fields,
    header_of,
    peek_stamp_ns,
    stamp_fields,
    stamp_ns_of,
)
from av_grounding.transports.messages.image import (
    IMAGE_ENCODINGS,
    compressed_image_fields,
    decode_compressed_image,
    decode_depth,
    decode_image,
    image_fields,
)
from av_grounding.transports.messages.out import (
    Status,
    decode_heatmap,
    diagnostics_fields,
    heatmap_fields,
    peaks_fields,
    point_fields,
    rays_fields,
    score_fields,
)
from av_grounding.transports.messages.peaks import Peak, find_peaks, peaks_of
from av_grounding.transports.messages.video import VideoDecoder, decode_picture

__all__ = [
    "IMAGE_ENCODINGS",
    "SAMPLE_FORMATS",
    "AudioLayout",
    "CameraInfo",
    "Fields",
    "MalformedCounter",
    "MalformedMessage",
    "Peak",
    "StampReference",
    "Status",
    "VideoDecoder",
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
    "decode_picture",
    "diagnostics_fields",
    "find_peaks",
    "header_fields",
    "header_of",
    "heatmap_fields",
    "image_fields",
    "peaks_fields",
    "peaks_of",
    "peek_stamp_ns",
    "point_fields",
    "rays_fields",
    "score_fields",
    "stamp_fields",
    "stamp_ns_of",
]
