"""Annotated boxes: parsing, malformed ones, and the masks that the field draws from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32

from av_grounding.files import brief

Box = tuple[float, float, float, float]
BoxFormat = Literal["xyxy", "xywh"]
MARGIN = 0.5
MAX_SHOWN_EDGES = 8


class ParsedBoxes(NamedTuple):
    """Boxes as xyxy fractions clipped to [0, 1], and a line for each that is malformed."""

    boxes: tuple[Box, ...]
    malformed: tuple[str, ...]


def parse_boxes(
    values: Sequence[Any], box_format: BoxFormat, scale: tuple[float, float] = (1, 1)
) -> ParsedBoxes:
    """Normalise boxes by `scale` (width, height), clip them, and set the malformed ones aside.

    Values are as a file holds them. Malformed: not four finite numbers, an edge further than half
    an image outside, or no area left after clipping. Such a box is left out of the ground truth
    and listed; it is never repaired.
    """
    if box_format not in ("xyxy", "xywh"):
        raise ValueError(f"got box format {box_format!r}, expected 'xyxy' or 'xywh'")
    boxes, malformed = [], []
    for value in values:
        edges = _edges(value, box_format, scale)
        if edges is None:
            malformed.append(_shown(value))
        else:
            boxes.append(edges)
    return ParsedBoxes(tuple(boxes), tuple(malformed))


def _shown(value: Any) -> str:
    """As it stands, unless that is long."""
    if isinstance(value, list | tuple) and len(value) <= MAX_SHOWN_EDGES:
        return f"[{', '.join(brief(edge) for edge in value)}]"
    return brief(value)


def _edges(value: Any, box_format: str, scale: tuple[float, float]) -> Box | None:
    try:
        left, top, right, bottom = (float(number) for number in value)
    except (TypeError, ValueError, OverflowError):
        return None
    if box_format == "xywh":
        right, bottom = left + right, top + bottom
    edges = [left / scale[0], top / scale[1], right / scale[0], bottom / scale[1]]
    if not all(math.isfinite(edge) and -MARGIN <= edge <= 1.0 + MARGIN for edge in edges):
        return None
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    return (left, top, right, bottom) if left < right and top < bottom else None


def union_mask(boxes: Sequence[Box], height: int, width: int) -> Float32[np.ndarray, "H W"]:
    """1 inside any box (VGG-SS, MUSIC): edges at int(size · fraction), the far one excluded."""
    return np.minimum(_sum(boxes, height, width), 1.0)


def consensus_mask(
    boxes: Sequence[Box], height: int, width: int, num_required: int = 2
) -> Float32[np.ndarray, "H W"]:
    """The number of boxes over a pixel, divided by `num_required` and clipped at 1 (Flickr)."""
    return np.minimum(_sum(boxes, height, width) / np.float32(num_required), 1.0)


def _sum(boxes: Sequence[Box], height: int, width: int) -> Float32[np.ndarray, "H W"]:
    total = np.zeros((height, width), np.float32)
    for left, top, right, bottom in boxes:
        rows = slice(int(height * top), int(height * bottom))
        total[rows, int(width * left) : int(width * right)] += 1.0
    return total
