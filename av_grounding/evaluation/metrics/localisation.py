"""Localisation of one source: consensus IoU, success rate, AUC, and their interactive forms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

Ious = Sequence[float] | Float[np.ndarray, " n"]
# 0.05 * i and not linspace: i = 6 gives 0.30000000000000004 in all public code.
AUC_THRESHOLDS = tuple(0.05 * i for i in range(21))
SWEEP = tuple(i / 20 for i in range(1, 20))


def consensus_iou(predicted: Bool[np.ndarray, "_ _"], truth: Float[np.ndarray, "H W"]) -> float:
    """cIoU(P, G) = Σ P·G / (ΣG + Σ P·[G = 0]) of one prediction (Senocak et al. 2018; LVS).

    `truth` weighs pixels by the share of annotators that marked them; with weights 0 and 1 this
    is the plain IoU. In [0, 1]; raises ValueError for an empty truth, where it is undefined.
    """
    _check(predicted.shape, truth)
    total = float(truth.sum(dtype=np.float64))
    shared = float(truth[predicted].sum(dtype=np.float64))
    num_false = int(np.count_nonzero(predicted & (truth == 0)))
    return shared / (total + num_false)


def consensus_iou_curve(
    values: Float[np.ndarray, "H W"],
    truth: Float[np.ndarray, "H W"],
    thresholds: Sequence[float] = SWEEP,
) -> Float[np.ndarray, " n"]:
    """cIoU of `values >= threshold` at every threshold (rising), in one pass over the pixels."""
    _check(values.shape, truth)
    edges = np.asarray(thresholds, values.dtype)
    reached = np.searchsorted(edges, values.ravel(), side="right")
    flat = truth.ravel().astype(np.float64)

    def at_or_above(weights: np.ndarray) -> np.ndarray:
        return np.bincount(reached, weights, minlength=edges.size + 1)[::-1].cumsum()[::-1][1:]

    return at_or_above(flat) / (flat.sum() + at_or_above((flat == 0).astype(np.float64)))


def success_rate(ious: Ious, at: float = 0.5) -> float:
    """Share of samples with IoU ≥ `at`: cIoU@0.5 of VGG-SS and Flickr, LocAcc of SLAVC."""
    return float(np.mean(_some(ious) >= at))


def success_auc(ious: Ious) -> float:
    """AUC: trapezoids under the success rate at 0.05·i for i = 0 … 20."""
    values = _some(ious)
    rates = np.array([np.mean(values >= threshold) for threshold in AUC_THRESHOLDS])
    widths = np.diff(AUC_THRESHOLDS)
    return float(np.sum(widths * (rates[1:] + rates[:-1]) / 2.0))


def best_of_sweep(curves: Float[np.ndarray, "samples n"]) -> tuple[int, float]:
    """Index and AUC of the one threshold whose AUC over the set is best (`sweep19`, ACL-SSL).

    It looks at the truth of the test set to choose, so it is an upper bound.
    """
    aucs = [success_auc(curves[:, i]) for i in range(curves.shape[1])]
    best = int(np.argmax(aucs))
    return best, aucs[best]


def interactive_ious(ious: Ious, groups: Sequence[str]) -> dict[str, float]:
    """The worst IoU of each image's sounds: success at 0.5 is IIoU, AUC is IAUC (IS3).

    An image counts only if every one of its sounds is found. Groups of one are refused: with a
    sample missing, what is left is no interaction.
    """
    members: dict[str, list[float]] = {}
    for iou, group in zip(ious, groups, strict=True):
        members.setdefault(group, []).append(float(iou))
    alone = sorted(group for group, own in members.items() if len(own) < 2)
    if alone:
        raise ValueError(
            f"got {len(alone)} images with one sound ({alone[0]}, …), expected two or more each"
        )
    return {group: min(own) for group, own in sorted(members.items())}


def _check(shape: tuple[int, ...], truth: np.ndarray) -> None:
    if shape != truth.shape:
        raise ValueError(
            f"got a prediction of shape {shape} and a truth of shape {truth.shape}, expected one "
            "shape: upsample the map first"
        )
    if not truth.any():
        raise ValueError("got an empty truth: IoU is undefined; leave the sample out and count it")


def _some(ious: Ious) -> Float[np.ndarray, " n"]:
    values = np.asarray(ious, np.float64)
    if values.size == 0:
        raise ValueError("got no IoU, expected one or more")
    return values
