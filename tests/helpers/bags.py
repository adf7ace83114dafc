"""What the tests of bags share: bags written by rosbags, recordings of a small model, readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.transports import messages
from av_grounding.transports.bag.reader import shared_typestore
from av_grounding.transports.bag.recorder import BagRecorder
from av_grounding.types import AudioChunk, Backend, Frame, Grounding, Stream
from tests.helpers.tiny_backend import TinyBackend

START_NS = 1_700_000_000_123_456_789
RATE_HZ = 16_000
STORAGES = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}
HEADER_NS = 5_000_000
"""How long a message of the bags made here takes from its stamp to its log time."""


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Another smooth image with some noise for every index."""
    rng = np.random.default_rng(index)
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 3 + index, y * 4, (x + y) * 2 + 5 * index], axis=2)
    return (image + rng.integers(0, 8, image.shape)).astype(np.uint8)


def pictures(num: int, rate_hz: float = 10.0) -> list[Frame]:
    return [Frame(picture(i), START_NS + round(i / rate_hz * 1e9), "optical") for i in range(num)]


def sounds(duration_s: float, dtype=np.float32, channels=1, rate_hz=RATE_HZ) -> list[AudioChunk]:
    """Noise bursts in chunks of 20 ms."""
    rng = np.random.default_rng(7)
    size = rate_hz // 50
    chunks = []
    for i in range(round(duration_s * 50)):
        loud = 0.3 * rng.standard_normal((size, channels)) * (i // 25 % 2 == 0)
        if np.dtype(dtype).kind == "i":
            loud = loud * np.iinfo(dtype).max / 4
        samples = loud.astype(dtype)[:, 0] if channels == 1 else loud.astype(dtype)
        chunks.append(AudioChunk(samples, START_NS + i * 20_000_000, rate_hz))
    return chunks


class BagWriter:
    """A bag of a robot: any message of ours on any topic, written by rosbags."""

    def __init__(self, path: Path, storage: str = "mcap", audio: str = "ros-drivers") -> None:
        self._store = shared_typestore(audio)
        self._writer = Writer(path, version=9, storage_plugin=STORAGES[storage])
        self._writer.open()
        self._connections = {}

    def add(self, topic: str, fields: messages.Fields, log_ns: int) -> None:
        name = fields.type_name
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, name, typestore=self._store
            )
        message = messages.build(fields, self._store.types.__getitem__)
        data = self._store.serialize_cdr(message, name)
        self._writer.write(self._connections[topic], log_ns, data)

    def add_picture(self, frame: Frame, topic: str = "/camera/image_raw") -> None:
        fields = messages.image_fields(frame.image, "rgb8", frame.stamp_ns, frame.frame_id)
        self.add(topic, fields, frame.stamp_ns + HEADER_NS)

    def add_sound(self, chunk: AudioChunk, topic: str = "/audio/audio") -> None:
        end_ns = chunk.stamp_ns + len(chunk.samples) * 10**9 // chunk.sample_rate_hz
        self.add(topic, messages.audio_fields(chunk), end_ns + HEADER_NS)

    def close(self) -> Path:
        self._writer.close()
        return self._writer.path


def robot_bag(path: Path, storage: str = "mcap", num: int = 20) -> Path:
    """Raw pictures at 10 Hz and ros-drivers' sound with its AudioInfo."""
    writer = BagWriter(path, storage)
    items = [*pictures(num), *sounds(num / 10, np.int16)]
    first = next(item for item in items if isinstance(item, AudioChunk))
    writer.add("/audio/audio_info", messages.audio_info_fields(first), START_NS)
    for item in sorted(items, key=lambda item: item.stamp_ns):
        (writer.add_picture if isinstance(item, Frame) else writer.add_sound)(item)
    return writer.close()


def answer_of(grounding: Grounding) -> tuple:
    """All that it says: the name, the shape and the bytes of each head's logits, and the stamp."""
    heads = ((h, a.logits.shape, a.logits.tobytes()) for h, a in grounding.heads.items())
    return (*heads, grounding.stamp_ns)


def record(path: Path, steps, backend: Backend | None = None, **options) -> list[tuple]:
    """Push `steps` (frames and chunks) into a small model, record it, return its answers."""
    recorder = BagRecorder(path, **options)
    stream = recorder.wrap(GroundingStream(backend or TinyBackend()))
    answers = push(stream, steps)
    recorder.close()
    return answers


def push(stream: Stream, steps) -> list[tuple]:
    answers = []
    for step in steps:
        if isinstance(step, AudioChunk):
            stream.push_audio(step.samples, step.stamp_ns, step.sample_rate_hz)
        else:
            grounding = stream.push_frame(step.image, step.stamp_ns, step.frame_id)
            answers.append(answer_of(grounding))
    return answers


def mixed_up(num_frames: int = 20, dtype=np.float32, channels: int = 1) -> list:
    """Frames and sound as a busy machine takes them: late sound, bursts, nothing sorted."""
    rng = np.random.default_rng(3)
    steps = []
    waiting = [*sounds(num_frames / 10, dtype, channels)]
    for frame in pictures(num_frames):
        arrived = [c for c in waiting if c.stamp_ns <= frame.stamp_ns]
        # Up to 15 chunks (0.3 s) have not come yet.
        taken = arrived[: max(0, len(arrived) - int(rng.integers(0, 16)))]
        steps += [*taken, frame]
        waiting = waiting[len(taken) :]
    return steps


def read_topics(path: Path) -> dict[str, list]:
    """Every message of a recording by topic, read by rosbags with the bag's own definitions."""
    from rosbags.highlevel import AnyReader

    found: dict[str, list] = {}
    with AnyReader([path]) as reader:
        for connection, log_ns, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((log_ns, message))
    return found
