"""Photographs of places, which scenes stand in."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import UInt8

from av_grounding.everyday.media import decode_picture
from av_grounding.everyday.parts import PARTS
from av_grounding.everyday.things import archive

ARCHIVE = "explore_monuments.rcc"
MIN_ASPECT = 1.2
"""Of width to height: a taller one would lose half of itself."""


def num_places(part: str) -> int:
    """How many places a part has; the parts share none."""
    return len(_places(part))


@lru_cache(maxsize=64)
def place(part: str, number: int, height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
    """A place, cropped in its middle and scaled to a size."""
    image = _decoded(_places(part)[number])
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    image = cv2.resize(image, size, interpolation=method)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


@lru_cache(maxsize=2)
def _places(part: str) -> tuple[str, ...]:
    names = [name for name in archive(ARCHIVE).names if name.endswith(".webp")]
    wide = [name for name in names if _aspect(name) >= MIN_ASPECT]
    return tuple(wide[list(PARTS).index(part) :: len(PARTS)])


@lru_cache(maxsize=64)
def _aspect(name: str) -> float:
    height, width = _decoded(name).shape[:2]
    return width / height


def _decoded(name: str) -> UInt8[np.ndarray, "H W 3"]:
    return decode_picture(archive(ARCHIVE).read(name), name)[..., :3]
