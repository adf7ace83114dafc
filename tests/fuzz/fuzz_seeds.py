"""Honest inputs of every parser, made by the programs that make them: where fuzzing begins."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from av_grounding.transports import messages
from av_grounding.types import AudioChunk
from tests.fuzz import fuzz_files
from tests.helpers import bags

TESTS = Path(__file__).resolve().parents[1]


ROOT = TESTS.parent
STAMP_NS = 1_700_000_000_123_456_789
MESSAGE_TYPES = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "audio_common_msgs/msg/AudioDataStamped",
    "audio_common_msgs/msg/AudioData",
    "audio_common_msgs/msg/AudioInfo",
    "audio_common_msgs/msg/AudioStamped",
    "foxglove_msgs/msg/RawAudio",
    "std_msgs/msg/String",
)
"""What comes in from topics; a fuzzed message begins with an index into this."""


@lru_cache
def wire_types(type_name: str):
    """Only one of the two packages of one name knows the type."""
    from av_grounding.transports.dds.types import WireTypes

    is_portaudio = type_name == "audio_common_msgs/msg/AudioStamped"
    return WireTypes(audio="mgonzs13" if is_portaudio else "ros-drivers")


def image() -> np.ndarray:
    return bags.picture(3, 12, 16)


def cdr() -> list[bytes]:
    """One message of every type and of the common encodings, each behind its index."""
    rgb, grey = image(), image()[..., 0]
    stamp = (STAMP_NS, "optical")
    chunk = AudioChunk(np.arange(-40, 40, dtype=np.int16).reshape(-1, 2), STAMP_NS, 16_000)
    camera = messages.CameraInfo(
        480, 640, np.diag([500.0, 500.0, 1.0]), np.eye(3, 4) * 500, np.full(5, 0.01), np.eye(3)
    )
    audio = messages.audio_fields(chunk)
    integers = {name: np.zeros(0, kind) for name, kind in (
        ("int32_data", np.int32), ("int8_data", np.int8), ("uint8_data", np.uint8),
    )}  # fmt: skip
    portaudio = messages.Fields(
        "audio_common_msgs/msg/AudioStamped",
        header=messages.header_fields(*stamp),
        audio=messages.Fields(
            "audio_common_msgs/msg/Audio",
            audio_data=messages.Fields(
                "audio_common_msgs/msg/AudioData",
                float32_data=np.zeros(0, np.float32),
                int16_data=chunk.samples.ravel(),
                **integers,
            ),
            info=messages.Fields(
                "audio_common_msgs/msg/AudioInfo", format=8, channels=2, rate=16_000, chunk=40
            ),
        ),
    )
    foxglove = messages.Fields(
        "foxglove_msgs/msg/RawAudio",
        timestamp=messages.stamp_fields(STAMP_NS),
        data=audio["audio"]["data"],
        format="pcm-s16",
        sample_rate=16_000,
        number_of_channels=2,
    )
    string = messages.Fields("std_msgs/msg/String", data=json.dumps({"written_by": "another"}))
    fields = [
        messages.image_fields(rgb, "rgb8", *stamp),
        messages.image_fields(rgb[..., ::-1], "bgr8", *stamp),
        messages.image_fields(grey, "mono8", *stamp),
        messages.image_fields(grey, "bayer_rggb8", *stamp),
        messages.image_fields(rgb[..., :2], "yuv422", *stamp),
        messages.image_fields(grey.astype(np.uint16) * 256, "16UC1", *stamp),
        messages.image_fields(grey.astype(np.float32), "32FC1", *stamp),
        messages.compressed_image_fields(rgb, *stamp),
        messages.camera_info_fields(camera, *stamp),
        audio,
        audio["audio"],
        messages.audio_info_fields(chunk),
        portaudio,
        foxglove,
        string,
    ]
    return [
        bytes([MESSAGE_TYPES.index(f.type_name)]) + wire_types(f.type_name).encode(f).cdr
        for f in fields
    ]


def pictures() -> list[bytes]:
    """JPEG, baseline and progressive, and PNG in colour, grey and with a palette."""
    import cv2

    bgr = image()
    options = [
        (".jpg", bgr, []),
        (".jpg", bgr, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".jpg", bgr, [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
        (".jpg", bgr[..., 0], []),
        (".png", bgr, []),
        (".png", bgr[..., 0].astype(np.uint16), []),
    ]
    return [cv2.imencode(suffix, pixels, how)[1].tobytes() for suffix, pixels, how in options]


def picture_files() -> list[bytes]:
    import cv2

    more = [cv2.imencode(suffix, image())[1].tobytes() for suffix in (".webp", ".bmp", ".tiff")]
    return [*pictures(), *more]


def configs() -> list[bytes]:
    text = (ROOT / "config" / "grounding.yaml").read_bytes()
    small = (
        b"grounding:\n  ros__parameters:\n    gate.min_dbfs: -40.0\n    audio:\n      hop_s: 1\n"
    )
    return [text, small, b"/**: {ros__parameters: {device: cpu, max_rate: 0x10}}\n"]


def bundle_configs(kinds: tuple[str, ...] = fuzz_files.KINDS) -> list[bytes]:
    """Of every backbone: options decide what is built."""
    return [(fuzz_files.bundle(kind) / "config.json").read_bytes() for kind in kinds]


def weights() -> list[bytes]:
    return [(fuzz_files.bundle("conv") / "model.safetensors").read_bytes()]


def checkpoints() -> list[bytes]:
    return [fuzz_files.checkpoint_of(None), fuzz_files.checkpoint_of(None, is_old=True)]


def pickles() -> list[bytes]:
    """What stands in data.pkl of an honest checkpoint."""
    return [fuzz_files.pickle_of(fuzz_files.checkpoint_of(None))]


def imports() -> list[bytes]:
    config = json.dumps({"sim_agg_heads": 2}).encode()
    state = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(1, np.float16)}
    from safetensors.numpy import save

    return [config + b"\0" + save(state)]


def bag_mcap() -> list[bytes]:
    """A recording of ours, a robot's, and one whose chunks are compressed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        bags.record(path / "ours.mcap", bags.mixed_up(2), is_live=False, pictures="raw")
        robot = next(bags.robot_bag(path / "robot", num=2).glob("*.mcap"))
        return [
            (path / "ours.mcap").read_bytes(),
            robot.read_bytes(),
            *(fuzz_files.packed_mcap(robot, kind) for kind in ("zstd", "lz4")),
        ]


def bag_sqlite() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        bag = bags.robot_bag(Path(folder) / "bag", "sqlite3", num=2)
        return [next(bag.glob("*.db3")).read_bytes()]


def bag_metadata() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        text = (bags.robot_bag(Path(folder) / "folder", num=2) / "metadata.yaml").read_bytes()
        return [text]


def facts() -> list[bytes]:
    return [json.dumps({"written_by": "av_grounding", "order": "as processed"}).encode(), b"[]"]


def page_messages() -> list[bytes]:
    return [
        b'{"type": "hello", "protocol": 1, "token": "abcdefghijklmnop"}',
        b'{"type":"ack"}',
        b'{"type":"pause"}',
        b'{"type":"resume"}',
        b'{"type":"listen","x":0.25,"y":0.5}',
    ]


def addresses() -> list[bytes]:
    return [b"0.0.0.0:8642", b"[::1]:8642", b"robot.local", b"8642", b"[fe80::1%eth0]:1"]


def tars() -> list[bytes]:
    """A shard of two clips, in the tar formats that programs write."""
    import cv2

    from av_grounding.training.data.media import encode_flac

    members = {
        "a.jpg": cv2.imencode(".jpg", image())[1].tobytes(),
        "a.flac": encode_flac(0.1 * np.sin(np.arange(4000, dtype=np.float32)), 16_000),
        "a.json": b"{}",
    }
    found = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
            for name, content in members.items():
                # A long name makes the formats use their extensions.
                info = tarfile.TarInfo(f"{'folder' * 20}/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        found.append(buffer.getvalue())
    return found


def lists() -> list[bytes]:
    """Every data set's list, behind its index."""
    return [bytes([i]) + entry.seed for i, entry in enumerate(fuzz_files.LISTS)]
