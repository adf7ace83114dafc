"""The vision transformer of DINO and its block, which DenseAV's audio aligner uses too.

The one in `transformers` does not fit: it interpolates positions to the exact grid, where DINO
scales by (n + 0.1) / N, and its parameters are named differently from version to version.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention with query, key and value in one matrix."""

    def __init__(self, dim: int, num_attention_heads: int) -> None:
        super().__init__()
        if dim % num_attention_heads:
            raise ValueError(
                f"{dim} channels for {num_attention_heads} attention heads; expected a multiple"
            )
        self.num_attention_heads = num_attention_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        qkv = self.qkv(x).unflatten(2, (3, self.num_attention_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv.unbind(0))
        return self.proj(attended.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return self.fc2(F.gelu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(
        self, dim: int, num_attention_heads: int, *, mlp_ratio: int = 4, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, num_attention_heads)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class DinoBackbone(nn.Module):
    """DINO's transformer: normalised pixels (b, 3, H, W) to the last block's normed features.

    H and W are multiples of `patch_px`. The defaults are ViT-S/8 with DINO's own `eps`; DenseAV
    uses 1e-4. `image_px` is the side of the square whose positions were learned.
    """

    def __init__(
        self,
        dim: int = 384,
        depth: int = 12,
        num_attention_heads: int = 6,
        patch_px: int = 8,
        image_px: int = 224,
        mlp_ratio: int = 4,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if image_px % patch_px:
            raise ValueError(f"image_px {image_px}: expected a multiple of patch_px {patch_px}")
        self.dim, self.patch_px, self.stride_px = dim, patch_px, patch_px
        self.num_cells = image_px // patch_px
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.num_cells**2, dim))
        self.patch_embed = nn.Conv2d(3, dim, patch_px, patch_px)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, num_attention_heads, mlp_ratio=mlp_ratio, eps=eps)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=eps)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        patches = self.patch_embed(x)
        h, w = patches.shape[-2:]
        cls_token = self.cls_token.expand(len(x), -1, -1)
        tokens = torch.cat([cls_token, patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + self.positions(h, w)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 1:].transpose(1, 2).unflatten(2, (h, w))

    def positions(self, h: int, w: int) -> Float[Tensor, "1 n c"]:
        """Positional embedding of the class token and an (h, w) grid.

        Bicubic with the scale (n + 0.1) / N per axis, as DINO does and its weights expect: the
        tenth kept rounding from losing a row, and it shifts every sample a little.
        """
        size = self.num_cells
        if (h, w) == (size, size):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (size, size))
        grid = F.interpolate(
            grid, scale_factor=((h + 0.1) / size, (w + 0.1) / size), mode="bicubic"
        )
        if not torch.jit.is_tracing() and tuple(grid.shape[-2:]) != (h, w):
            raise ValueError(
                f"a grid of {h}x{w} cells came out as {math.prod(grid.shape[-2:])} positions; "
                f"expected {h * w}: use a smaller image"
            )
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
