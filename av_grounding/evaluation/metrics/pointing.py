"""Where a map peaks, and whether it stays dark: the pointing game, leakage, gating."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

Heatmap = Float[np.ndarray, "H W"]
Mask = Bool[np.ndarray, "H W"]
# Images of one set may differ in size, so axes bind nothing across a sequence.
Heatmaps = Sequence[Float[np.ndarray, "_ _"]]


def peak_hit(heatmap: Heatmap, mask: Mask) -> float:
    """Whether the map's largest value lies on the mask: 1 or 0 (the pointing game).

    Where several pixels share the largest value, the share of them on the mask, which is the
    expectation over a random choice among them. A constant map has no peak and scores 0.
    """
    check_same_shape(heatmap, mask)
    largest = heatmap.max()
    if largest == heatmap.min():
        return 0.0
    return float(mask[heatmap == largest].mean())


def peak_leak(heatmap: Heatmap, own_mask: Mask, other_mask: Mask) -> float:
    """Whether a head's peak lies on what the other head should find, and not on its own object.

    Its mean over mixtures is the wrong-head leakage: 0 when the two answers are never confused.
    Ties and constant maps as in `peak_hit`.
    """
    check_same_shape(own_mask, other_mask)
    return peak_hit(heatmap, other_mask & ~own_mask)


def gated_share(heatmaps: Heatmaps, threshold: float = 0.5) -> float:
    """Share of calibrated maps that stay below `threshold` everywhere (silent or absent cases)."""
    if not len(heatmaps):
        raise ValueError("got no maps, expected one or more")
    return float(np.mean([heatmap.max() < threshold for heatmap in heatmaps]))


def check_same_shape(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"got a map of shape {first.shape} and a mask of shape {second.shape}, expected one "
            "shape: resize the map to the image first"
        )
