"""Average precision and the curve it summarises: how well scores rank what is positive."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

RECALL_GRID = np.linspace(0.0, 1.0, 51)


class PrecisionRecall(NamedTuple):
    """Precision and recall at every distinct score of a positive element, falling score."""

    precision: Float[np.ndarray, " n"]
    recall: Float[np.ndarray, " n"]


def average_precision(
    scores: Float[np.ndarray, "*shape"], target: Bool[np.ndarray, "*shape"]
) -> float:
    """Binary average precision, Σ (R_n − R_{n−1}) P_n over the distinct scores, falling.

    Called `pixel_continuous` when the elements are the pixels of maps: the scores are ranked as
    they are, never binarised first. Equal scores enter together, without interpolation, as in
    scikit-learn's `average_precision_score`. In [0, 1]; raises ValueError without a positive
    element, where it is undefined, and for scores that are not finite.
    """
    num_equal, true_positives, false_positives = _counts(scores, target)
    precision = true_positives / (true_positives + false_positives)
    return min(float(np.sum(num_equal / true_positives[-1] * precision)), 1.0)


def binary_average_precision(
    predicted: Bool[np.ndarray, "*shape"], target: Bool[np.ndarray, "*shape"]
) -> float:
    """`average_precision` of scores with two values, without ranking: the predicted elements
    enter together, then all others. With one value alone it is the share of positives."""
    num_positive = int(np.count_nonzero(target))
    if num_positive == 0:
        raise ValueError("got a target without a positive element: average precision is undefined")
    share = num_positive / target.size
    num_predicted = int(np.count_nonzero(predicted))
    if num_predicted == 0:
        return share
    num_hit = int(np.count_nonzero(predicted & target))
    recall = num_hit / num_positive
    return recall * num_hit / num_predicted + (1.0 - recall) * share


def precision_recall(
    scores: Float[np.ndarray, "*shape"], target: Bool[np.ndarray, "*shape"]
) -> PrecisionRecall:
    """The curve under `average_precision`: its steps are where recall changes."""
    _, true_positives, false_positives = _counts(scores, target)
    return PrecisionRecall(
        true_positives / (true_positives + false_positives), true_positives / true_positives[-1]
    )


def precision_at_recalls(
    scores: Float[np.ndarray, "*shape"], target: Bool[np.ndarray, "*shape"]
) -> Float[np.ndarray, " 51"]:
    """The best precision from each recall of `RECALL_GRID` on: the curve without its saw teeth,
    on a grid that curves of several samples share."""
    precision, recall = precision_recall(scores, target)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return best[np.minimum(np.searchsorted(recall, RECALL_GRID), best.size - 1)]


def _counts(
    scores: np.ndarray, target: np.ndarray
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """For each distinct positive score, falling: positives there, positives and negatives above.

    Thresholds between positive scores add no recall, so sorting both kinds apart is enough, and
    several times faster than ranking all elements with their labels.
    """
    scores, target = np.ravel(scores), np.ravel(target)
    if not np.isfinite(scores).all():
        raise ValueError(
            "got scores with NaN or infinity, expected finite scores: check the model"
        )
    positive, negative = np.sort(scores[target]), np.sort(scores[~target])
    if positive.size == 0:
        raise ValueError("got a target without a positive element: average precision is undefined")
    is_first = np.append(True, positive[1:] != positive[:-1])
    first = np.flatnonzero(is_first)
    num_equal = np.diff(first, append=positive.size)
    true_positives = positive.size - first
    false_positives = negative.size - np.searchsorted(negative, positive[first], side="left")
    return num_equal[::-1], true_positives[::-1], false_positives[::-1]
