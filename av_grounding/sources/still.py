"""Still pictures: read one, and show it as a video."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from av_grounding.audio import NS_PER_S
from av_grounding.files import one_line
from av_grounding.image_header import MAX_OPENCV_PX, check_if_known
from av_grounding.sources.playback import PlaybackClock
from av_grounding.types import Frame

# OpenCV reads the first picture of these; they are videos.
MOVING_SUFFIXES = {".gif", ".mjpg", ".mjpeg"}
BRANDS_BYTES = 256
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis"}
"""Single pictures in HEVC. An AVIF is also a HEIF, and OpenCV reads it."""
PICTURE_BRANDS = {*HEIF_BRANDS, b"avif"}
SEQUENCE_BRANDS = {b"hevc", b"hevx", b"avis", b"msf1", b"qt  ", b"isom", b"mp42"}


def is_still(path: Path) -> bool:
    """Whether the file's first bytes are those of a picture format that `read_image` reads."""
    import cv2

    if path.suffix.lower() in MOVING_SUFFIXES:
        return False
    with open(path, "rb") as file:
        brands = _brands(file.read(BRANDS_BYTES))
    return bool(brands & PICTURE_BRANDS) or cv2.haveImageReader(str(path))


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """A picture file as RGB, upright by its EXIF orientation; ValueError if it does not decode."""
    import cv2

    encoded = np.fromfile(path, np.uint8)
    check_if_known(memoryview(encoded), path)
    if _brands(encoded[:BRANDS_BYTES].tobytes()) & HEIF_BRANDS:
        return _read_heif(path, encoded.tobytes())
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    except cv2.error:  # dimensions beyond what OpenCV accepts
        image = None
    if image is None:
        raise ValueError(
            f"{path}: {encoded.size} bytes that do not decode as a picture; expected JPEG, PNG, "
            "WebP, BMP, TIFF or HEIC: save the picture again in one of these"
        )
    return np.ascontiguousarray(image[..., ::-1])


def _brands(start: bytes) -> set[bytes]:
    """What an ISO base media file says that it is; for a sequence of pictures that alone."""
    if start[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(start[:4], "big"), len(start))
    brands = {start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))}
    # A sequence is a video, and FFmpeg plays it, unless its first picture is its cover.
    return {start[8:12]} if start[8:12] in SEQUENCE_BRANDS else brands


def _read_heif(path: str | Path, encoded: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """A photograph of a phone: a grid of tiles, of which FFmpeg would give the first alone."""
    try:
        import pi_heif as heif
    except ImportError:
        try:
            import pillow_heif as heif
        except ImportError:
            raise ValueError(
                f"{path}: a HEIC picture, expected one that OpenCV reads, or pi-heif: "
                "pip install pi-heif, or save it as JPEG"
            ) from None
    try:
        if _is_cut(encoded):  # the decoder would paint what is missing
            raise ValueError("it is cut off")
        image = heif.open_heif(encoded)
        width, height = image.size
        if width * height > MAX_OPENCV_PX:
            raise ValueError(f"{width}x{height} pixels are more than {MAX_OPENCV_PX}")
        pixels = np.array(image)  # a copy: the decoder's memory goes with `image`
    except (ValueError, RuntimeError, OSError, EOFError, MemoryError) as error:
        raise ValueError(
            f"{path}: a HEIC picture that does not decode ({one_line(error, 100)}); copy it again "
            "or save it as JPEG"
        ) from error
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.ascontiguousarray(np.broadcast_to(pixels[..., :3], (*pixels.shape[:2], 3)))


def _is_cut(data: bytes) -> bool:
    """Whether an ISO base media file ends within one of its boxes."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # 0: to the end of the file; or what a phone has put behind the picture
            return False
        at += size
    return at > len(data)


class StillFrames:
    """One picture as a Source of frames: once, or `frame_rate_hz` times a second.

    `duration_s` None gives a single frame; `math.inf` repeats it until `close`.
    """

    def __init__(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        clock: PlaybackClock,
        duration_s: float | None = None,
        frame_rate_hz: float = 10.0,
    ) -> None:
        self.frame_rate_hz = frame_rate_hz
        self._image = image
        self._clock = clock
        self._duration_s = duration_s
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        for index in itertools.count():
            time_s = index / self.frame_rate_hz
            if index > 0 and (self._duration_s is None or time_s >= self._duration_s):
                return
            media_ns = round(time_s * NS_PER_S)
            if not self._clock.wait(media_ns, self._closed):
                return
            yield Frame(self._image, self._clock.stamp(media_ns))

    def close(self) -> None:
        """End the iteration, also from another thread."""
        self._closed.set()
