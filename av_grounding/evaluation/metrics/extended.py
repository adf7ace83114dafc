"""Localisation with silent and off-screen samples: AP, max-F1 and LocAcc of SLAVC (2022).

A confidence t declares that something visible sounds. With IoU of a sounding sample's map:
true positive: sounding, confidence ≥ t, IoU ≥ 0.5; false positive: confidence ≥ t and either
sounding with a lower IoU, or not sounding; false negative: sounding, confidence < t. A sounding
sample that is declared but misplaced is no false negative, so recall's denominator moves with t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

MAX_THRESHOLDS_AP = 200
MAX_THRESHOLDS_F1 = 10


class ExtendedScores(NamedTuple):
    ap: float
    max_f1: float
    loc_acc: float


def top_quarter_confidence(values: Float[np.ndarray, "H W"]) -> float:
    """Mean of the largest quarter of a map whose values are comparable between samples (SLAVC).

    Before any per-image normalisation, or every sample would be as confident as any other.
    """
    num_top = max(1, values.size // 4)
    top = np.partition(np.ravel(values), values.size - num_top)[-num_top:]
    return float(top.mean(dtype=np.float64))


def extended_scores(
    ious: Float[np.ndarray, " n"],
    confidences: Float[np.ndarray, " n"],
    is_sounding: Bool[np.ndarray, " n"],
    iou_at: float = 0.5,
) -> ExtendedScores:
    """AP, max-F1 and LocAcc; `ious` of samples that do not sound are not looked at.

    AP: thresholds are the sorted confidences without the largest, every max(1, N//200)-th,
    falling; Σ max_{j ≥ i} P_j · (R_{i+1} − R_i), which drops the first step of recall, so that a
    perfect detector stays below 1 by about 1/N of the sounding samples (or 1/200 for large N).
    Max-F1: over every max(1, N//10)-th of the rising confidences. LocAcc: success on the sounding
    samples whatever their confidence. Precision with nothing declared and recall with nothing to
    find are 1, as in the public code. Raises ValueError without a sounding sample.
    """
    if not is_sounding.any():
        raise ValueError("got no sounding sample, expected one or more")
    if not np.isfinite(confidences).all():
        raise ValueError("got a confidence that is not finite: check the model")
    order = np.sort(confidences)
    step = max(1, order.size // MAX_THRESHOLDS_AP)
    is_hit = is_sounding & (ious >= iou_at)
    precision, recall = precision_recall_at(order[:-1][::-step], is_hit, confidences, is_sounding)
    best_after = np.maximum.accumulate(precision[::-1])[::-1]
    ap = float(np.sum(best_after[:-1] * np.diff(recall))) if recall.size else 0.0
    step = max(1, order.size // MAX_THRESHOLDS_F1)
    precision, recall = precision_recall_at(order[::step], is_hit, confidences, is_sounding)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return ExtendedScores(ap, float(f1.max()), float(np.mean(is_hit[is_sounding])))


def f1_at(
    threshold: float,
    ious: Float[np.ndarray, " n"],
    confidences: Float[np.ndarray, " n"],
    is_sounding: Bool[np.ndarray, " n"],
    iou_at: float = 0.5,
) -> float:
    """F1 at one confidence, without the truth in view; 0 where nothing declared is a hit.

    OneAVM (003) prints F1 below 2P / (1 + P) of its success P, where all samples sound the least
    that max-F1 can be: so its F1 is of one threshold, which SLAVC's code sets to 0.5.
    """
    is_hit = is_sounding & (ious >= iou_at)
    found = precision_recall_at(np.array([threshold]), is_hit, confidences, is_sounding)
    precision, recall = (float(one[0]) for one in found)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0.0 else 0.0


def precision_recall_at(
    thresholds: Float[np.ndarray, " m"],
    is_hit: Bool[np.ndarray, " n"],
    confidences: Float[np.ndarray, " n"],
    is_sounding: Bool[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Precision and recall at each threshold."""

    def num_declared(chosen: np.ndarray) -> np.ndarray:
        ranked = np.sort(confidences[chosen])
        return ranked.size - np.searchsorted(ranked, thresholds, side="left")

    true_positives = num_declared(is_hit)
    declared = num_declared(np.ones(is_hit.size, bool))
    missed = np.count_nonzero(is_sounding) - num_declared(is_sounding)
    ones = np.ones(thresholds.size)
    precision = np.divide(true_positives, declared, out=ones.copy(), where=declared > 0)
    to_find = true_positives + missed
    recall = np.divide(true_positives, to_find, out=ones.copy(), where=to_find > 0)
    return precision, recall
