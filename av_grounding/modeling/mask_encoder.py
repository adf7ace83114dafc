"""The trained parts of SeAC (002 section 2.2): mask encoder, and attention pooling of sound."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

MAX_ATTENTION = 8.0
"""Attention logits lie within this on both sides, so that their exponentials stay in range."""


class MaskEncoder(nn.Module):
    """Embeddings of a picture's regions to unit vectors of the shared space, per head.

    Linear, layer norm and GELU, then a transformer over the set of regions: no positions, and
    padding takes no part. The paper has 4 layers, as wide as the embeddings.
    """

    def __init__(
        self,
        dim_in: int,
        num_heads: int,
        dim: int,
        *,
        width: int = 128,
        depth: int = 4,
        num_attention_heads: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.enter = nn.Sequential(nn.Linear(dim_in, width), nn.LayerNorm(width), nn.GELU())
        layer = nn.TransformerEncoderLayer(
            width, num_attention_heads, 4 * width, dropout, "gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        # Nested tensors would return fewer regions than came in.
        self.encode = nn.TransformerEncoder(
            layer, depth, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.project = nn.Linear(width, num_heads * dim)

    def forward(
        self, regions: Float[Tensor, "b n d"], valid: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b k c n"]:
        """`valid` marks what is no padding: one region or more of each picture."""
        encoded = self.encode(self.enter(regions), src_key_padding_mask=~valid)
        vectors = self.project(encoded).unflatten(2, (self.num_heads, -1))
        return F.normalize(vectors.float(), dim=3).permute(0, 2, 3, 1)


class AttentionAligner(nn.Module):
    """Sound features to tokens whose plain mean is the paper's attention pooling.

    a = sum_t softmax_t(u_t) v_t and its projection phi_a a are linear in v, and a cosine does not
    heed length. So a token is exp(u_t) phi_a(v_t): the mean over any stretch of time points where
    attention over that stretch would, and a stream needs no volume.
    """

    stride = 1

    def __init__(self, dim_in: int, num_heads: int, dim: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim_in, eps=eps)
        self.attend = nn.Linear(dim_in, num_heads)
        self.project = nn.Linear(dim_in, num_heads * dim, bias=False)
        # All instants alike to begin with.
        nn.init.normal_(self.attend.weight, std=0.02)
        nn.init.zeros_(self.attend.bias)

    def forward(self, x: Float[Tensor, "b d t"]) -> Float[Tensor, "b k c t"]:
        frames = x.transpose(1, 2)
        attention = self.attend(self.norm(frames)).float()
        weights = attention.clamp(-MAX_ATTENTION, MAX_ATTENTION).exp()
        tokens = self.project(frames).float().unflatten(2, (self.num_heads, -1))
        return (tokens * weights[..., None]).permute(0, 2, 3, 1)


def pooled_sound(tokens: Float[Tensor, "b k c t"]) -> Float[Tensor, "b k c"]:
    """The unit vector of the attention-pooled sound, a-hat of 002 eq. 7."""
    return F.normalize(tokens.mean(dim=-1), dim=-1)
