"""Maps brought to the size of the truth, normalised, and cut into what is predicted.

These steps come before the metrics of localisation, and public code disagrees on every one:
the interpolation, the normalisation, the threshold, and whether a pixel at the threshold counts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

Upsampling = Literal["bilinear", "bilinear_aligned", "bicubic", "bicubic_aligned"]
ThresholdKind = Literal["median_gt", "median_ge", "absolute", "top_area", "fraction_of_max"]
# The cubic convolution kernel of OpenCV and PyTorch.
CUBIC_A = -0.75


def upsample(
    grid: Float[np.ndarray, "h w"], height: int, width: int, method: Upsampling
) -> Float32[np.ndarray, "H W"]:
    """Interpolate a map to (height, width).

    `bilinear`: half-pixel centres, as OpenCV's linear and PyTorch's align_corners=False (LVS,
    DenseAV). `bilinear_aligned`: corner on corner, align_corners=True (EZ-VSL, SSLalignment).
    `bicubic`, `bicubic_aligned`: the same two with the cubic kernel (NoPrior; SLAVC, AVGN), which
    may overshoot. Values
    beyond the border repeat it. Sums of a few weighted rows and columns, so that the result has
    the same bits wherever and beside whatever it is computed.
    """
    if grid.ndim != 2 or grid.size == 0 or height < 1 or width < 1:
        raise ValueError(
            f"got a map of shape {grid.shape} for {height}x{width} pixels, expected a non-empty "
            "(h, w) map and at least one pixel"
        )
    grid = np.asarray(grid, np.float32)
    if method == "bilinear" and grid.shape == (height, width):
        return grid
    index, weight = _taps(grid.shape[0], height, method)
    rows = sum(w[:, None] * grid[i] for i, w in zip(index, weight, strict=True))
    index, weight = _taps(grid.shape[1], width, method)
    columns = np.ascontiguousarray(rows.T)
    turned = sum(w[:, None] * columns[i] for i, w in zip(index, weight, strict=True))
    return np.ascontiguousarray(turned.T)


@lru_cache(maxsize=256)
def _taps(
    num_in: int, num_out: int, method: Upsampling
) -> tuple[Int[np.ndarray, "n o"], Float32[np.ndarray, "n o"]]:
    """Which inputs each output takes, and with what weight."""
    out = np.arange(num_out, dtype=np.float64)
    if method in ("bilinear", "bicubic"):
        position = (out + 0.5) * num_in / num_out - 0.5
        if method == "bilinear":
            position = np.maximum(position, 0.0)
    elif method in ("bilinear_aligned", "bicubic_aligned"):
        position = out * (num_in - 1) / max(num_out - 1, 1)
    else:
        raise ValueError(
            f"got upsampling {method!r}, expected bilinear or bicubic, with or without _aligned"
        )
    base = np.floor(position).astype(np.int64)
    part = position - base
    if method.startswith("bicubic"):
        offsets, weights = (-1, 0, 1, 2), [_cubic(part - k) for k in (-1, 0, 1, 2)]
    else:
        offsets, weights = (0, 1), [1.0 - part, part]
    index = np.stack([np.clip(base + k, 0, num_in - 1) for k in offsets])
    return index, np.stack(weights).astype(np.float32)


def _cubic(distance: np.ndarray) -> np.ndarray:
    x, a = np.abs(distance), CUBIC_A
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


def min_max(values: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Scaled so that the smallest value is 0 and the largest 1; a constant map becomes zeros."""
    low, high = values.min(), values.max()
    if not low < high:
        return np.zeros(values.shape, np.float32)
    return np.asarray((values - low) / (high - low), np.float32)


def binarise(
    values: Float[np.ndarray, "H W"],
    kind: ThresholdKind,
    amount: float = 0.5,
    num_truth: int = 0,
) -> Bool[np.ndarray, "H W"]:
    """Which pixels are predicted, with n pixels in all and `sorted` rising.

    `median_gt`: above sorted[n//2] (LVS, NoPrior). `median_ge`: at or above it (EZ-VSL, AVGN).
    `absolute`: at or above `amount` (SLAVC with 0.5, T-VSL with 0.3). `top_area`: above
    sorted[n − num_truth], the area of the truth being given (IS3's adaptive threshold).
    `fraction_of_max`: above `amount` times the largest value (DSOL).
    """
    if kind == "absolute":
        return values >= amount
    if kind == "fraction_of_max":
        return values > amount * values.max()
    if kind == "top_area":
        if num_truth == 0:
            return np.zeros(values.shape, bool)
        return values > _order_statistic(values, values.size - num_truth)
    if kind not in ("median_gt", "median_ge"):
        raise ValueError(
            f"got threshold {kind!r}, expected median_gt, median_ge, absolute, top_area or "
            "fraction_of_max"
        )
    median = _order_statistic(values, values.size // 2)
    return values > median if kind == "median_gt" else values >= median


def _order_statistic(values: np.ndarray, rank: int) -> np.floating:
    return np.partition(values.ravel(), rank)[rank]


def whole_image(height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """The prediction of everything."""
    return np.ones((height, width), bool)


@lru_cache(maxsize=16)
def centred_disc(height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """The half of the pixels nearest to the centre (an ellipse, if the image is not square)."""
    rows, columns = (np.linspace(-1.0, 1.0, size) for size in (height, width))
    radius = np.hypot(*np.meshgrid(rows, columns, indexing="ij"))
    order = np.argsort(radius, axis=None, kind="stable")
    disc = np.zeros(height * width, bool)
    disc[order[: height * width // 2]] = True
    disc.setflags(write=False)
    return disc.reshape(height, width)


def ceiling_map(truth: Float[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """The map that no other map without ties can beat: the truth, with every tie broken.

    Values in [0.9, 1] on the truth, those of more annotators first, and in [0, 0.05] off it, all
    distinct. A rule that demands half of the pixels finds no better half than this map's: its
    score is the ceiling of the rule on this sample. Where values repeat (a saturated sigmoid, a
    binary mask), pixels tie at the median and `median_gt` predicts fewer than half: such a map
    can pass the ceiling, which says something about the rule and not about the map.
    """
    flat = np.ravel(truth)
    # Stable, and from the back: ties go row by row.
    order = np.argsort(-flat, kind="stable")
    rank = np.empty(flat.size, np.float64)
    rank[order] = np.arange(flat.size, 0, -1) / flat.size
    return np.where(
        truth > 0, 0.9 + 0.1 * rank.reshape(truth.shape), 0.05 * rank.reshape(truth.shape)
    ).astype(np.float32)
