"""Stability and disentanglement regularisers of papers 000 (eq. 13 to 17) and 001 (section 3.4).

000 states them as eq. 13 to 17, 001 as eq. 4 and 9 to 14; `silence` and `foreign_cells` are only
in 001's released code.

`volume` is the similarity volume of matching pairs with space flattened: (b, k, t, n).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def paired_volume(
    audio: Float[Tensor, "b k c t"], image: Float[Tensor, "b k c n"]
) -> Float[Tensor, "b k t n"]:
    """Similarity volume of each clip with its own image (000 eq. 2)."""
    return torch.einsum("bkct,bkcn->bktn", audio, image).float()


def sampled_similarities(
    audio: Float[Tensor, "b k c t"],
    image: Float[Tensor, "b k c n"],
    num: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " num"]:
    """S(a_b, v_b')[k, t, n] at random coordinates, the set Ω of 000 eq. 16 (001: 250 of them)."""

    def draw(size: int) -> Tensor:
        return torch.randint(size, (num,), generator=generator).to(audio.device)

    head = draw(audio.shape[1])
    heard = audio[draw(len(audio)), head, :, draw(audio.shape[3])]
    seen = image[draw(len(image)), head, :, draw(image.shape[3])]
    return (heard.float() * seen.float()).sum(dim=-1)


def disentanglement(volume: Float[Tensor, "b k t n"]) -> Float[Tensor, ""]:
    """Mean |S[1] * S[2]| (000 eq. 13; 001 eq. 4): heads must not fire together.

    With more than two heads, the mean over all pairs of heads; with one, zero.
    """
    num_heads = volume.shape[1]
    if num_heads < 2:
        return volume.new_zeros(())
    pairs = [
        (volume[:, a] * volume[:, b]).abs().mean()
        for a in range(num_heads)
        for b in range(a + 1, num_heads)
    ]
    return torch.stack(pairs).mean()


def splice(volume: Float[Tensor, "b k t n"], mask: Float[Tensor, "b t"]) -> Float[Tensor, ""]:
    """Weighted mean of S^2 over tokens that hold foreign or no sound (000 eq. 14).

    `mask` in [0, 1] says how foreign a token is; zero everywhere gives zero.
    """
    energy = volume.square().mean(dim=(1, 3))
    return (energy * mask).sum() / mask.sum().clamp_min(1.0)


def calibration(log_inverse_temperature: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """max(log tau, 0)^2 (000 eq. 15) with tau = 1 / gamma: keeps the temperature at most 1."""
    return (-log_inverse_temperature).clamp_min(0.0).square()


def non_negative(volume: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Mean of min(S, 0)^2 over the given coordinates of the volume (000 eq. 16)."""
    return volume.clamp_max(0.0).square().mean()


def total_variation(volume: Float[Tensor, "b k t n"]) -> Float[Tensor, ""]:
    """Mean squared change of the activations from one token to the next (000 eq. 17)."""
    return (volume[:, :, 1:] - volume[:, :, :-1]).square().mean()


def silence(volume: Float[Tensor, "b k t n"], audible: Float[Tensor, "b t"]) -> Float[Tensor, ""]:
    """Weighted mean of |S| over the inaudible tokens: the L1 term of 001's released code."""
    inaudible = 1.0 - audible
    size = volume.abs().mean(dim=(1, 3))
    return (size * inaudible).sum() / inaudible.sum().clamp_min(1.0)


def foreign_cells(
    volume: Float[Tensor, "b k t n"], own: Float[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Mean of S^2 over the cells that quad-mixup took from other images (001's released code).

    `own` is 1 for cells of the pair's own image, 0 for the others'.
    """
    foreign = 1.0 - own
    energy = volume.square().mean(dim=(1, 2))
    return (energy * foreign).sum() / foreign.sum().clamp_min(1.0)
