"""Cross-modal retrieval, head disentanglement, and nearest-neighbour recognition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from av_grounding.evaluation.metrics.ranking import average_precision

RECALL_AT = (1, 5, 10)
SMALLEST_SCORE = 1e-4


def recall_at(
    similarity: Float[np.ndarray, "n n"],
    k: int,
    *,
    partners: Bool[np.ndarray, "n n"] | None = None,
) -> float:
    """Share of rows whose own column is among the k most similar ones (R@k).

    Rows ask, columns answer: with rows of images this is I→A, transposed A→I. (DenseAV's
    released code calls I→A "A_r" and A→I "I_r".) A tie counts against the row: the own column
    must beat all but k − 1 others, so that a constant matrix scores 0 and not 1. `partners`
    marks further columns that count as right: label-level recall, a metric of its own.
    """
    if partners is None:
        partners = np.eye(similarity.shape[0], dtype=bool)
    right = np.where(partners, similarity, -np.inf).max(axis=1, keepdims=True)
    num_ahead = np.count_nonzero(~partners & (similarity >= right), axis=1)
    return float(np.mean(num_ahead < k))


def recall_in_galleries(
    similarity: Float[np.ndarray, "n n"], size: int, *, num: int = 100, seed: int = 0
) -> float:
    """R@1 among `size` pairs at a time, the mean over `num` draws; ValueError for fewer pairs."""
    if not 0 < size <= len(similarity):
        raise ValueError(f"galleries of {size} from {len(similarity)} pairs: expected as many")
    rng = np.random.default_rng(seed)
    draws = (rng.choice(len(similarity), size, replace=False) for _ in range(num))
    return float(np.mean([recall_at(similarity[np.ix_(rows, rows)], 1) for rows in draws]))


def recalls(similarity: Float[np.ndarray, "n n"]) -> dict[str, float]:
    """R@1, R@5, R@10 in both directions; rows are images, columns clips."""
    directions = {"i2a": similarity, "a2i": similarity.T}
    return {
        f"{direction}_r{k}": recall_at(matrix, k)
        for direction, matrix in directions.items()
        for k in RECALL_AT
    }


class Disentanglement(NamedTuple):
    """DenseAV's two scores, in [0, 1]; 1 when each head knows its own kind alone."""

    pred_dis: float
    act_dis: float


def disentanglement(
    scores: Float[np.ndarray, "n 2"], is_second: Bool[np.ndarray, " n"]
) -> Disentanglement:
    """How well two heads' scores tell two kinds of clips apart (001 section 5, released code).

    `scores` are each pair's similarity under both heads, `is_second` marks the kind that the
    second head should answer. Each head is min-max scaled over both kinds jointly and clamped to
    [1e-4, 1]. δ_ab is the AP of head a separating kind b from the other: PredDis = ½ max(δ00 +
    δ11, δ01 + δ10). ActDis: the same maximum over permutations with 1 − the mean score of head a
    on the kind it should be silent on. The maximum frees heads of their names.
    """
    if not (is_second.any() and (~is_second).any()):
        raise ValueError("got clips of one kind, expected both sound and speech")
    low, high = scores.min(axis=0), scores.max(axis=0)
    scaled = np.clip((scores - low) / np.maximum(high - low, 1e-12), SMALLEST_SCORE, 1.0)
    kinds = (~is_second, is_second)
    delta = np.array([[average_precision(scaled[:, a], kind) for kind in kinds] for a in (0, 1)])
    # quiet[a, b]: how silent head a is on the kind that is not b.
    quiet = np.array([[1.0 - scaled[kinds[1 - b], a].mean() for b in (0, 1)] for a in (0, 1)])
    pred, act = (
        0.5 * max(table[0, 0] + table[1, 1], table[0, 1] + table[1, 0]) for table in (delta, quiet)
    )
    return Disentanglement(float(pred), float(act))


def nearest_neighbour_accuracy(
    queries: Float[np.ndarray, "n c"],
    gallery: Float[np.ndarray, "m c"],
    query_classes: Sequence[str],
    gallery_classes: Sequence[str],
    *,
    excludes_self: bool,
) -> float:
    """Share of queries whose nearest neighbour by cosine has their class (003 section 4).

    The paper states neither k nor the gallery: here k = 1 and the gallery is the whole test set.
    wNN-Acc (within a modality): both sides are the same features and `excludes_self` leaves out
    query i's own entry i. xNN-Acc (across): the own partner stays, since recognising it is part
    of the task. The first of equal neighbours is taken.
    """
    similarity = cosine(queries, gallery)
    if excludes_self:
        np.fill_diagonal(similarity, -np.inf)
    nearest = similarity.argmax(axis=1)
    names = np.asarray(gallery_classes)
    return float(np.mean(names[nearest] == np.asarray(query_classes)))


def cosine(
    rows: Float[np.ndarray, "n c"], columns: Float[np.ndarray, "m c"]
) -> Float[np.ndarray, "n m"]:
    """Cosine of every pair; a vector of zeros is at right angles to all others."""
    return _unit(rows) @ _unit(columns).T


def _unit(features: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, 1e-12)
