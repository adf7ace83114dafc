"""FFmpeg streams through PyAV: probe one, decode one, and turn its frames into arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import to_float32

if TYPE_CHECKING:
    import av

MediaType = Literal["video", "audio"]

# How far into a stream a first decodable frame is looked for.
NUM_PROBE_PACKETS = 500
# FFmpeg's AV_DISPOSITION_ATTACHED_PIC: the cover of a music file is no video.
ATTACHED_PICTURE = 0x400
# FFmpeg draws any text file as a video of a terminal.
TEXT_CODECS = {"ansi", "bintext", "idf", "xbin"}


@dataclass(frozen=True)
class StreamProbe:
    """What the first decodable frame of a stream tells, or why there is none (`fault`)."""

    index: int
    codec: str
    start_s: float = 0.0
    image_size: tuple[int, int] = (0, 0)
    sample_rate_hz: int = 0
    num_channels: int = 0
    frame_rate_hz: float = 0.0
    fault: str | None = None


def unreadable(path: Path, found: str) -> str:
    return (
        f"{path}: cannot be decoded ({found}); expected a video, a sound or a picture in a codec "
        f"that FFmpeg knows: convert it, for example with ffmpeg -i {path.name} "
        "-c:v libx264 -c:a aac converted.mp4"
    )


def probe_streams(path: Path) -> tuple[dict[MediaType, StreamProbe], float | None]:
    """The first video and the first audio stream, and the duration in seconds (None: unknown).

    Raises ValueError if FFmpeg cannot open the file or nothing in it decodes.
    """
    import av

    probes: dict[MediaType, StreamProbe] = {}
    try:
        with av.open(str(path)) as container:
            duration_s = container.duration / 1e6 if container.duration else None
            indices = {kind: _first_index(container, kind) for kind in ("video", "audio")}
        for kind, index in indices.items():
            if index is not None:
                probes[kind] = _probe_stream(path, kind, index)
    except av.FFmpegError as error:
        raise ValueError(unreadable(path, error.strerror or str(error))) from error
    if not probes:
        raise ValueError(unreadable(path, "no video and no audio stream in it"))
    faults = [probe.fault for probe in probes.values() if probe.fault is not None]
    if len(faults) == len(probes):
        raise ValueError(faults[0])
    return probes, duration_s


def decode(
    container: av.container.InputContainer, stream: av.stream.Stream, on_error: Callable[[], None]
) -> Iterator[av.frame.Frame]:
    """All frames of a stream that decode; `on_error` is called for each packet that does not."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:  # nothing after this point of the file can be found
            on_error()
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            on_error()
            continue
        yield from frames


def stream_end_s(container: av.container.InputContainer, stream: av.stream.Stream) -> float | None:
    """Where the file says that the stream ends, on the file's own time axis."""
    start_s = float((stream.start_time or 0) * stream.time_base)
    if stream.duration:
        return start_s + float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska's, hh:mm:ss.fraction
    if tag.count(":") == 2:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if container.duration:
        return ((container.start_time or 0) + container.duration) / 1e6
    return None


def measured_duration_s(path: Path) -> float:
    """Duration of a file that states none, by walking through its packets."""
    import av

    first_s, last_s = float("inf"), 0.0
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None and packet.time_base:
                begin_s = float(packet.pts * packet.time_base)
                first_s = min(first_s, begin_s)
                last_s = max(last_s, begin_s + float((packet.duration or 0) * packet.time_base))
    return max(last_s - first_s, 0.0)


def upright(frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels with the frame's display matrix (rotation, mirroring) applied."""
    image = frame.to_ndarray(format="rgb24")
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return image
    # Row-major 3x3: x' = a x + c y, y' = b x + d y; a player can show right angles only.
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32, count=5).tolist()
    if abs(a) < abs(b):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def float_samples(frame: av.AudioFrame) -> Float32[np.ndarray, "s channels"]:
    """Samples of any FFmpeg format, planar or packed, integers scaled to [-1, 1)."""
    samples = frame.to_ndarray()
    if frame.format.is_planar:
        samples = samples.T
    else:
        samples = samples.reshape(-1, frame.layout.nb_channels)
    return np.ascontiguousarray(to_float32(samples))


def _first_index(container: av.container.InputContainer, kind: MediaType) -> int | None:
    for stream in container.streams:
        if stream.type == kind and not int(stream.disposition) & ATTACHED_PICTURE:
            return stream.index
    return None


def _probe_stream(path: Path, kind: MediaType, index: int) -> StreamProbe:
    import av

    num_bad = num_seen = 0

    def on_error() -> None:
        nonlocal num_bad
        num_bad += 1

    with av.open(str(path)) as container:
        stream = container.streams[index]
        context = stream.codec_context
        if context is None:
            fault = unreadable(path, f"its {kind} is in a codec that FFmpeg has no decoder for")
            return StreamProbe(index, "unknown", fault=fault)
        codec = context.name
        if codec in TEXT_CODECS:
            return StreamProbe(index, codec, fault=unreadable(path, "it is text"))
        try:
            for frame in decode(container, stream, on_error):
                start_s = frame.time or 0.0
                if isinstance(frame, av.VideoFrame):
                    rate = stream.average_rate or stream.guessed_rate
                    size = upright(frame).shape[:2]
                    return StreamProbe(index, codec, start_s, size, frame_rate_hz=float(rate or 0))
                if frame.samples:
                    rate, channels = frame.sample_rate, frame.layout.nb_channels
                    return StreamProbe(
                        index, codec, start_s, sample_rate_hz=rate, num_channels=channels
                    )
                num_seen += 1
                if num_seen + num_bad > NUM_PROBE_PACKETS:
                    break
        except ValueError as error:  # a pixel or sample format that has no array form
            return StreamProbe(index, codec, fault=unreadable(path, f"{kind} {codec}: {error}"))
    if num_bad:
        found = f"none of the first {num_bad} packets of its {kind} ({codec}) decodes"
        return StreamProbe(index, codec, fault=unreadable(path, found))
    fault = (
        f"{path}: its {kind} ({codec}) is empty, of zero length; "
        "name a file with at least one frame or sample, or record it again"
    )
    return StreamProbe(index, codec, fault=fault)
