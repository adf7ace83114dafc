"""Message definitions that no Python package carries, and a rosbags typestore that has them all.

The text is the interface alone, in the syntax of .msg files. Two unrelated packages are called
`audio_common_msgs` and define AudioData and AudioInfo differently, so a typestore has one or the
other (`AudioPackage`); apt installs the one of ros-drivers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

AudioPackage = Literal["ros-drivers", "mgonzs13"]
DISTROS = ("humble", "jazzy")

VISION = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": ("vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y"),
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
    ),
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection2DArray": (
        "std_msgs/Header header\nvision_msgs/Detection2D[] detections"
    ),
    "vision_msgs/msg/Classification": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results"
    ),
}
AUDIO: dict[str, dict[str, str]] = {
    "ros-drivers": {
        "audio_common_msgs/msg/AudioData": "uint8[] data",
        "audio_common_msgs/msg/AudioDataStamped": (
            "std_msgs/Header header\naudio_common_msgs/AudioData audio"
        ),
        "audio_common_msgs/msg/AudioInfo": (
            "uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\n"
            "string coding_format"
        ),
    },
    "mgonzs13": {
        "audio_common_msgs/msg/AudioData": (
            "float32[] float32_data\nint32[] int32_data\nint16[] int16_data\n"
            "int8[] int8_data\nuint8[] uint8_data"
        ),
        "audio_common_msgs/msg/AudioInfo": "int32 format\nint32 channels\nint32 rate\nint32 chunk",
        "audio_common_msgs/msg/Audio": (
            "audio_common_msgs/AudioData audio_data\naudio_common_msgs/AudioInfo info"
        ),
        "audio_common_msgs/msg/AudioStamped": (
            "std_msgs/Header header\naudio_common_msgs/Audio audio"
        ),
    },
}
OTHERS = {
    "foxglove_msgs/msg/RawAudio": (
        "builtin_interfaces/Time timestamp\nuint8[] data\nstring format\nuint32 sample_rate\n"
        "uint32 number_of_channels"
    ),
    "foxglove_msgs/msg/CompressedVideo": (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format"
    ),
    "audio_utils_msgs/msg/AudioFrame": (
        "std_msgs/Header header\nstring format\nuint32 channel_count\n"
        "uint32 sampling_frequency\nuint32 frame_sample_count\nuint8[] data"
    ),
    "naoqi_bridge_msgs/msg/AudioBuffer": (
        "std_msgs/Header header\nuint16 frequency\nuint8[] channel_map\nint16[] data"
    ),
}


def typestore(distro: str = "jazzy", audio: AudioPackage = "ros-drivers") -> Typestore:
    """The distro's standard messages of rosbags plus those of this module. Needs rosbags."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    if distro not in DISTROS:
        raise ValueError(f"ROS distro {distro!r}: expected one of {', '.join(DISTROS)}")
    store = get_typestore(Stores(f"ros2_{distro}"))
    for name, text in {**VISION, **AUDIO[audio], **OTHERS}.items():
        store.register(get_types_from_msg(text, name))
    return store
