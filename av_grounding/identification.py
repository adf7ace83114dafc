"""Which parts of an image sound, told apart by what they look like (papers 004 and [18] there).

No caption and no class is needed: the cell that answers loudest stands for the first source; the
cells that look like it, rather than like what is silent, are its region; what is left of the
similarity is searched for the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64

MAX_SOURCES = 8


@dataclass(frozen=True)
class SourcesSpec:
    """How sources are told apart, stored in the bundle; ValueError outside the stated ranges."""

    max_sources: int = 4
    """Maps at most, 1 to 8."""
    num_sources: int = 0
    """Maps of every frame, as far as there is something left to find; 0 infers how many."""
    min_similarity: float = 0.1
    """What is left of the similarity must reach this for one more source, in [-1, 1]."""
    same_cosine: float = 0.6
    """Candidates whose features are at least as alike as this are one source, in [-1, 1]."""
    silent_cosine: float = 0.7
    """Candidates that look this much like what is silent are none, in [-1, 1]."""
    silent_similarity: float = 0.4
    """α_n of 004 eq. 2: cells well under this similarity say what silence looks like."""
    mask_width: float = 0.03
    """ω of 004 eq. 2, above 0."""
    sharpness: float = 20.0
    """Of the soft assignment of cells to sources, per unit of squared distance; above 0."""
    counting: tuple[tuple[float, ...], ...] = ()
    """Of a model that hears how many there are (see `num_heard`): weights for one source, for two
    and so on, each of 2 c + 1 numbers. Empty: those that are seen are counted."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_sources", 1, MAX_SOURCES),
            ("num_sources", 0, MAX_SOURCES),
            ("min_similarity", -1.0, 1.0),
            ("same_cosine", -1.0, 1.0),
            ("silent_cosine", -1.0, 1.0),
            ("silent_similarity", -1.0, 1.0),
            ("mask_width", 1e-6, 10.0),
            ("sharpness", 1e-6, 1e6),
        ):
            value = getattr(self, name)
            is_number = _is_number(value)
            is_whole = not name.endswith("sources") or isinstance(value, int)
            if not is_number or not is_whole or not low <= value <= high:
                kind = "a whole number" if name.endswith("sources") else "a number"
                raise ValueError(f"{name} is {value!r}; expected {kind} from {low:g} to {high:g}")
        lengths = {len(row) for row in self.counting}
        is_odd = all(length % 2 for length in lengths)
        if len(self.counting) > self.max_sources or len(lengths) > 1 or not is_odd:
            raise ValueError(
                f"counting has {len(self.counting)} rows of {sorted(lengths)} numbers; expected "
                f"at most {self.max_sources}, all of one odd length"
            )
        if not all(_is_number(value) for row in self.counting for value in row):
            raise ValueError("counting holds what is no finite number; fit it again")
        if self.num_sources > self.max_sources:
            raise ValueError(
                f"{self.num_sources} sources asked for; expected at most {self.max_sources}, "
                "which is what this bundle gives"
            )

    def counted(self, query: Float32[np.ndarray, " c"]) -> SourcesSpec:
        """With as many sources as are heard in a pooled sound, where that is not given."""
        if self.num_sources or not self.counting:
            return self
        return replace(self, num_sources=num_heard(query, self.counting))


def _is_number(value: object) -> bool:
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def num_heard(query: Float32[np.ndarray, " c"], counting: tuple[tuple[float, ...], ...]) -> int:
    """How many sources a pooled sound is made of: the most likely of a softmax regression.

    Sounds that overlap pull their mean away from every single one of them, which the direction
    shows better than the picture. ValueError where the weights are for vectors of other length.
    """
    features = counting_features(query)
    weights = np.asarray(counting, np.float64)
    if weights.shape[1] != len(features):
        raise ValueError(
            f"counting has rows of {weights.shape[1]} numbers; expected {len(features)} for "
            f"vectors of {len(query)}: fit it again"
        )
    return 1 + int(np.argmax(weights @ features))


def counting_features(query: Float32[np.ndarray, " c"]) -> Float64[np.ndarray, " f"]:
    """What is counted by: the sound's direction, its coordinates' sizes, and 1."""
    direction = query.astype(np.float64) / max(float(np.linalg.norm(query)), 1e-12)
    return np.concatenate([direction, np.abs(direction), [1.0]])


def source_maps(
    features: Float32[np.ndarray, "c r"], similarity: Float32[np.ndarray, " r"], spec: SourcesSpec
) -> Float32[np.ndarray, "m r"]:
    """One similarity a source, the one with the highest peak first; at least one map.

    Each is the whole similarity where its cells look like the source, and next to nothing where
    they look like another source or like what is silent: their maximum is the whole similarity
    wherever some source is seen, so a calibration of one map serves for all. Where nothing
    reaches `min_similarity`, the whole similarity is the only map.
    """
    seeds, silent = find_seeds(features, similarity, spec)
    if not seeds:
        return similarity[None]
    groups = merged(seeds, features, spec)
    if spec.num_sources:
        # The loudest: what is left of one source's rim would else be the next one.
        groups = groups[: spec.num_sources]
        if len(groups) < spec.num_sources:
            groups = split(seeds, features, spec.num_sources)
    # Each of a source's seeds, then silence: distances of unit vectors, so 0 to 4.
    looks = unit(features)
    distances = [
        np.min([distance(looks, looks[:, seed]) for seed in group], axis=0) for group in groups
    ]
    distances.append(distance(looks, silent))
    # Relative to the nearest: powers must not underflow for all of them.
    closeness = np.exp(-spec.sharpness * (np.stack(distances) - np.min(distances, axis=0)))
    shares = closeness[:-1] / closeness.sum(axis=0)
    maps = np.where(similarity > 0.0, similarity * shares, similarity).astype(np.float32)
    order = np.argsort(-maps.max(axis=1), kind="stable")
    return maps[order]


def find_seeds(
    features: Float32[np.ndarray, "c r"], similarity: Float32[np.ndarray, " r"], spec: SourcesSpec
) -> tuple[list[int], Float32[np.ndarray, " c"]]:
    """The cell that stands for each candidate, the loudest first, and what silence looks like.

    While something is left that is loud enough, without those that look silent. With `num_sources`
    given there are at least that many, as far as cells are left: quieter ones, then silent ones.
    """
    looks = unit(features)
    # As log-sigmoids, which stay exact far under the threshold.
    logits = (spec.silent_similarity - similarity.astype(np.float64)) / spec.mask_width
    log_weights = -np.logaddexp(0.0, -logits)
    weights = np.exp(log_weights - log_weights.max())
    silent = looks @ (weights / weights.sum()).astype(np.float32)
    silent /= max(float(np.linalg.norm(silent)), 1e-12)
    to_silent = distance(looks, silent)
    left, seeds, silent_seeds = similarity.copy(), [], []
    for _ in range(4 * spec.max_sources):
        seed = int(np.argmax(left))
        is_quiet = left[seed] < spec.min_similarity
        if not np.isfinite(left[seed]) or (is_quiet and len(seeds) >= spec.num_sources):
            break
        region = distance(looks, looks[:, seed]) < to_silent
        region[seed] = True
        looks_silent = float(looks[:, seed] @ silent) > spec.silent_cosine
        (silent_seeds if looks_silent else seeds).append(seed)
        left[region] = -np.inf
        if len(seeds) == 2 * spec.max_sources:
            break
    return seeds + silent_seeds[: max(0, spec.num_sources - len(seeds))], silent


def merged(
    seeds: list[int], features: Float32[np.ndarray, "c r"], spec: SourcesSpec
) -> list[list[int]]:
    """Seeds that look alike, directly or by way of others, together; at most `max_sources`."""
    looks = unit(features[:, seeds])
    is_same = looks.T @ looks >= spec.same_cosine
    groups: list[list[int]] = []
    left = list(range(len(seeds)))
    while left:
        group, waiting = [], [left[0]]
        while waiting:
            one = waiting.pop()
            if one in left:
                left.remove(one)
                group.append(one)
                waiting.extend(other for other in left if is_same[one, other])
        groups.append([seeds[one] for one in sorted(group)])
    return groups[: spec.max_sources]


def split(seeds: list[int], features: Float32[np.ndarray, "c r"], num: int) -> list[list[int]]:
    """Seeds in `num` groups, as far as there are so many: the most alike together first."""
    groups = [[seed] for seed in seeds]
    looks = unit(features)
    while len(groups) > num:
        means = unit(np.stack([looks[:, group].mean(axis=1) for group in groups], axis=1))
        alike = np.triu(means.T @ means, 1) + np.tril(np.full((len(groups),) * 2, -np.inf))
        first, second = np.unravel_index(int(np.argmax(alike)), alike.shape)
        groups[first] += groups.pop(second)
    return groups


def unit(vectors: Float32[np.ndarray, "c r"]) -> Float32[np.ndarray, "c r"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=0, keepdims=True), 1e-12)


def distance(
    looks: Float32[np.ndarray, "c r"], look: Float32[np.ndarray, " c"]
) -> Float32[np.ndarray, " r"]:
    """Squared distance of unit vectors."""
    return 2.0 - 2.0 * (look @ looks)
