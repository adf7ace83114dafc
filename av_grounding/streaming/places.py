"""Places in a picture as weights of the model's cells: what a separator is conditioned on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from av_grounding.image import ResizeTransform
from av_grounding.types import HeadAnswer

RADIUS_CELLS = 1.5
"""Around a point: it is meant for a thing, and a thing is wider than a cell."""
SHARPNESS = 15.0
"""Of the attention to a heatmap's similarity, as separators are trained with it."""


class NothingHeard(ValueError):
    """A place was to be found by its sound, and there was none."""


def at_point(
    x_px: float, y_px: float, size: tuple[int, int], grid: tuple[int, int]
) -> Float32[np.ndarray, " r"]:
    """Cells within `RADIUS_CELLS` of a point of an (H, W) picture; ValueError for one off it."""
    height, width = size
    if not (0 <= x_px < width and 0 <= y_px < height):
        raise ValueError(
            f"point {x_px:g},{y_px:g} lies off the picture of {width}x{height} pixels: expected "
            f"x from 0 to {width - 1} and y from 0 to {height - 1}"
        )
    placement = ResizeTransform(height, width, *grid)
    x, y = placement.to_cell_xy(x_px, y_px, grid)
    rows, columns = np.mgrid[: grid[0], : grid[1]]
    near = np.hypot(columns - x, rows - y) <= RADIUS_CELLS
    return near.astype(np.float32).ravel()


def at_mask(
    mask: np.ndarray, size: tuple[int, int], grid: tuple[int, int]
) -> Float32[np.ndarray, " r"]:
    """How much of each cell an (H, W) mask covers; ValueError for another size and for none."""
    if mask.shape != size:
        raise ValueError(
            f"mask of {mask.shape[1]}x{mask.shape[0]} pixels on a picture of "
            f"{size[1]}x{size[0]}: expected one size"
        )
    if not mask.any():
        raise ValueError("the mask marks nothing: expected at least one pixel above 0")
    import cv2

    covered = (mask > 0).astype(np.float32)
    return cv2.resize(covered, grid[::-1], interpolation=cv2.INTER_AREA).ravel()


def at_box(
    left: float, top: float, right: float, bottom: float,
    size: tuple[int, int], grid: tuple[int, int],
) -> Float32[np.ndarray, " r"]:  # fmt: skip
    """How much of each cell a box of pixels covers; ValueError for one that is empty or off."""
    height, width = size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"box {left:g},{top:g},{right:g},{bottom:g} on a picture of {width}x{height} pixels: "
            "expected left < right and top < bottom, within the picture"
        )
    rows, columns = (
        np.clip(np.minimum(stop, edges[1:]) - np.maximum(start, edges[:-1]), 0.0, None)
        for start, stop, edges in (
            (top, bottom, np.linspace(0, height, grid[0] + 1)),
            (left, right, np.linspace(0, width, grid[1] + 1)),
        )
    )
    return np.outer(rows, columns).astype(np.float32).ravel()


def at_peak(answer: HeadAnswer, scale: float) -> Float32[np.ndarray, " r"] | None:
    """Where a head's heatmap is highest, as attention to its cells; None: nothing was heard.

    `scale` is that of the head's calibration, by which its logits become similarities again.
    """
    if not len(answer.logits):
        return None
    similarity = answer.logits.max(axis=0).ravel() / max(abs(scale), 1e-6)
    weights = np.exp(SHARPNESS * (similarity - similarity.max()))
    return (weights / weights.sum()).astype(np.float32)
