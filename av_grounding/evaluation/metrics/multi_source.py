"""Several sources in one mixture: matching maps to sources, and the field's five scores.

CAP is the class-aware and PIAP the permutation-invariant average precision in papers; public
code computes them in ways that differ by tens of points, which are functions of their own here.
"""

from __future__ import annotations

from itertools import permutations
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from av_grounding.evaluation.metrics.ranking import binary_average_precision

Matching = Literal["class_given", "greedy", "hungarian"]
NSA_LEVEL = 0.2


def match(scores: Float[np.ndarray, "m k"], matching: Matching) -> list[int | None]:
    """The map that answers for each of the k sources, or None, from scores of all pairs.

    `class_given`: map i was made for source i. `greedy` (NoPrior): maps in their order take the
    best source that is left. `hungarian`: the pairing with the largest sum. With fewer maps than
    sources, some get None and score 0; maps beyond the sources answer for nothing.
    """
    num_maps, num_sources = scores.shape
    answers: list[int | None] = [None] * num_sources
    if matching == "class_given":
        answers[: min(num_maps, num_sources)] = range(min(num_maps, num_sources))
    elif matching == "greedy":
        left = list(range(num_sources))
        for number in range(min(num_maps, num_sources)):
            best = max(left, key=lambda source: (scores[number, source], -source))
            answers[best] = number
            left.remove(best)
    elif matching == "hungarian":
        # A handful of sources: all pairings are few, and need no solver.
        slots = [*range(num_maps), *([None] * max(0, num_sources - num_maps))]
        answers = list(
            max(
                permutations(slots, num_sources),
                key=lambda chosen: sum(
                    scores[number, source]
                    for source, number in enumerate(chosen)
                    if number is not None
                ),
            )
        )
    else:
        raise ValueError(f"got matching {matching!r}, expected class_given, greedy or hungarian")
    return answers


def binarised_average_precision(
    predicted: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]
) -> float:
    """`pixel_binarised` (NoPrior): AP of a map after its threshold, so of two scores only."""
    return binary_average_precision(predicted, truth)


def swapped_average_precision(
    predicted: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]
) -> float:
    """`pixel_binarised_swapped` (AVGN): truth and prediction have changed places.

    With half of the pixels predicted, a random map scores .50 whatever the truth is. Kept to
    reproduce published numbers; 0 where nothing is predicted, as scikit-learn answers.
    """
    if not predicted.any():
        return 0.0
    return binary_average_precision(truth, predicted)


def silent_area(values: Float[np.ndarray, "H W"], level: float = NSA_LEVEL) -> float:
    """NSA (DSOL): share of pixels at or below `level` in the map of something that is silent."""
    return float(np.mean(values <= level))
