"""Text and marks on a rendered clip."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np

# Cap height of OpenCV's stroke font at scale 1, for versions without a real one.
STROKE_FONT_PX = 30


def draw_text(
    canvas: np.ndarray,
    text: str,
    origin: tuple[int, int],
    size_px: int,
    color: tuple[int, int, int],
    *,
    bold: bool = False,
    align: Literal["left", "right"] = "left",
) -> int:
    """ASCII text with its baseline at `origin` (x, y), which is its right end if aligned so.

    Returns where it ends.
    """
    import cv2

    face, (x, y) = _face(), origin
    if face is None:
        scale, weight = size_px / STROKE_FONT_PX, 2 if bold else 1
        font = cv2.FONT_HERSHEY_DUPLEX
        width = cv2.getTextSize(text, font, scale, weight)[0][0]
        x -= width if align == "right" else 0
        cv2.putText(canvas, text, (x, y), font, scale, color, weight, cv2.LINE_AA)
        return x + width
    weight = 600 if bold else 400
    flags = cv2.PUT_TEXT_ALIGN_RIGHT if align == "right" else cv2.PUT_TEXT_ALIGN_LEFT
    end, _ = cv2.putText(canvas, text, (x, y), color, face, size_px, weight, flags)
    return x if align == "right" else int(end[0])


def draw_mark(
    canvas: np.ndarray,
    head: str,
    center: tuple[int, int],
    radius_px: int,
    color: tuple[int, int, int],
) -> None:
    """The head's sign: a disc for sound, a diamond for speech."""
    import cv2

    if head == "sound":
        cv2.circle(canvas, center, radius_px, color, -1, cv2.LINE_AA)
    else:
        x, y = center
        reach = round(radius_px * 1.25)
        corners = [(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)]
        cv2.fillPoly(canvas, [np.array(corners, np.int32)], color, cv2.LINE_AA)


@lru_cache
def _face() -> Any:
    """OpenCV's built-in outline font, which it has from version 5 on."""
    import cv2

    return cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None
