"""Objectives of paper 002: contrast of sounds with the best region of each picture.

Axes: `i` images of the batch, `j` or `k` sounds, which are fewer where clips were mixed; `n`
regions, `c` channels. One head.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def region_scores(
    regions: Float[Tensor, "i c n"], valid: Bool[Tensor, "i n"], sounds: Float[Tensor, "k c"]
) -> Float[Tensor, "i k"]:
    """S of 002 eq. 7: of every image and every sound the largest cosine of a region.

    Both are unit vectors. Padding is out of the maximum: a zero would beat negative cosines.
    """
    cosines = torch.einsum("icn,kc->ikn", regions, sounds)
    return cosines.masked_fill(~valid[:, None], float("-inf")).amax(dim=-1)


def micl(
    scores: Float[Tensor, "i j"], allowed: Bool[Tensor, "i j"] | None = None
) -> Float[Tensor, ""]:
    """MICL (002 eq. 6): both directions of InfoNCE added, mean over the batch of B pairs.

    `scores` are divided by the temperature, the sound of image i is number i.
    """
    return msa_micl(scores, torch.arange(len(scores), device=scores.device), allowed)


def msa_micl(
    scores: Float[Tensor, "i k"],
    mixture: Int[Tensor, " i"],
    allowed: Bool[Tensor, "i k"] | None = None,
) -> Float[Tensor, ""]:
    """MSA-MICL (002 eq. 8), its sum divided by the number B of images.

    `scores` are divided by the temperature; `mixture` says in which sound each image's own is
    (Omega). A sound has the images of all that is mixed in it as positives: they stand together
    inside the logarithm, so that any of them may explain it. `allowed` marks the pairs that may
    serve as negatives; positives always count.
    """
    num, num_sounds = scores.shape
    own = F.one_hot(mixture, num_sounds).bool()
    if not own.any(dim=0).all():
        raise ValueError(f"{num_sounds} sounds, of which one belongs to no image: expected none")
    if allowed is not None:
        scores = scores.masked_fill(~(allowed | own), float("-inf"))
    positives = scores.masked_fill(~own, float("-inf"))
    of_sounds = scores.logsumexp(dim=0) - positives.logsumexp(dim=0)
    of_images = scores.logsumexp(dim=1) - scores.gather(1, mixture[:, None])[:, 0]
    return (of_sounds.sum() + of_images.sum()) / num


def drawn_mixtures(
    num: int, probability: float, seed: int, step: int, rank: int = 0
) -> Int[Tensor, " i"] | None:
    """Which mixture each of `num` clips goes into: pairs drawn at random, or None: no mixing.

    The whole batch is mixed or none of it (002 section 2.4). Whether depends on seed and step
    alone, so that all ranks agree; who meets whom on the rank too. An odd one stays alone.
    """
    if num < 2 or np.random.default_rng((seed, step)).random() >= probability:
        return None
    order = np.random.default_rng((seed, step, rank)).permutation(num)
    mixture = torch.empty(num, dtype=torch.int64)
    mixture[torch.from_numpy(order)] = torch.arange(num) // 2
    return mixture
