"""FFmpeg streams through PyAV: probe one, decode one, and turn its frames into arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import to_float32
from av_grounding.sources.timeline import Timeline, clock_may_jump

if TYPE_CHECKING:
    import av

MediaType = Literal["video", "audio"]

# How far into a stream a first decodable frame is looked for.
NUM_PROBE_PACKETS = 500
# FFmpeg's AV_DISPOSITION_ATTACHED_PIC: the cover of a music file is no video.
ATTACHED_PICTURE = 0x400
# Its AV_DISPOSITION_DEPENDENT: a tile of a picture, an enhancement of another stream.
DEPENDENT = 1 << 19
# Fewer columns more or less are not worth resampling every picture; encoders round that much.
SQUARE_WITHIN = 0.01
# What a file says of its pixels beyond this is nonsense.
MAX_PIXEL_ASPECT = 4.0
# FFmpeg draws any text file as a video of a terminal.
TEXT_CODECS = {"ansi", "bintext", "idf", "xbin"}


@dataclass(frozen=True)
class StreamProbe:
    """What the first decodable frame of a stream tells, or why there is none (`fault`).

    `pixel_aspect` is the width of a pixel over its height. `passed_over` says what is wrong with
    the streams of the kind that come before.
    """

    index: int
    codec: str
    start_s: float = 0.0
    image_size: tuple[int, int] = (0, 0)
    sample_rate_hz: int = 0
    num_channels: int = 0
    frame_rate_hz: float = 0.0
    pixel_aspect: float = 1.0
    fault: str | None = None
    passed_over: tuple[str, ...] = ()


def unreadable(path: Path, found: str) -> str:
    return (
        f"{path}: cannot be decoded ({found}); expected a video, a sound or a picture in a codec "
        f"that FFmpeg knows: convert it, for example with ffmpeg -i {path.name} "
        "-c:v libx264 -c:a aac converted.mp4"
    )


def probe_streams(path: Path) -> tuple[dict[MediaType, StreamProbe], float | None]:
    """The first video and audio streams that decode, and the duration in seconds.

    The duration is None where the file does not state it. Where no stream of a kind decodes, the
    probe is the first one's. Raises ValueError if FFmpeg cannot open the file or nothing in it
    decodes.
    """
    import av

    probes: dict[MediaType, StreamProbe] = {}
    try:
        with av.open(str(path)) as container:
            is_stated = container.duration and not clock_may_jump(container)
            duration_s = container.duration / 1e6 if is_stated else None
            indices = {kind: _indices(container, kind) for kind in ("video", "audio")}
        for kind, found in indices.items():
            if found:
                probes[kind] = _probe_first(path, kind, found)
    except av.FFmpegError as error:
        raise ValueError(unreadable(path, error.strerror or str(error))) from error
    if not probes:
        raise ValueError(unreadable(path, "no video and no audio stream in it"))
    faults = [probe.fault for probe in probes.values() if probe.fault is not None]
    if len(faults) == len(probes):
        raise ValueError(faults[0])
    return probes, duration_s


def packets(
    container: av.container.InputContainer, indices: Iterable[int], on_error: Callable[[], None]
) -> Timeline:
    """The packets of these streams, in the file's order and on its one clock.

    `on_error` is called where the rest of the file cannot be found.
    """
    import av

    def demuxed() -> Iterator[av.Packet]:
        try:
            yield from container.demux([container.streams[index] for index in indices])
        except av.FFmpegError:
            on_error()

    return Timeline(demuxed(), may_jump=clock_may_jump(container))


def decode(
    found: Iterable[av.Packet], index: int, on_error: Callable[[], None]
) -> Iterator[av.frame.Frame]:
    """All frames of stream `index` that decode; `on_error` for each packet that does not."""
    import av

    for packet in found:
        if packet.stream.index == index:
            try:
                frames = packet.decode()
            except av.FFmpegError:
                on_error()
                continue
            yield from frames


def stream_end_s(container: av.container.InputContainer, stream: av.stream.Stream) -> float | None:
    """Where the file says that the stream ends, on the file's own time axis; None: it does not."""
    if clock_may_jump(container):
        return None
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


def measured_duration_s(path: Path, indices: Iterable[int]) -> float:
    """From the first to the end of the last of these streams, by walking through the packets."""
    import av

    first_s = float("inf")
    with av.open(str(path)) as container:
        timeline = packets(container, indices, lambda: None)
        for packet in timeline:
            if packet.pts is not None and packet.time_base:
                first_s = min(first_s, float(packet.pts * packet.time_base))
    return max(timeline.end_s - first_s, 0.0)


def pixel_aspect(stream: av.VideoStream) -> float:
    """How much wider than high the stream's pixels are; 1 for those that nearly are square."""
    ratio = float(stream.sample_aspect_ratio or 1)
    is_strange = not 1 / MAX_PIXEL_ASPECT <= ratio <= MAX_PIXEL_ASPECT
    return 1.0 if is_strange or abs(ratio - 1.0) <= SQUARE_WITHIN else ratio


def upright(frame: av.VideoFrame, aspect: float = 1.0) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels as they are to be seen: square, the display matrix (rotation, mirror) applied."""
    image = frame.to_ndarray(format="rgb24", width=max(1, round(frame.width * aspect)))
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


def _indices(container: av.container.InputContainer, kind: MediaType) -> list[int]:
    return [
        stream.index
        for stream in container.streams
        if stream.type == kind and not int(stream.disposition) & (ATTACHED_PICTURE | DEPENDENT)
    ]


def _probe_first(path: Path, kind: MediaType, indices: list[int]) -> StreamProbe:
    faulty: list[StreamProbe] = []
    for index in indices:
        probe = _probe_stream(path, kind, index)
        if probe.fault is None:
            return replace(probe, passed_over=tuple(one.fault or "" for one in faulty))
        faulty.append(probe)
    return faulty[0]


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
            for frame in decode(packets(container, [index], on_error), index, on_error):
                start_s = frame.time or 0.0
                if isinstance(frame, av.VideoFrame):
                    rate = stream.average_rate or stream.guessed_rate
                    aspect = pixel_aspect(stream)
                    return StreamProbe(
                        index, codec, start_s, upright(frame, aspect).shape[:2],
                        frame_rate_hz=float(rate or 0), pixel_aspect=aspect,
                    )  # fmt: skip
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
