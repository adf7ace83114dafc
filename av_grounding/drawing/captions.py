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
    mark: str,
    center: tuple[int, int],
    radius_px: int,
    color: tuple[int, int, int],
    line_px: int = -1,
    reach: float = 1.25,
) -> None:
    """A head's sign (see `styles.Style`), filled or as a line; `reach`: of corners, in radii."""
    import cv2

    x, y = center
    if mark == "disc":
        cv2.circle(canvas, center, radius_px, color, line_px, cv2.LINE_AA)
        return
    far = round(radius_px * reach)
    corners = {
        "diamond": [(x, y - far), (x + far, y), (x, y + far), (x - far, y)],
        "square": [(x - radius_px, y - radius_px), (x + radius_px, y - radius_px),
                   (x + radius_px, y + radius_px), (x - radius_px, y + radius_px)],
        "triangle": [(x, y - far), (x + far, y + radius_px), (x - far, y + radius_px)],
    }[mark]  # fmt: skip
    points = np.array(corners, np.int32)
    if line_px < 0:
        cv2.fillPoly(canvas, [points], color, cv2.LINE_AA)
    else:
        cv2.polylines(canvas, [points], True, color, line_px, cv2.LINE_AA)


@lru_cache
def _face() -> Any:
    """OpenCV's built-in outline font, which it has from version 5 on."""
    import cv2

    return cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None
