"""How well outlines agree, and how many things any of the proposals holds.

Boundary F is Martin, Fowlkes & Malik's (2004) with the matching of the DAVIS benchmark (Perazzi et
al. 2016): a border pixel counts as found where the other border passes within a tolerance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from av_grounding.evaluation.metrics.pointing import check_same_shape

TOLERANCE_PX, AT_PX = 2.0, 224
"""Two pixels where the picture's short side has 224; in proportion elsewhere."""
NUM_THRESHOLDS = 20


class BestBoundary(NamedTuple):
    """The highest mean boundary F of one threshold for all maps, and that threshold."""

    value: float
    threshold: float


def boundary_f(predicted: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> float:
    """Harmonic mean of the shares of both borders that lie near the other, in [0, 1].

    A border is the inner rim of a mask, the picture's edge left out. 1 where neither mask has one,
    0 where only one has.
    """
    check_same_shape(predicted, truth)
    return _f(_border(predicted), _border(truth))


def best_boundary_f(
    heatmaps: Sequence[Float[np.ndarray, "_ _"]], masks: Sequence[Bool[np.ndarray, "_ _"]]
) -> BestBoundary:
    """Mean boundary F of `heatmap > threshold`, at the best of 20 thresholds for all maps.

    The thresholds are evenly spaced over the values of all maps. Like `oracle20_shared` of mean
    IoU it looks at the truth to choose: an upper bound of a deployed threshold.
    """
    if not heatmaps or len(heatmaps) != len(masks):
        raise ValueError(
            f"got {len(heatmaps)} maps and {len(masks)} masks, expected one mask for each of one "
            "map or more"
        )
    low = min(float(one.min()) for one in heatmaps)
    high = max(float(one.max()) for one in heatmaps)
    sweep = np.linspace(low, high, NUM_THRESHOLDS + 1)[:-1]
    totals = np.zeros(len(sweep))
    for heatmap, mask in zip(heatmaps, masks, strict=True):
        check_same_shape(heatmap, mask)
        border = _border(mask)
        totals += [_f(_border(heatmap > threshold), border) for threshold in sweep]
    best = int(totals.argmax())
    return BestBoundary(float(totals[best] / len(masks)), float(sweep[best]))


def proposal_recall(
    proposals: Iterable[tuple[Bool[np.ndarray, "_ h w"], Bool[np.ndarray, "_ h w"]]],
    counts: Sequence[int],
    min_iou: float = 0.5,
) -> dict[int, dict[str, float]]:
    """N -> the share of true masks that one of a picture's first N proposals matches.

    `proposals` are (masks in their order, true masks) of each picture. "recall" counts an IoU of
    `min_iou` or more as a match, "mean_best_iou" averages the best. Empty truths are left out.
    """
    best: dict[int, list[float]] = {num: [] for num in counts}
    for masks, truths in proposals:
        for truth in truths[truths.any(axis=(1, 2))]:
            shared = (masks & truth).sum(axis=(1, 2))
            iou = shared / np.maximum((masks | truth).sum(axis=(1, 2)), 1)
            for num, found in best.items():
                found.append(float(iou[:num].max(initial=0.0)))
    if not all(best.values()):
        raise ValueError(
            "got no true mask with a pixel, expected one or more pictures with things"
        )
    return {
        num: {
            "recall": float(np.mean(np.array(found) >= min_iou)),
            "mean_best_iou": float(np.mean(found)),
        }
        for num, found in best.items()
    }


def _border(mask: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """1 on the pixels of the mask whose neighbourhood it does not fill."""
    import cv2

    inside = mask.astype(np.uint8)
    # Beyond the picture nothing is known, so its edge is no border.
    return inside - cv2.erode(inside, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)


def _f(one: UInt8[np.ndarray, "H W"], other: UInt8[np.ndarray, "H W"]) -> float:
    if not one.any() or not other.any():
        return float(one.any() == other.any())
    tolerance = TOLERANCE_PX * min(one.shape) / AT_PX
    precision, recall = _near(one, other, tolerance), _near(other, one, tolerance)
    return 2 * precision * recall / max(precision + recall, 1e-12)


def _near(border: np.ndarray, other: np.ndarray, tolerance: float) -> float:
    import cv2

    distance = cv2.distanceTransform(1 - other, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance[border > 0] <= tolerance).mean())
