"""Prompted segmentation (001, 000): a class's pixels pooled over its images, classes averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from av_grounding.evaluation.metrics.pointing import check_same_shape
from av_grounding.evaluation.metrics.ranking import average_precision

# Images of one set may differ in size, so axes bind nothing across a sequence.
Heatmaps = Sequence[Float[np.ndarray, "_ _"]]
Masks = Sequence[Bool[np.ndarray, "_ _"]]
NUM_IOU_THRESHOLDS = 20


class ClassMean(NamedTuple):
    """An unweighted mean over classes, and the values that it averages."""

    mean: float
    per_class: dict[str, float]


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
            lambda scores, target: float(iou_curve(scores, target, _sweep([scores])).max()),
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
    curves = {name: iou_curve(scores, target, sweep) for name, (scores, target) in groups.items()}
    best = int(np.mean(list(curves.values()), axis=0).argmax())
    per_class = {name: float(curve[best]) for name, curve in curves.items()}
    return ClassMean(float(np.mean(list(per_class.values()))), per_class)


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
        check_same_shape(heatmaps[i], masks[i])
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


def iou_curve(
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
