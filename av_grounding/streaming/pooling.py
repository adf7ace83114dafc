"""From tokens in time to the answer of each head: what to listen to, and the linearity identity.

The heatmap of a set of tokens is the weighted time mean of the similarity volume. Similarity is
linear in the tokens, mean_t <a_t, v_r> = <mean_t a_t, v_r>, so the mean is taken over the vectors
and the volume is never built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from av_grounding.streaming.aggregator import Slots
from av_grounding.types import Backend, HeadAnswer, HeadSpec, ImageTokens, ModelSpec


@dataclass(frozen=True, slots=True)
class AudioQuery:
    """What one head listens to for one frame.

    Several vectors are weighted once the image is known: by `weights` and their salience.
    """

    vectors: Float32[np.ndarray, "n c"]
    weights: Float32[np.ndarray, " n"]


Queries = Mapping[str, AudioQuery]
"""Of the heads that have something to go by."""


def has_evidence(slots: Slots, spec: ModelSpec, head: HeadSpec) -> Bool[np.ndarray, " n"]:
    """Which slots were heard and carry a vector above the head's evidence floor."""
    norms = np.linalg.norm(slots.vectors[spec.heads.index(head)], ord=head.norm_order, axis=1)
    return (slots.trust > 0.0) & (norms >= head.min_token_norm)


def recency_weights(
    centres: Float[np.ndarray, " n"], now: int | float, time_constant: int | float
) -> Float32[np.ndarray, " n"]:
    """Exponential decay with age; everything in samples."""
    return np.exp((centres - now) / time_constant).astype(np.float32)


def pool(
    vectors: Float32[np.ndarray, "n c"], weights: Float32[np.ndarray, " n"]
) -> AudioQuery | None:
    """Weighted mean of the vectors; None where no weight is left."""
    total = float(weights.sum(dtype=np.float64))
    if total <= 0.0:
        return None
    pooled = (weights / np.float32(total)) @ vectors
    return AudioQuery(pooled[None], np.ones(1, np.float32))


def salience(similarity: Float32[np.ndarray, "n r"]) -> Float32[np.ndarray, " n"]:
    """How peaked each token's own map is: its maximum over its mean, never negative.

    In "a picture of a dog" only the tokens of the noun have a peak in the image, so this finds
    the noun without a transcript.
    """
    return np.maximum(similarity.max(axis=1) - similarity.mean(axis=1), 0.0)


def salient_weights(
    similarity: Float32[np.ndarray, "n r"],
    weights: Float32[np.ndarray, " n"],
    scale: float,
    power: float,
) -> Float32[np.ndarray, " n"]:
    """`weights` times each token's salience (in logits of that `scale`) to the given power.

    Where no token stands out at all, the weights stay as they are.
    """
    peaks = salience(np.float32(scale) * similarity) * (weights > 0.0)
    largest = float(peaks.max(initial=0.0))
    if power == 0.0 or largest <= 0.0:
        return weights
    # Relative to the largest: powers of large logits must not overflow.
    return weights * (peaks / np.float32(largest)) ** np.float32(power)


def answer(
    backend: Backend, tokens: ImageTokens, queries: Queries, num_channels: int
) -> dict[str, HeadAnswer]:
    """Every head's answer to one image, with one call for the similarity of all of them."""
    spec = backend.spec
    nothing = HeadAnswer(np.zeros((0, *backend.grid(tokens)), np.float32))
    answers = dict.fromkeys(spec.head_names, nothing)
    if not queries:
        return answers
    num_vectors = max(len(query.vectors) for query in queries.values())
    stacked = np.zeros((len(spec.heads), num_vectors, num_channels), np.float32)
    for index, head in enumerate(spec.heads):
        if head.name in queries:
            stacked[index, : len(queries[head.name].vectors)] = queries[head.name].vectors
    similarity = backend.similarity(tokens, stacked)
    for index, head in enumerate(spec.heads):
        if head.name in queries:
            query = queries[head.name]
            of_tokens = similarity[index, : len(query.vectors)]
            answers[head.name] = _answer(backend, tokens, head, query, of_tokens)
    return answers


def _answer(
    backend: Backend,
    tokens: ImageTokens,
    head: HeadSpec,
    query: AudioQuery,
    similarity: Float32[np.ndarray, "n r"],
) -> HeadAnswer:
    if len(query.vectors) == 1:
        pooled, merged = query.vectors[0], similarity[0]
    else:
        weights = salient_weights(
            similarity, query.weights, head.calibration.scale, head.salience_power
        )
        # By linearity the mean of the tokens' maps is the map of their pooled vector.
        shares = weights / weights.sum(dtype=np.float32)
        pooled, merged = shares @ query.vectors, shares.dot(similarity)
    if backend.spec.compares == "cosine":
        merged = merged / max(float(np.linalg.norm(pooled)), 1e-12)
    maps = backend.maps(tokens, head.name, pooled, merged)
    logits = backend.paint(tokens, head.calibration.logits(maps)[None])[0]
    return HeadAnswer(
        logits,
        backend.labels(tokens, head.name, maps),
        regions=backend.regions(tokens, head.calibration.logits(merged)),
    )
