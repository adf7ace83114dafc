"""Aligners: from a backbone's features to unit-comparable tokens of the shared space, per head."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.vision_transformer import TransformerBlock


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
        self,
        dim_in: int,
        num_heads: int,
        dim: int,
        *,
        eps: float = 1e-5,
        unit_length: bool = False,
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
    plain time mean is then already weighted towards the instants that matter. With `unit_length`
    every token has norm 1, as where a paper takes cosines: then there is no evidence.
    """

    stride = 1

    def __init__(
        self,
        dim_in: int,
        num_heads: int,
        dim: int,
        *,
        eps: float = 1e-5,
        evidence: bool = False,
        unit_length: bool = False,
    ) -> None:
        super().__init__()
        if evidence and unit_length:
            raise ValueError("audio tokens of unit length say no evidence; expected one of both")
        self.num_heads, self.unit_length = num_heads, unit_length
        self.norm = ChannelLayerNorm(dim_in, eps=eps)
        self.project = nn.Conv1d(dim_in, num_heads * dim, 1)
        self.evidence = nn.Conv1d(dim_in, num_heads, 1) if evidence else None

    def forward(self, x: Float[Tensor, "b d t"]) -> Float[Tensor, "b k c t"]:
        x = self.norm(x)
        tokens = self.project(x).unflatten(1, (self.num_heads, -1))
        if self.evidence is None:
            return F.normalize(tokens.float(), dim=2) if self.unit_length else tokens
        direction = F.normalize(tokens.float(), dim=2)
        return direction * torch.sigmoid(self.evidence(x).float())[:, :, None]


class StridedAudioAligner(nn.Module):
    """The audio aligner of DenseAV's released code, which 001 describes without its last parts.

    Channel-wise layer norm, two convolutions that shorten time by 3 each, and one transformer
    block over the tokens and a learned clip token, which is dropped afterwards.
    """

    stride = 9

    def __init__(
        self,
        dim_in: int,
        num_heads: int,
        dim: int,
        *,
        eps: float = 1e-4,
        num_attention_heads: int = 6,
        mlp_ratio: int = 4,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        width = num_heads * dim
        self.clip_token = nn.Parameter(torch.empty(dim_in))
        self.norm = ChannelLayerNorm(dim_in, eps=eps)
        self.shorten = nn.Conv1d(dim_in, width, 3, stride=3)
        self.project_clip_token = nn.Linear(dim_in, width)
        self.shorten_again = nn.Conv1d(width, width, 3, stride=3)
        self.block = TransformerBlock(width, num_attention_heads, mlp_ratio=mlp_ratio, eps=eps)
        nn.init.normal_(self.clip_token)

    def forward(self, x: Float[Tensor, "b d t_in"]) -> Float[Tensor, "b k c t"]:
        tokens = self.shorten_again(self.shorten(self.norm(x))).transpose(1, 2)
        clip_token = self.project_clip_token(self.norm(self.clip_token[None, :, None])[..., 0])
        clip_token = clip_token.expand(len(x), 1, -1)
        tokens = self.block(torch.cat([clip_token, tokens], dim=1))[:, 1:]
        return tokens.transpose(1, 2).unflatten(1, (self.num_heads, -1))
