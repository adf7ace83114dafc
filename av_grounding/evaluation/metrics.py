"""Metrics of dense audio-visual grounding, as pure NumPy functions.

Each function states its definition, where the field uses it, and its conventions, because the
same name means different numbers in different papers. A map is (H, W) at image resolution, its
mask says which pixels belong to the object. Nothing here knows a model or reads a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Heatmap = Float[np.ndarray, "H W"]
Mask = Bool[np.ndarray, "H W"]
# Images of one set may differ in size, so axes bind nothing across a sequence.
Heatmaps = Sequence[Float[np.ndarray, "_ _"]]
Masks = Sequence[Bool[np.ndarray, "_ _"]]
NUM_IOU_THRESHOLDS = 20


class ClassMean(NamedTuple):
    """An unweighted mean over classes, and the values that it averages."""

    mean: float
    per_class: dict[str, float]


def average_precision(
    scores: Float[np.ndarray, "*shape"], target: Bool[np.ndarray, "*shape"]
) -> float:
    """Binary average precision, Σ (R_n − R_{n−1}) P_n over the distinct scores, falling.

    Called `pixel_continuous` when the elements are the pixels of maps: the scores are ranked as
    they are, never binarised first. Equal scores enter together, without interpolation, as in
    scikit-learn's `average_precision_score`. In [0, 1]; raises ValueError without a positive
    element, where it is undefined, and for scores that are not finite.
    """
    scores, target = np.ravel(scores), np.ravel(target)
    if not np.isfinite(scores).all():
        raise ValueError(
            "got scores with NaN or infinity, expected finite scores: check the model"
        )
    num_positive = int(np.count_nonzero(target))
    if num_positive == 0:
        raise ValueError("got a target without a positive element: average precision is undefined")
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    del ranked
    true_positives = np.cumsum(target[order])[last_of_tie]
    precision = true_positives / (last_of_tie + 1)
    recall_steps = np.diff(true_positives, prepend=0) / num_positive
    return min(float(np.sum(recall_steps * precision)), 1.0)


def pooled_average_precision(
    heatmaps: Heatmaps, masks: Masks, classes: Sequence[str]
) -> ClassMean:
    """The mAP of papers 000 and 001: AP over all pixels of all images of a class, then the mean.

    Pooling makes a class's maps compete with each other, so a map must be right in absolute
    terms and not only within its own image. Classes without a positive pixel are left out; sizes
    may differ between images.
    """
    return _mean_over_classes(average_precision, heatmaps, masks, classes)


def mean_iou(
    heatmaps: Heatmaps,
    masks: Masks,
    classes: Sequence[str],
    thresholds: str = "oracle20_per_class",
) -> ClassMean:
    """Intersection over union of pooled pixels at the best of 20 thresholds, mean over classes.

    A pixel is predicted where its score is strictly above a threshold of
    linspace(min, max, 20). `oracle20_per_class`: minimum, maximum and best threshold are each
    class's own (the released evaluation of paper 001). `oracle20_shared`: one sweep over all
    predictions and the one threshold with the best mean, as the paper's text reads. Both look at
    the ground truth to choose, so they are upper bounds of a deployed threshold.
    """
    if thresholds == "oracle20_per_class":
        return _mean_over_classes(
            lambda scores, target: float(_iou_curve(scores, target, _sweep([scores])).max()),
            heatmaps,
            masks,
            classes,
        )
    if thresholds != "oracle20_shared":
        raise ValueError(
            f"got thresholds {thresholds!r}, expected 'oracle20_per_class' or 'oracle20_shared'"
        )
    sweep = _sweep(heatmaps)
    groups = _pool(heatmaps, masks, classes)
    curves = {name: _iou_curve(scores, target, sweep) for name, (scores, target) in groups.items()}
    best = int(np.mean(list(curves.values()), axis=0).argmax())
    per_class = {name: float(curve[best]) for name, curve in curves.items()}
    return ClassMean(float(np.mean(list(per_class.values()))), per_class)


def peak_hit(heatmap: Heatmap, mask: Mask) -> float:
    """Whether the map's largest value lies on the mask: 1 or 0 (the pointing game).

    Where several pixels share the largest value, the share of them on the mask, which is the
    expectation over a random choice among them. A constant map has no peak and scores 0.
    """
    _same_shape(heatmap, mask)
    largest = heatmap.max()
    if largest == heatmap.min():
        return 0.0
    return float(mask[heatmap == largest].mean())


def peak_leak(heatmap: Heatmap, own_mask: Mask, other_mask: Mask) -> float:
    """Whether a head's peak lies on what the other head should find, and not on its own object.

    Its mean over mixtures is the wrong-head leakage: 0 when the two answers are never confused.
    Ties and constant maps as in `peak_hit`.
    """
    _same_shape(own_mask, other_mask)
    return peak_hit(heatmap, other_mask & ~own_mask)


def gated_share(heatmaps: Heatmaps, threshold: float = 0.5) -> float:
    """Share of calibrated maps that stay below `threshold` everywhere (silent or absent cases)."""
    if not len(heatmaps):
        raise ValueError("got no maps, expected one or more")
    return float(np.mean([heatmap.max() < threshold for heatmap in heatmaps]))


def _same_shape(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"got a map of shape {first.shape} and a mask of shape {second.shape}, expected one "
            "shape: resize the map to the image first"
        )


def _pool(
    heatmaps: Heatmaps, masks: Masks, classes: Sequence[str]
) -> dict[str, tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]]:
    """Class -> all its pixels, for the classes that have a positive one."""
    if not len(heatmaps) == len(masks) == len(classes):
        raise ValueError(
            f"got {len(heatmaps)} maps, {len(masks)} masks and {len(classes)} classes, expected "
            "one mask and one class for each map"
        )
    members: dict[str, list[int]] = {}
    for i, name in enumerate(classes):
        _same_shape(heatmaps[i], masks[i])
        members.setdefault(name, []).append(i)
    groups = {}
    for name in sorted(members):
        target = np.concatenate([masks[i].ravel() for i in members[name]])
        if target.any():
            scores = np.concatenate([heatmaps[i].ravel() for i in members[name]])
            groups[name] = (scores, target)
    if not groups:
        raise ValueError(
            "got no class with a positive pixel, expected one or more masks that hold any"
        )
    return groups


def _mean_over_classes(
    metric: Callable[[np.ndarray, np.ndarray], float],
    heatmaps: Heatmaps,
    masks: Masks,
    classes: Sequence[str],
) -> ClassMean:
    groups = _pool(heatmaps, masks, classes)
    per_class = {name: metric(scores, target) for name, (scores, target) in groups.items()}
    return ClassMean(float(np.mean(list(per_class.values()))), per_class)


def _sweep(heatmaps: Sequence[np.ndarray]) -> Float[np.ndarray, " 20"]:
    low = min(float(heatmap.min()) for heatmap in heatmaps)
    high = max(float(heatmap.max()) for heatmap in heatmaps)
    return np.linspace(low, high, NUM_IOU_THRESHOLDS)


def _iou_curve(
    scores: Float[np.ndarray, " n"], target: Bool[np.ndarray, " n"], sweep: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """IoU of `scores > threshold` with `target` at every threshold, in one pass over pixels."""
    num_exceeded = np.searchsorted(sweep, scores, side="left")

    def num_above(exceeded: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        counts = np.bincount(exceeded, minlength=sweep.size + 1)
        return counts[::-1].cumsum()[::-1][1:]

    intersection = num_above(num_exceeded[target])
    union = num_above(num_exceeded) + np.count_nonzero(target) - intersection
    return intersection / union
