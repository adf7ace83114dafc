"""Still pictures: read one, and show it as a video."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from av_grounding.audio import NS_PER_S
from av_grounding.image_header import check_if_known
from av_grounding.sources.playback import PlaybackClock
from av_grounding.types import Frame

# OpenCV reads the first picture of these; they are videos.
MOVING_SUFFIXES = {".gif", ".mjpg", ".mjpeg"}


def is_still(path: Path) -> bool:
    """Whether the file's first bytes are those of a picture format that OpenCV reads."""
    import cv2

    return path.suffix.lower() not in MOVING_SUFFIXES and cv2.haveImageReader(str(path))


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """A picture file as RGB, upright by its EXIF orientation; ValueError if it does not decode."""
    import cv2

    encoded = np.fromfile(path, np.uint8)
    check_if_known(memoryview(encoded), path)
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    except cv2.error:  # dimensions beyond what OpenCV accepts
        image = None
    if image is None:
        raise ValueError(
            f"{path}: {encoded.size} bytes that do not decode as a picture; expected JPEG, PNG, "
            "WebP, BMP or TIFF: save the picture again in one of these"
        )
    return np.ascontiguousarray(image[..., ::-1])


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
