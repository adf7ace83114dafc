"""Global aggregations that 001 compares with its multi-head maximum (table 4).

Each turns the local tokens of one side into one vector per head, and a pair's score is the
largest inner product over heads. They are training-only: at inference the local tokens are
grounded as ever, which is what shows whether an aggregation taught them anything.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.vision_transformer import TransformerBlock

AGGREGATIONS = ("max", "average", "cls", "simpool")


class AveragePool(nn.Module):
    """The mean token."""

    def forward(self, tokens: Float[Tensor, "b k c n"]) -> Float[Tensor, "b k c"]:
        return tokens.mean(dim=3)


class ClsToken(nn.Module):
    """A learned token that attends to all others in one transformer block, read out after it."""

    def __init__(self, num_heads: int, dim: int, num_attention_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        width = num_heads * dim
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.block = TransformerBlock(width, num_attention_heads)

    def forward(self, tokens: Float[Tensor, "b k c n"]) -> Float[Tensor, "b k c"]:
        rows = tokens.flatten(1, 2).mT
        rows = torch.cat([self.token.expand(len(rows), -1, -1), rows], dim=1)
        return self.block(rows)[:, 0].unflatten(1, (self.num_heads, -1))


class SimPool(nn.Module):
    """SimPool (Psomas et al., ICCV 2023): one cross-attention from the mean token.

    Queries come from the mean, keys and values from the layer-normalised tokens; values are
    shifted to be positive and averaged in a generalised mean of exponent `gamma` (theirs for
    convolutional networks is 2; 1.25 for transformers).
    """

    def __init__(self, num_heads: int, dim: int, gamma: float = 2.0) -> None:
        super().__init__()
        self.num_heads, self.gamma = num_heads, gamma
        width = num_heads * dim
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.query, self.key = (nn.Linear(width, width, bias=False) for _ in range(2))

    def forward(self, tokens: Float[Tensor, "b k c n"]) -> Float[Tensor, "b k c"]:
        rows = tokens.flatten(1, 2).mT.float()
        query = self.query(rows.mean(dim=1, keepdim=True))
        rows = self.norm(rows)
        attention = torch.softmax(query @ self.key(rows).mT / rows.shape[-1] ** 0.5, dim=-1)
        lowest = rows.amin()
        values = (rows - lowest + 1e-6) ** self.gamma
        pooled = (attention @ values)[:, 0] ** (1.0 / self.gamma)
        return pooled.unflatten(1, (self.num_heads, -1))


class GlobalPooling(nn.Module):
    """One aggregation for each side. With `unit_length`, pooled vectors have norm 1 per head."""

    def __init__(self, kind: str, num_heads: int, dim: int, *, unit_length: bool) -> None:
        super().__init__()
        if kind not in AGGREGATIONS[1:]:
            raise ValueError(f"aggregation is {kind!r}; expected one of {', '.join(AGGREGATIONS)}")
        self.unit_length = unit_length
        self.audio, self.image = (make_pooling(kind, num_heads, dim) for _ in range(2))

    def forward(
        self, audio: Float[Tensor, "i k c t"], image: Float[Tensor, "j k c n"]
    ) -> tuple[Float[Tensor, "i k c"], Float[Tensor, "j k c"]]:
        pooled = self.audio(audio), self.image(image)
        if self.unit_length:
            pooled = tuple(F.normalize(one.float(), dim=2) for one in pooled)
        return pooled


def make_pooling(kind: str, num_heads: int, dim: int) -> nn.Module:
    if kind == "average":
        return AveragePool()
    return (ClsToken if kind == "cls" else SimPool)(num_heads, dim)
