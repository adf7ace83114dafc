"""Places in a picture: what a separator is conditioned on.

As weights of the model's cells, or as its pixels where a model looks at a place alone.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from av_grounding.image import ResizeTransform
from av_grounding.types import Backend, HeadAnswer, ImageTokens

Area = tuple[slice, slice]
"""Rows and columns of a picture's pixels."""
RADIUS_CELLS = 1.5
"""Around a point: it is meant for a thing, and a thing is wider than a cell."""
POINT_SIDE = 1 / 6
"""Of the square around a point that is looked at alone, as a share of the picture's short side. Of
80 instruments in validation scenes, a fifth to a third of the picture wide, it has 88 % named
right, the cells around the point 61 %."""
SHARPNESS = 15.0
"""Of the attention to a heatmap's similarity, as separators are trained with it."""


class NothingHeard(ValueError):
    """A place was to be found by its sound, and there was none."""


def check_heard(answer: HeadAnswer) -> None:
    """NothingHeard for the answer of a head that had nothing to look for."""
    if not len(answer.logits):
        raise NothingHeard(
            "nothing is heard in the clip, so the heatmap has no peak: expected sound, or a "
            "point, a box or a mask"
        )


def check_point(x_px: float, y_px: float, size: tuple[int, int]) -> None:
    """ValueError for a point off an (H, W) picture."""
    height, width = size
    if not (0 <= x_px < width and 0 <= y_px < height):
        raise ValueError(
            f"point {x_px:g},{y_px:g} lies off the picture of {width}x{height} pixels: expected "
            f"x from 0 to {width - 1} and y from 0 to {height - 1}"
        )


def at_point(
    x_px: float, y_px: float, size: tuple[int, int], grid: tuple[int, int]
) -> Float32[np.ndarray, " r"]:
    """Cells within `RADIUS_CELLS` of a point of an (H, W) picture; ValueError for one off it."""
    check_point(x_px, y_px, size)
    placement = ResizeTransform(*size, *grid)
    x, y = placement.to_cell_xy(x_px, y_px, grid)
    rows, columns = np.mgrid[: grid[0], : grid[1]]
    near = np.hypot(columns - x, rows - y) <= RADIUS_CELLS
    return near.astype(np.float32).ravel()


def check_mask(mask: np.ndarray, size: tuple[int, int]) -> None:
    """ValueError for a mask of another size than (H, W), and for one that marks nothing."""
    if mask.shape != size:
        raise ValueError(
            f"mask of {mask.shape[1]}x{mask.shape[0]} pixels on a picture of "
            f"{size[1]}x{size[0]}: expected one size"
        )
    if not mask.any():
        raise ValueError("the mask marks nothing: expected at least one pixel above 0")


def at_mask(
    mask: np.ndarray, size: tuple[int, int], grid: tuple[int, int]
) -> Float32[np.ndarray, " r"]:
    """How much of each cell an (H, W) mask covers; ValueError for another size and for none."""
    import cv2

    check_mask(mask, size)
    covered = (mask > 0).astype(np.float32)
    return cv2.resize(covered, grid[::-1], interpolation=cv2.INTER_AREA).ravel()


def check_box(left: float, top: float, right: float, bottom: float, size: tuple[int, int]) -> None:
    """ValueError for a box that is empty, or not within an (H, W) picture."""
    height, width = size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"box {left:g},{top:g},{right:g},{bottom:g} on a picture of {width}x{height} pixels: "
            "expected left < right and top < bottom, within the picture"
        )


def at_box(
    left: float, top: float, right: float, bottom: float,
    size: tuple[int, int], grid: tuple[int, int],
) -> Float32[np.ndarray, " r"]:  # fmt: skip
    """How much of each cell a box of pixels covers; ValueError for one that is empty or off."""
    check_box(left, top, right, bottom, size)
    rows, columns = (
        np.clip(np.minimum(stop, edges[1:]) - np.maximum(start, edges[:-1]), 0.0, None)
        for start, stop, edges in (
            (top, bottom, np.linspace(0, size[0], grid[0] + 1)),
            (left, right, np.linspace(0, size[1], grid[1] + 1)),
        )
    )
    return np.outer(rows, columns).astype(np.float32).ravel()


def at_peak(answer: HeadAnswer, scale: float) -> Float32[np.ndarray, " r"]:
    """Where a head's heatmap is highest, as attention to its cells; NothingHeard: it has none.

    `scale` is that of the head's calibration, by which its logits become similarities again.
    """
    check_heard(answer)
    similarity = answer.logits.max(axis=0).ravel() / max(abs(scale), 1e-6)
    weights = np.exp(SHARPNESS * (similarity - similarity.max()))
    return (weights / weights.sum()).astype(np.float32)


def box_area(left: float, top: float, right: float, bottom: float, size: tuple[int, int]) -> Area:
    """The pixels that a box touches; ValueError for one that is empty or off the picture."""
    check_box(left, top, right, bottom, size)
    return _touched(left, top, right, bottom)


def mask_area(mask: np.ndarray, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The pixels that a mask marks; ValueError for another size than (H, W) and for none."""
    check_mask(mask, size)
    return mask > 0


def point_area(x_px: float, y_px: float, size: tuple[int, int]) -> Area:
    """The square around a point of an (H, W) picture; ValueError for a point off it."""
    check_point(x_px, y_px, size)
    half = max(0.5, POINT_SIDE * min(size) / 2)
    x, y = x_px + 0.5, y_px + 0.5
    return _touched(x - half, y - half, x + half, y + half)


def peak_area(answer: HeadAnswer, size: tuple[int, int]) -> Area:
    """The square around the highest cell of a head's heatmap; NothingHeard: it has none."""
    check_heard(answer)
    heatmap = answer.logits.max(axis=0)
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    placement = ResizeTransform(*size, *heatmap.shape)
    x_px, y_px = placement.to_image_xy(int(column), int(row), heatmap.shape)
    return point_area(max(0.0, x_px), max(0.0, y_px), size)


def _touched(left: float, top: float, right: float, bottom: float) -> Area:
    rows = slice(max(0, math.floor(top)), math.ceil(bottom))
    return rows, slice(max(0, math.floor(left)), math.ceil(right))


def seen_alone(
    backend: Backend, thing: UInt8[np.ndarray, "h w 3"]
) -> tuple[ImageTokens, Float32[np.ndarray, " r"]]:
    """The tokens of a place without its surroundings, and equal weights of them."""
    spec = backend.spec
    assert spec.separation is not None
    placement = ResizeTransform.fit(*thing.shape[:2], spec.separation.crop_px, spec.patch_px)
    tokens = backend.encode_image(placement.apply(thing))
    return tokens, np.ones(math.prod(backend.grid(tokens)), np.float32)
