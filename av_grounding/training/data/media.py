"""Decoding and encoding of clips: sounds, pictures, and pictures out of videos."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import check_sample_rate, resample, to_mono
from av_grounding.image_header import check_if_known
from av_grounding.sources import decoding
from av_grounding.sources.still import read_image

JPEG_QUALITY = 92
# A file whose packets are damaged more often than this is called unreadable.
MAX_DAMAGED = 0.05
MIN_CLIP_S = 0.2


def read_waveform(
    source: Path | io.BytesIO,
    sample_rate_hz: int | None = None,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    name: str | None = None,
) -> tuple[Float32[np.ndarray, " s"], int]:
    """The sound of a file, mono, and its rate; None keeps the file's own rate.

    Raises ValueError, with the reason, for a file without sound, one that does not decode, or
    one whose sound is nearly nothing.
    """
    import av

    name = name or str(source)
    blocks, rate, num_damaged = [], 0, 0
    try:
        with av.open(str(source) if isinstance(source, Path) else source) as container:
            if not container.streams.audio:
                raise ValueError(f"{name}: has no sound")
            stream = container.streams.audio[0]
            origin_s = float((stream.start_time or 0) * stream.time_base)
            if start_s:
                container.seek(round((origin_s + start_s) / stream.time_base), stream=stream)
            first_s, num_samples, damaged = None, 0, []
            for frame in decoding.decode(container, stream, lambda: damaged.append(None)):
                rate = frame.sample_rate
                if first_s is None:
                    first_s = (frame.time or 0.0) - origin_s
                blocks.append(to_mono(decoding.float_samples(frame)))
                num_samples += len(blocks[-1])
                if duration_s and first_s + num_samples / rate >= start_s + duration_s:
                    break
            num_damaged = len(damaged)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{name}: its sound does not open ({error.strerror})") from error
    num_packets = num_damaged + len(blocks)
    if num_damaged > MAX_DAMAGED * num_packets:
        raise ValueError(
            f"{name}: {num_damaged} of {num_packets} packets of its sound are damaged"
        )
    waveform = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if start_s and blocks:
        waveform = waveform[max(0, round((start_s - first_s) * rate)) :]
    if duration_s:
        waveform = waveform[: round(duration_s * rate)]
    if len(waveform) < MIN_CLIP_S * check_sample_rate(rate or 16_000):
        raise ValueError(f"{name}: has {len(waveform)} samples of sound from {start_s:.1f} s on")
    if not np.isfinite(waveform).all():
        raise ValueError(f"{name}: its sound holds values that are not finite")
    if sample_rate_hz not in (None, rate):
        waveform = resample(waveform, rate, sample_rate_hz)
    return waveform, sample_rate_hz or rate


def read_frames(path: Path, times_s: list[float]) -> list[UInt8[np.ndarray, "H W 3"]]:
    """The video's frames at the given times, ascending; past its end the last one that decodes.

    Raises ValueError for a file without a picture that decodes.
    """
    import av

    images: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path}: has no picture")
            stream = container.streams.video[0]
            stream.thread_type = "SLICE"
            origin_s = float((stream.start_time or 0) * stream.time_base)
            for time_s in times_s:
                container.seek(round((origin_s + time_s) / stream.time_base), stream=stream)
                found = None
                for frame in decoding.decode(container, stream, lambda: None):
                    found = frame
                    if frame.time is None or frame.time - origin_s >= time_s - 1e-3:
                        break
                if found is not None:
                    images.append(decoding.upright(found))
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: its picture does not open ({error.strerror})") from error
    if not images:
        raise ValueError(f"{path}: no frame decodes")
    return images


def video_duration_s(path: Path) -> float:
    """As the container states it, else measured; ValueError for a file that does not open."""
    import av

    try:
        with av.open(str(path)) as container:
            if container.duration:
                return container.duration / 1e6
        return decoding.measured_duration_s(path)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: does not open ({error.strerror})") from error


def read_still(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """A picture file as RGB; ValueError if it is unreadable."""
    try:
        return read_image(path)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def shrink(image: UInt8[np.ndarray, "H W 3"], short_side_px: int) -> UInt8[np.ndarray, "h w 3"]:
    """The image with its short side at most `short_side_px`, its aspect kept."""
    import cv2

    scale = short_side_px / min(image.shape[:2])
    if scale >= 1.0:
        return image
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def square(
    image: UInt8[np.ndarray, "H W 3"], side_px: int, place: float = 0.5
) -> UInt8[np.ndarray, "s s 3"]:
    """A square cut from the image at `place` (0 to 1) along its long side, `side_px` wide."""
    import cv2

    side = min(image.shape[:2])
    top, left = (round(place * (length - side)) for length in image.shape[:2])
    cut = np.ascontiguousarray(image[top : top + side, left : left + side])
    if side == side_px:
        return cut
    kind = cv2.INTER_AREA if side > side_px else cv2.INTER_LINEAR
    return cv2.resize(cut, (side_px, side_px), interpolation=kind)


def encode_jpeg(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    import cv2

    fine, encoded = cv2.imencode(
        ".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not fine:
        raise ValueError(f"a picture of shape {image.shape} does not encode as JPEG")
    return encoded.tobytes()


def decode_picture(data: bytes, name: str) -> UInt8[np.ndarray, "H W 3"]:
    import cv2

    check_if_known(data, name)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # dimensions beyond what OpenCV accepts
        image = None
    if image is None:
        raise ValueError(f"{name}: {len(data)} bytes that do not decode as a picture")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def encode_flac(waveform: Float32[np.ndarray, " s"], sample_rate_hz: int) -> bytes:
    """16-bit FLAC, which loses nothing that a microphone of 16 bits has heard."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as container:
        stream: Any = container.add_stream("flac", rate=sample_rate_hz)
        stream.layout, stream.format = "mono", "s16"
        pcm = np.round(np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = sample_rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
