"""Aligners: from a backbone's features to unit-comparable tokens of the shared space, per head."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channel axis of (b, c, ...)."""

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ImageAligner(nn.Module):
    """Channel-wise layer norm and a 1x1 convolution (000 section 3.1), split into heads.

    With `unit_length`, every token has norm 1: trained from scratch, unbounded inner products
    stay at chance, while cosines learn at once.
    """

    def __init__(
        self, dim_in: int, num_heads: int, dim: int, *, eps: float = 1e-5, unit_length: bool = False
    ) -> None:
        super().__init__()
        self.num_heads, self.unit_length = num_heads, unit_length
        self.norm = ChannelLayerNorm(dim_in, eps=eps)
        self.project = nn.Conv2d(dim_in, num_heads * dim, 1)

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b k c h w"]:
        tokens = self.project(self.norm(x)).unflatten(1, (self.num_heads, -1))
        return F.normalize(tokens.float(), dim=2) if self.unit_length else tokens


class AudioAligner(nn.Module):
    """Channel-wise layer norm and a pointwise convolution over time, split into heads.

    With `evidence`, a token is a unit direction times an evidence g in (0, 1) that the aligner
    predicts per head and instant. A head says "nothing for me here" with a short vector, and a
    plain time mean is then already weighted towards the instants that matter.
    """

    def __init__(
        self, dim_in: int, num_heads: int, dim: int, *, eps: float = 1e-5, evidence: bool = False
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = ChannelLayerNorm(dim_in, eps=eps)
        self.project = nn.Conv1d(dim_in, num_heads * dim, 1)
        self.evidence = nn.Conv1d(dim_in, num_heads, 1) if evidence else None

    def forward(self, x: Float[Tensor, "b d t"]) -> Float[Tensor, "b k c t"]:
        x = self.norm(x)
        tokens = self.project(x).unflatten(1, (self.num_heads, -1))
        if self.evidence is None:
            return tokens
        direction = F.normalize(tokens.float(), dim=2)
        return direction * torch.sigmoid(self.evidence(x).float())[:, :, None]
