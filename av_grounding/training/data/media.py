"""Decoding and encoding of clips: sounds, pictures, and pictures out of videos."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import check_sample_rate, dbfs, resample, to_mono
from av_grounding.image_header import check_if_known
from av_grounding.sources import decoding
from av_grounding.sources.media_file import MediaFile
from av_grounding.sources.reading import SoundReader
from av_grounding.sources.still import read_image

JPEG_QUALITY = 92
# A file whose packets are damaged more often than this is called unreadable.
MAX_DAMAGED = 0.05
MIN_CLIP_S = 0.2
# Rooms are at about -60 in a recording, the rounding of 16 bits at -98.
MUTED_DBFS = -75.0


def checked_sound(
    reader: SoundReader, sample_rate_hz: int | None, start_s: float, duration_s: float | None
) -> tuple[Float32[np.ndarray, " s"], int]:
    """A stretch of a file's sound on the file's clock, mono, and its rate; None keeps its own.

    Where the file has no sound it is zero; see `is_muted`. Raises ValueError, with the reason, for
    one of which much is damaged or which is nearly nothing.
    """
    sound = reader.read(start_s, duration_s)
    if reader.num_errors > MAX_DAMAGED * reader.num_packets:
        raise ValueError(
            f"{reader.path}: {reader.num_errors} of {reader.num_packets} packets of its sound are "
            "damaged"
        )
    waveform, rate = to_mono(sound.samples), sound.sample_rate_hz
    if len(waveform) < MIN_CLIP_S * check_sample_rate(rate):
        raise ValueError(
            f"{reader.path}: has {len(waveform)} samples of sound from {start_s:.1f} s on"
        )
    if not np.isfinite(waveform).all():
        raise ValueError(f"{reader.path}: its sound holds values that are not finite")
    if sample_rate_hz not in (None, rate):
        waveform = resample(waveform, rate, sample_rate_hz)
    return waveform, sample_rate_hz or rate


def read_waveform(
    path: Path,
    sample_rate_hz: int | None = None,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> tuple[Float32[np.ndarray, " s"], int]:
    """As `checked_sound`, of a file; no longer than the sound or the pictures last."""
    file = open_media(path)
    with closing(file.sound_reader()) as reader:
        if duration_s is not None and file.duration_s:
            duration_s = min(duration_s, max(0.0, file.duration_s - start_s))
        return checked_sound(reader, sample_rate_hz, start_s, duration_s)


def read_frames(path: Path, times_s: list[float]) -> list[UInt8[np.ndarray, "H W 3"]]:
    """The pictures on show at the given times; past the video's end the last one that decodes.

    Raises ValueError for a file without a picture that decodes.
    """
    with closing(open_media(path).picture_reader()) as reader:
        return [reader.at(time_s) for time_s in times_s]


def open_media(path: Path) -> MediaFile:
    """ValueError, for the list of problems, also where the file is not there."""
    try:
        return MediaFile(path)
    except OSError as error:
        raise ValueError(f"{path}: does not open ({error.strerror or error})") from error


def is_muted(waveform: Float32[np.ndarray, " s"]) -> bool:
    """Whether nothing is heard: no sound at all, or noise that no microphone is free of."""
    return dbfs(waveform) < MUTED_DBFS


def decode_sound(data: bytes, name: str) -> tuple[Float32[np.ndarray, " s"], int]:
    """The sound of a shard's member, mono, and its rate; ValueError where it does not decode."""
    import av

    blocks, rate = [], 0
    try:
        with av.open(io.BytesIO(data)) as container:
            if not container.streams.audio:
                raise ValueError(f"{name}: has no sound")
            for frame in container.decode(container.streams.audio[0]):
                rate = frame.sample_rate
                blocks.append(to_mono(decoding.float_samples(frame)))
    except av.FFmpegError as error:
        raise ValueError(f"{name}: its sound does not decode ({error.strerror})") from error
    waveform = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if not rate or len(waveform) < MIN_CLIP_S * check_sample_rate(rate):
        raise ValueError(f"{name}: has {len(waveform)} samples of sound")
    if not np.isfinite(waveform).all():
        raise ValueError(f"{name}: its sound holds values that are not finite")
    return waveform, rate


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
