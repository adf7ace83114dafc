"""Similarity volume and its aggregations, as pure functions (papers 000 and 001).

Axes: `b` batch, `k` head, `c` channel, `h w` grid, `t` audio token, `n` any number of cells.
Audio frequency (F in the papers) is 1 for every backbone used here and is left out.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def similarity_volume(
    audio: Float[Tensor, "b k c t"], image: Float[Tensor, "b k c h w"]
) -> Float[Tensor, "b k t h w"]:
    """Inner product of every audio token with every cell of the paired image (000 eq. 2)."""
    return torch.einsum("bkct,bkchw->bkthw", audio, image)


def max_over_heads(volume: Float[Tensor, "b k t h w"]) -> Float[Tensor, "b t h w"]:
    """Head-max aggregation S_M (000 eq. 3): whichever head explains the pair best."""
    return volume.amax(dim=1)


def select_head(volume: Float[Tensor, "b k t h w"], head: int) -> Float[Tensor, "b t h w"]:
    """Head selection S_N (000 eq. 4): only the head specialised in one audio type."""
    return volume[:, head]


def score(
    volume: Float[Tensor, "b t h w"], token_mask: Bool[Tensor, "b t"] | None = None
) -> Float[Tensor, " b"]:
    """Maximum over space, then mean over time (000 eq. 5 and 6), over unmasked tokens only."""
    peaks = volume.amax(dim=(-2, -1))
    if token_mask is None:
        return peaks.mean(dim=-1)
    weight = token_mask.to(peaks.dtype)
    return (peaks * weight).sum(dim=-1) / weight.sum(dim=-1).clamp_min(1.0)


def heatmap(
    volume: Float[Tensor, "b k t h w"], token_weight: Float[Tensor, "b t"] | None = None
) -> Float[Tensor, "b k h w"]:
    """Time mean of the similarity volume: what a head looks at (uncalibrated)."""
    if token_weight is None:
        return volume.mean(dim=2)
    total = token_weight.sum(dim=-1).clamp_min(1e-8)
    return torch.einsum("bkthw,bt->bkhw", volume, token_weight) / total[:, None, None, None]


def pool_audio(
    audio: Float[Tensor, "b k c t"], token_weight: Float[Tensor, "b t"] | None = None
) -> Float[Tensor, "b k c"]:
    """Time mean of the audio tokens.

    The inner product is linear, so the heatmap of the pooled vector equals the time mean of the
    volume: mean_t <a_t, v_hw> = <mean_t a_t, v_hw>. At run time the volume is never built.
    """
    if token_weight is None:
        return audio.mean(dim=-1)
    total = token_weight.sum(dim=-1).clamp_min(1e-8)
    return torch.einsum("bkct,bt->bkc", audio, token_weight) / total[:, None, None]


def ground(
    image: Float[Tensor, "b k c h w"], vectors: Float[Tensor, "b k n c"]
) -> Float[Tensor, "b k n h w"]:
    """Heatmaps of n audio vectors per head on one image each."""
    return torch.einsum("bknc,bkchw->bknhw", vectors, image)
