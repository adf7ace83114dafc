"""The maxima of heatmaps and the boxes around them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
from jaxtyping import Float32

from av_grounding.image import peak_cell
from av_grounding.types import HeadAnswer


@dataclass(frozen=True)
class Peak:
    """A local maximum of a heatmap: where, how likely, and the box of cells that go with it."""

    x_px: float
    y_px: float
    score: float
    center_x_px: float
    center_y_px: float
    size_x_px: float
    size_y_px: float
    name: str = ""
    """What is there: the label of its map, or else its head."""
    id: str = ""
    """Of its source, the same from frame to frame; empty where sources are not told apart."""


def find_peaks(
    heatmap: Float32[np.ndarray, "h w"],
    image_size: tuple[int, int],
    threshold: float = 0.5,
    max_peaks: int = 5,
) -> list[Peak]:
    """Local maxima from `threshold` on, highest first, in pixels of an (H, W) image.

    A peak's box bounds the connected cells around it that reach half its value and the
    threshold; such cells hold no second peak.
    """
    import cv2

    # Doubles: a threshold of 0.3 must not pass for its rounded neighbour.
    values = np.clip(np.nan_to_num(heatmap), 0.0, 1.0).astype(np.float64)
    rows, columns = values.shape
    cell_y, cell_x = image_size[0] / rows, image_size[1] / columns
    is_free = (values >= max(threshold, 1e-6)) & (values >= cv2.dilate(values, np.ones((3, 3))))
    peaks: list[Peak] = []
    while is_free.any() and len(peaks) < max_peaks:
        row, column = peak_cell(np.where(is_free, values, -1.0))
        score = float(values[row, column])
        inside = (values >= max(threshold, 0.5 * score)).astype(np.uint8)
        _, labels = cv2.connectedComponents(inside, connectivity=8)
        region = labels == labels[row, column]
        ys, xs = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        peaks.append(
            Peak(
                x_px=float((column + 0.5) * cell_x - 0.5),
                y_px=float((row + 0.5) * cell_y - 0.5),
                score=score,
                center_x_px=float((xs[0] + xs[-1] + 1) / 2 * cell_x - 0.5),
                center_y_px=float((ys[0] + ys[-1] + 1) / 2 * cell_y - 0.5),
                size_x_px=float((xs[-1] - xs[0] + 1) * cell_x),
                size_y_px=float((ys[-1] - ys[0] + 1) * cell_y),
            )
        )
        is_free &= ~region
    return peaks


def peaks_of(
    head: str,
    answer: HeadAnswer,
    image_size: tuple[int, int],
    threshold: float = 0.5,
    max_peaks: int = 5,
) -> list[Peak]:
    """The peaks of all maps of an answer in one list, highest first, with their names.

    Where sources are told apart, a map is one source, and has its highest peak alone.
    """
    ids = [f"source_{number}" for number in answer.ids]
    peaks = [
        replace(peak, name=name, id=id)
        for name, id, heatmap in zip(
            answer.labels or repeat(head), ids or repeat(""), answer.heatmaps, strict=False
        )
        for peak in find_peaks(heatmap, image_size, threshold, 1 if ids else max_peaks)
    ]
    return sorted(peaks, key=lambda peak: -peak.score)[:max_peaks]
