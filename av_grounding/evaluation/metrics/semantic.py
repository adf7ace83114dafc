"""AVSS: IoU and F-measure of every class over the frames that hold or predict it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

BETA_SQUARED = 0.3


class FrameCounts(NamedTuple):
    """Pixels of each class in one frame."""

    shared: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    true: Int[np.ndarray, " n"]


class SemanticScores(NamedTuple):
    """`miou` and `f` are means over all classes, absent ones as 0, as the public code has it;
    `*_present` over the classes that any frame holds or predicts."""

    miou: float
    f: float
    miou_present: float
    f_present: float
    iou_per_class: Float[np.ndarray, " n"]
    """NaN for a class that is nowhere."""


def frame_counts(
    predicted: Int[np.ndarray, "H W"], truth: Int[np.ndarray, "H W"], num_classes: int
) -> FrameCounts:
    """Count one frame; raises ValueError for a class outside 0 … num_classes − 1."""
    for name, values in (("prediction", predicted), ("truth", truth)):
        if values.min() < 0 or values.max() >= num_classes:
            raise ValueError(
                f"got classes {values.min()} to {values.max()} in the {name}, expected 0 to "
                f"{num_classes - 1}"
            )
    return FrameCounts(
        np.bincount(truth[predicted == truth].ravel(), minlength=num_classes),
        np.bincount(predicted.ravel(), minlength=num_classes),
        np.bincount(truth.ravel(), minlength=num_classes),
    )


def semantic_scores(frames: list[FrameCounts]) -> SemanticScores:
    """Mean over classes of the class's mean over the frames where its union is not empty.

    The mean is over frames and not over pixels, so a small object counts as much as a large one.
    F with β² = 0.3 from each frame's precision and recall in the same way.
    """
    if not frames:
        raise ValueError("got no frames, expected one or more")
    shared, predicted, true = (
        np.stack(part).astype(np.float64) for part in zip(*frames, strict=True)
    )
    union = predicted + true - shared
    is_there = union > 0
    num_frames = is_there.sum(axis=0)
    iou = np.divide(shared, union, out=np.zeros_like(union), where=is_there)
    precision = np.divide(shared, predicted, out=np.zeros_like(union), where=predicted > 0)
    recall = np.divide(shared, true, out=np.zeros_like(union), where=true > 0)
    below = BETA_SQUARED * precision + recall
    f = np.divide(
        (1 + BETA_SQUARED) * precision * recall, below, out=np.zeros_like(below), where=below > 0
    )
    known = num_frames > 0
    iou_per_class = np.full(union.shape[1], np.nan)
    iou_per_class[known] = iou.sum(axis=0)[known] / num_frames[known]
    f_known = f.sum(axis=0)[known] / num_frames[known]
    return SemanticScores(
        float(iou_per_class[known].sum() / known.size),
        float(f_known.sum() / known.size),
        float(iou_per_class[known].mean()),
        float(f_known.mean()),
        iou_per_class,
    )
