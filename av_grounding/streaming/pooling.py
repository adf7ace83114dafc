"""From tokens in time to one heatmap per head: what to listen to, and the linearity identity.

The heatmap of a set of tokens is the weighted time mean of the similarity volume. The inner
product is linear, mean_t <a_t, v_hw> = <mean_t a_t, v_hw>, so the mean is taken over the vectors
and the volume is never built.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from av_grounding.streaming.aggregator import Slots
from av_grounding.types import Backend, HeadCalibration, ImageTokens, ModelSpec


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the heads listen to for one frame: none where a head has nothing to go by."""

    sound: Float32[np.ndarray, " c"] | None
    """The pooled vector of the sound head."""
    speech: Float32[np.ndarray, "n c"] | None
    """Vectors of the speech tokens, which are weighted once the image is known."""
    speech_weights: Float32[np.ndarray, " n"] | None


@dataclass(frozen=True, slots=True)
class HeadMaps:
    """Calibrated maps and their largest values; zeros where a head has no evidence."""

    sound: Float32[np.ndarray, "h w"]
    speech: Float32[np.ndarray, "h w"]
    sound_score: float
    speech_score: float


def has_evidence(slots: Slots, spec: ModelSpec, head: str) -> np.ndarray:
    """Which slots were heard and carry a vector above the head's evidence floor, (n,) bool."""
    floor = spec.min_token_norm.get(head, 0.0)
    norms = np.linalg.norm(slots.vectors[spec.heads.index(head)], axis=1)
    return (slots.trust > 0.0) & (norms >= floor)


def recency_weights(
    centres: Float[np.ndarray, " n"], now: int | float, time_constant: int | float
) -> Float32[np.ndarray, " n"]:
    """Exponential decay with age; everything in samples."""
    return np.exp((centres - now) / time_constant).astype(np.float32)


def pool(
    vectors: Float32[np.ndarray, "n c"], weights: Float32[np.ndarray, " n"]
) -> Float32[np.ndarray, " c"] | None:
    """Weighted mean of the vectors; None where no weight is left."""
    total = float(weights.sum(dtype=np.float64))
    if total <= 0.0:
        return None
    return (weights / np.float32(total)) @ vectors


def salience(similarity: Float32[np.ndarray, "n h w"]) -> Float32[np.ndarray, " n"]:
    """How peaked each token's own map is: its maximum over its mean, never negative.

    In "a picture of a dog" only the tokens of the noun have a peak in the image, so this finds
    the noun without a transcript.
    """
    flat = similarity.reshape(similarity.shape[0], -1)
    return np.maximum(flat.max(axis=1) - flat.mean(axis=1), 0.0)


def salient_weights(
    similarity: Float32[np.ndarray, "n h w"],
    weights: Float32[np.ndarray, " n"],
    calibration: HeadCalibration,
    power: float,
) -> Float32[np.ndarray, " n"]:
    """`weights` times each token's salience (in calibrated logits) to the given power.

    Where no token stands out at all, the weights stay as they are.
    """
    peaks = salience(np.float32(calibration.scale) * similarity) * (weights > 0.0)
    largest = float(peaks.max(initial=0.0))
    if power == 0.0 or largest <= 0.0:
        return weights
    # Relative to the largest: powers of large logits must not overflow.
    return weights * (peaks / np.float32(largest)) ** np.float32(power)


def ground(
    backend: Backend,
    image_tokens: ImageTokens,
    evidence: Evidence,
    num_channels: int,
    salience_power: float,
) -> HeadMaps:
    """Both heads' maps of one image with one call to the backend."""
    spec = backend.spec
    num_vectors = 1 if evidence.speech is None else evidence.speech.shape[0]
    vectors = np.zeros((len(spec.heads), num_vectors, num_channels), np.float32)
    if evidence.sound is not None:
        vectors[spec.heads.index("sound"), 0] = evidence.sound
    if evidence.speech is not None:
        vectors[spec.heads.index("speech")] = evidence.speech
    similarity = backend.ground(image_tokens, vectors)
    grid = similarity.shape[2:]
    sound = speech = None
    if evidence.sound is not None:
        calibrate = spec.calibration.get("sound", HeadCalibration())
        sound = calibrate(similarity[spec.heads.index("sound"), 0])
    if evidence.speech is not None and evidence.speech_weights is not None:
        calibrate = spec.calibration.get("speech", HeadCalibration())
        token_maps = similarity[spec.heads.index("speech")]
        weights = salient_weights(token_maps, evidence.speech_weights, calibrate, salience_power)
        # By linearity the mean of the tokens' maps is the map of their pooled vector.
        shares = weights / weights.sum(dtype=np.float32)
        speech = calibrate(shares.dot(token_maps.reshape(num_vectors, -1)).reshape(grid))
    sound_score, speech_score = (
        0.0 if heatmap is None else float(heatmap.max()) for heatmap in (sound, speech)
    )
    silent = np.zeros(grid, np.float32)
    return HeadMaps(
        silent.copy() if sound is None else sound,
        silent if speech is None else speech,
        sound_score,
        speech_score,
    )
