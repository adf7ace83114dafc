"""What needs the pixels of many samples at once: classes pooled, or the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from av_grounding.evaluation.metrics.maps import centred_disc, min_max
from av_grounding.evaluation.metrics.prompted import NUM_IOU_THRESHOLDS, iou_curve
from av_grounding.evaluation.metrics.ranking import average_precision, precision_at_recalls
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.evaluation.scoring.rows import enlarged


@dataclass(frozen=True)
class Pool:
    """The maps of one row of the table for one class (or a whole set), with their truths."""

    grids: tuple[np.ndarray, ...]
    """(h, w) logits each; empty for a degenerate row."""
    masks: tuple[PackedMask, ...]
    degenerate: str = ""
    sweep: tuple[float, float] | None = None
    """Lowest and highest value over all classes, for a sweep that they share."""


def score_pool(pool: Pool, keeps_curve: bool = True) -> dict[str, Any]:
    """AP, the oracle IoUs and the IoU at a calibrated 0.5 of pooled pixels.

    The ceiling of every one of them is 1: the truth itself. Its calibrated IoU is 1 as well.
    """
    target = np.concatenate([mask.unpack().ravel() for mask in pool.masks])
    if pool.degenerate == "ceiling":
        values = target.astype(np.float32)
        calibrated = values
    elif pool.degenerate == "whole_image":
        values = calibrated = np.ones(target.size, np.float32)
    elif pool.degenerate == "centred_disc":
        values = calibrated = np.concatenate(
            [centred_disc(*mask.shape).ravel() for mask in pool.masks]
        ).astype(np.float32)
    else:
        values = np.concatenate(
            [
                enlarged(grid, mask.shape, "similarity", "bilinear").ravel()
                for grid, mask in zip(pool.grids, pool.masks, strict=True)
            ]
        )
        calibrated = np.concatenate(
            [
                enlarged(grid, mask.shape, "calibrated", "bilinear").ravel()
                for grid, mask in zip(pool.grids, pool.masks, strict=True)
            ]
        )
    predicted = calibrated >= 0.5
    shared = np.count_nonzero(predicted & target)
    union = np.count_nonzero(predicted | target)
    result: dict[str, Any] = {
        "ap": average_precision(values, target),
        "iou_at_half": float(shared / union),
        "num_pixels": int(target.size),
    }
    if pool.degenerate:
        # Fixed masks: no threshold moves them.
        result["iou_oracle"] = result["iou_at_half"]
        result["iou_curve_shared"] = [result["iou_at_half"]] * NUM_IOU_THRESHOLDS
    else:
        own = (float(values.min()), float(values.max()))
        for name, (low, high) in {"oracle": own, "shared": pool.sweep or own}.items():
            sweep = np.linspace(low, high, NUM_IOU_THRESHOLDS)
            result[f"iou_curve_{name}"] = iou_curve(values, target, sweep).tolist()
        result["iou_oracle"] = max(result.pop("iou_curve_oracle"))
    if keeps_curve:
        result["precision"] = precision_at_recalls(values, target).tolist()
    return result


def set_average_precision(
    grids: Sequence[np.ndarray], masks: Sequence[PackedMask], degenerate: str = ""
) -> float:
    """PIAP over all pixels of all samples (GAR-SSL), each map min-max scaled first."""
    target = np.concatenate([mask.unpack().ravel() for mask in masks])
    values = np.empty(target.size, np.float32)
    start = 0
    for number, mask in enumerate(masks):
        size = mask.shape[0] * mask.shape[1]
        values[start : start + size] = _set_values(grids, number, mask, degenerate)
        start += size
    return average_precision(values, target)


def _set_values(
    grids: Sequence[np.ndarray], number: int, mask: PackedMask, degenerate: str
) -> np.ndarray:
    if degenerate == "ceiling":
        return mask.unpack().ravel().astype(np.float32)
    if degenerate == "whole_image":
        return np.ones(mask.shape[0] * mask.shape[1], np.float32)
    if degenerate == "centred_disc":
        return centred_disc(*mask.shape).ravel().astype(np.float32)
    return min_max(enlarged(grids[number], mask.shape, "similarity", "bilinear")).ravel()
