"""What a bundle of several sources learns from the validation split of the synthetic world:
calibration, when two candidates are two sources, and how many are heard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np

from av_grounding.grounder import Grounder, clip_hop_s, longest_hop_s
from av_grounding.identification import SourcesSpec, counting_features, find_seeds, merged
from av_grounding.image import ResizeTransform
from av_grounding.streaming.offline import hear_clip
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.synthetic.stage_samples import StageSample, mixtures, stage_samples
from av_grounding.training.fitting.calibration import (
    Cases,
    as_arrays,
    largest_similarities,
    uncalibrated,
)

Progress = Callable[[int, int], None]
MIN_SIMILARITY = (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
SAME_COSINE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SILENT_COSINE = (0.5, 0.7, 0.9)
MIN_OF_EACH_NUMBER = 10
PENALTY = 1000.0
"""Inverse strength of the regression's: directions are short, so weights must be large."""


def stage_cases(
    grounder: Grounder, num: int, seed: int, progress: Progress | None = None
) -> Cases:
    """Largest similarities of stages with their own mixture, and with a sound from elsewhere."""
    plain = uncalibrated(grounder)
    found: dict[str, list[tuple[float, bool]]] = {head: [] for head in plain.spec.head_names}
    for number, sample in enumerate(stage_samples(num, seed, "val")):
        for waveform, matching in ((sample.mixture, True), (sample.absent, False)):
            grounding = plain.ground(
                sample.image, waveform, SAMPLE_RATE_HZ, hop_s=clip_hop_s(plain.spec)
            )
            for head, peak in largest_similarities(grounding).items():
                found[head].append((peak, matching))
        if progress:
            progress(number + 1, num)
    return as_arrays(found)


def fit_identification(
    grounder: Grounder, num: int, seed: int, progress: Progress | None = None
) -> tuple[SourcesSpec, float]:
    """The thresholds under which most stages get the right number of sources, and their share.

    NoPrior states its own for its own features; these depend on the model alike.
    """
    seen = []
    for number, sample in enumerate(stage_samples(num, seed, "val")):
        features, similarity = features_of(grounder, sample)
        if similarity.size:  # else the floor silences the mixture, which tells of no source
            seen.append((features, similarity, len(sample.sounding)))
        if progress:
            progress(number + 1, num)
    base = grounder.spec.sources or SourcesSpec()
    best, best_right = base, -1
    for least, same, silent in product(MIN_SIMILARITY, SAME_COSINE, SILENT_COSINE):
        spec = replace(
            base, num_sources=0, min_similarity=least, same_cosine=same, silent_cosine=silent
        )
        right = sum(count(*one[:2], spec) == one[2] for one in seen)
        if right > best_right:
            best, best_right = spec, right
    return best, best_right / max(len(seen), 1)


def fit_counting(
    grounder: Grounder, num: int, seed: int, progress: Progress | None = None
) -> tuple[tuple[tuple[float, ...], ...], float]:
    """Weights of `num_heard`, and the share that is right of one mixture in five, kept out of the
    fit. Mixtures in which nothing is heard are left out; without enough of each number, none."""
    from sklearn.linear_model import LogisticRegression

    backend, spec = grounder.backend, grounder.spec
    head, most = spec.heads[0].name, (spec.sources or SourcesSpec()).max_sources
    heard, numbers = [], []
    for number, (mixture, num_sounding) in enumerate(mixtures(num, seed, "val")):
        queries, _ = hear_clip(backend, mixture, SAMPLE_RATE_HZ, hop_s=longest_hop_s(spec))
        if head in queries:
            heard.append(counting_features(queries[head].vectors[0])[:-1])
            numbers.append(min(num_sounding, most))
        if progress:
            progress(number + 1, num)
    most = max(numbers, default=0)
    is_held_out = np.arange(len(numbers)) % 5 == 4
    known = np.array(numbers, np.int64)[~is_held_out]
    if not most or np.bincount(known, minlength=most + 1)[1:].min() < MIN_OF_EACH_NUMBER:
        return (), 0.0
    features = np.stack(heard)
    fitted = LogisticRegression(C=PENALTY, max_iter=5000).fit(features[~is_held_out], known)
    weights = np.column_stack([fitted.coef_, fitted.intercept_]).round(4)
    if len(weights) == 1:  # of two classes one row says both
        weights = np.concatenate([-weights, weights])
    right = fitted.score(features[is_held_out], np.array(numbers)[is_held_out])
    return tuple(map(tuple, weights.tolist())), float(right)


def count(features: np.ndarray, similarity: np.ndarray, spec: SourcesSpec) -> int:
    """How many sources are inferred."""
    seeds, _ = find_seeds(features, similarity, spec)
    return max(1, len(merged(seeds, features, spec))) if seeds else 1


def features_of(grounder: Grounder, sample: StageSample) -> tuple[np.ndarray, np.ndarray]:
    """The image's features (c, r) and their similarity (r,) with the clip's sound; (0,) where
    nothing is heard."""
    one_map = uncalibrated(grounder.with_spec(replace(grounder.spec, sources=None)))
    spec, backend = one_map.spec, one_map.backend
    grounding = one_map.ground(
        sample.image, sample.mixture, SAMPLE_RATE_HZ, hop_s=clip_hop_s(spec)
    )
    similarity = grounding["sound"].logits.reshape(-1)
    placement = ResizeTransform.fit(*sample.image.shape[:2], spec.short_side_px, spec.patch_px)
    tokens = backend.encode_image(placement.apply(sample.image))
    num = backend.encode_audio(np.zeros(spec.num_window_samples, np.float32)).shape[1]
    axes = np.tile(np.eye(num, dtype=np.float32), (len(spec.heads), 1, 1))
    features = backend.similarity(tokens, axes)
    return features[spec.head_names.index("sound")], similarity
