"""Scores of retrieval, disentanglement and recognition: N images against N clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from av_grounding.evaluation.benchmark import PairSample
from av_grounding.evaluation.metrics import retrieval
from av_grounding.evaluation.prediction import PairFeatures

# Tokens are multiplied in blocks of one size, so that their bits depend on nothing else.
BLOCK_TOKENS = 4096
GALLERY = 128
WHOLES = "model, vectors of wholes"


def similarity_matrices(
    features: Sequence[PairFeatures], progress: Callable[[int], None] | None = None
) -> Float[np.ndarray, "k n n"]:
    """Head -> images × clips: maximum over space, mean over the clip's tokens (001 eq. 4)."""
    num_heads = features[0].image.shape[0]
    counts = np.array([one.tokens.shape[1] for one in features])
    if (counts == 0).any():
        raise ValueError(f"got a clip without a token (sample {int(counts.argmin())})")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    tokens = np.concatenate([one.tokens for one in features], axis=1)
    padding = -tokens.shape[1] % BLOCK_TOKENS
    tokens = np.pad(tokens, ((0, 0), (0, padding), (0, 0)))
    scores = np.empty((num_heads, len(features), len(features)))
    for row, one in enumerate(features):
        for head in range(num_heads):
            best = np.concatenate(
                [
                    (tokens[head, start : start + BLOCK_TOKENS] @ one.image[head]).max(axis=1)
                    for start in range(0, tokens.shape[1], BLOCK_TOKENS)
                ]
            )[: counts.sum()]
            scores[head, row] = np.add.reduceat(best.astype(np.float64), starts) / counts
        if progress is not None:
            progress(row + 1)
    return scores


def retrieval_rows(
    scores: Float[np.ndarray, "k n n"], heads: Sequence[str], samples: Sequence[PairSample]
) -> dict[str, dict[str, float]]:
    """R@1/5/10 both ways under the sum of the heads and under each; label-level recall beside.

    The head that should not know the clips is the disentanglement row of 000 table 6: lower is
    better there.
    """
    asked = {sample.head for sample in samples}
    rows = {"model, total of both heads": retrieval.recalls(scores.sum(axis=0))}
    if len(heads) == 1:
        rows = {}
    for number, head in enumerate(heads):
        opposite = "" if head in asked else ", the opposite head"
        rows[f"model, {head} head{opposite}"] = retrieval.recalls(scores[number])
    if all(sample.class_name for sample in samples):
        names = np.array([sample.class_name for sample in samples])
        partners = names[:, None] == names[None, :]
        for row, matrix in zip(rows.values(), _matrices(scores), strict=True):
            for k in retrieval.RECALL_AT:
                row[f"label_a2i_r{k}"] = retrieval.recall_at(matrix.T, k, partners=partners.T)
    num = len(samples)
    chance = {
        f"{way}_r{k}": min(1.0, k / num) for way in ("i2a", "a2i") for k in retrieval.RECALL_AT
    }
    ceiling = dict.fromkeys(chance, 1.0)
    return {**rows, "chance": chance, "ceiling": ceiling}


def sample_rows(
    scores: Float[np.ndarray, "k n n"], samples: Sequence[PairSample]
) -> list[dict[str, Any]]:
    """Each sample's own score under every head, and how many wrong partners come before it."""
    total = scores.sum(axis=0)
    own = np.diagonal(total)
    before_i2a = np.count_nonzero(total >= own[:, None], axis=1) - 1
    before_a2i = np.count_nonzero(total >= own[None, :], axis=0) - 1
    return [
        {
            "id": sample.id,
            "class": sample.class_name,
            "head": sample.head,
            "scores": scores[:, i, i].tolist(),
            "num_before_i2a": int(before_i2a[i]),
            "num_before_a2i": int(before_a2i[i]),
        }
        for i, sample in enumerate(samples)
    ]


def _matrices(scores: Float[np.ndarray, "k n n"]) -> list[np.ndarray]:
    return [scores.sum(axis=0), *scores] if len(scores) > 1 else list(scores)


def disentanglement_rows(
    scores: Float[np.ndarray, "n k"], samples: Sequence[PairSample], heads: Sequence[str]
) -> dict[str, dict[str, float]]:
    """PredDis and ActDis of the pairs' own scores.

    Heads that never answer reach PredDis 0.5 and ActDis 1: ActDis alone says nothing.
    """
    if len(heads) != 2:
        raise ValueError(f"got a model with heads {', '.join(heads)}, expected two")
    is_second = np.array([sample.head == heads[1] for sample in samples])
    own = retrieval.disentanglement(scores, is_second)
    silent = retrieval.disentanglement(np.zeros_like(scores), is_second)
    return {
        "model": own._asdict(),
        "heads that never answer": silent._asdict(),
        "ceiling": {"pred_dis": 1.0, "act_dis": 1.0},
    }


def recognition_rows(
    features: Sequence[PairFeatures],
    samples: Sequence[PairSample],
    heads: Sequence[str],
) -> dict[str, dict[str, float]]:
    """IR-Acc, xNN-Acc and wNN-Acc on features of the asked head, means over space and time.

    IR-Acc depends on the gallery, of which 003 says nothing: beside the whole set's stands the
    mean over seeded galleries of 128, where there are more. A model with vectors of whole
    pictures and clips, as 003's g^glb, has a row for them.
    """
    names = [sample.class_name for sample in samples]
    if not all(names):
        raise ValueError("got samples without a class, expected one each")
    head = [heads.index(sample.head) for sample in samples]
    images = np.stack([one.image[k].mean(axis=1) for one, k in zip(features, head, strict=True)])
    clips = np.stack([one.tokens[k].mean(axis=0) for one, k in zip(features, head, strict=True)])
    rows = {"model": _recognised(images, clips, names)}
    wholes = [one.wholes for one in features if one.wholes is not None]
    if len(wholes) == len(features):
        rows[WHOLES] = _recognised(*map(np.stack, zip(*wholes, strict=True)), names)
    model = rows["model"]
    counts = np.unique(names, return_counts=True)[1]
    num = len(names)
    by_chance = float(np.sum((counts / num) ** 2))
    has_other = float(counts[counts > 1].sum() / num)
    chance = {name: 1.0 / num if name.startswith("ir") else by_chance for name in model}
    chance |= {name: 1.0 / GALLERY for name in model if name.endswith(f"_of_{GALLERY}")}
    ceiling = {name: has_other if name.startswith("wnn") else 1.0 for name in model}
    return {**rows, "chance": chance, "ceiling": ceiling}


def _recognised(
    images: Float[np.ndarray, "n c"], clips: Float[np.ndarray, "n c"], names: Sequence[str]
) -> dict[str, float]:
    cosine = retrieval.cosine(images, clips)
    near = retrieval.nearest_neighbour_accuracy
    scores = {
        "ir_acc_i2a": retrieval.recall_at(cosine, 1),
        "ir_acc_a2i": retrieval.recall_at(cosine.T, 1),
        "xnn_acc_i2a": near(images, clips, names, names, excludes_self=False),
        "xnn_acc_a2i": near(clips, images, names, names, excludes_self=False),
        "wnn_acc_image": near(images, images, names, names, excludes_self=True),
        "wnn_acc_audio": near(clips, clips, names, names, excludes_self=True),
    }
    if len(names) > GALLERY:
        for way, asked in (("i2a", cosine), ("a2i", cosine.T)):
            scores[f"ir_acc_{way}_of_{GALLERY}"] = retrieval.recall_in_galleries(asked, GALLERY)
    return scores
