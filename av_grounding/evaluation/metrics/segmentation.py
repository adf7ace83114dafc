"""AVSBench: IoU and F-measure of binary masks, frame by frame, for each video or for the set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

BETA_SQUARED = 0.3
NUM_F_THRESHOLDS = 255
EPSILON_IOU = 1e-7
EPSILON_F = 1e-20
F_THRESHOLDS = np.linspace(0.0, 1.0 - 1e-10, NUM_F_THRESHOLDS)


def frame_iou(predicted: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> float:
    """Intersection / (union + 1e-7); for a frame where nothing sounds, the share of pixels that
    are rightly left out (AVSBench's convention)."""
    if not truth.any():
        return float(np.count_nonzero(~predicted) / (truth.size + EPSILON_IOU))
    shared = np.count_nonzero(predicted & truth)
    return float(shared / (np.count_nonzero(predicted | truth) + EPSILON_IOU))


def f_measure_curve(
    probabilities: Float[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, " 255"]:
    """F with β² = 0.3 of `probability >= threshold` at 255 thresholds; 0 where P = R = 0."""
    # Compared at full precision: a float32 probability of 1 reaches the last threshold.
    reached = np.searchsorted(F_THRESHOLDS, probabilities.ravel().astype(np.float64), side="right")
    is_true = truth.ravel()

    def num_at_or_above(chosen: np.ndarray) -> np.ndarray:
        counts = np.bincount(chosen, minlength=NUM_F_THRESHOLDS + 1)
        return counts[::-1].cumsum()[::-1][1:]

    true_positives = num_at_or_above(reached[is_true])
    precision = true_positives / (num_at_or_above(reached) + EPSILON_F)
    recall = true_positives / (np.count_nonzero(is_true) + EPSILON_F)
    below = BETA_SQUARED * precision + recall
    above = (1.0 + BETA_SQUARED) * precision * recall
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def f_measure_per_video(
    curves: Float[np.ndarray, "frames 255"], videos: Sequence[str]
) -> dict[str, float]:
    """Each video's own best threshold on the mean curve of its frames.

    This is what public code computes when its batch is one video. Frames with an empty truth
    have no curve and are left out beforehand.
    """
    members: dict[str, list[int]] = {}
    for number, video in enumerate(videos):
        members.setdefault(video, []).append(number)
    return {video: float(curves[own].mean(axis=0).max()) for video, own in members.items()}


def f_measure_of_set(curves: Float[np.ndarray, "frames 255"]) -> float:
    """One threshold for all frames, so that no batch size enters: the batch-invariant form."""
    return float(curves.mean(axis=0).max())
