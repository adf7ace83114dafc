"""Quad-mixup: an image becomes one quarter of a grid, beside three others (001's released code).

What the other three add to a pair's similarity is then penalised
(`regularizers.foreign_cells`), which teaches that evidence is local.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def quad_mixup(
    pixels: Float[Tensor, "b 3 H W"], share: float
) -> tuple[Float[Tensor, "b 3 H W"], Float[Tensor, "b 2 2"], Bool[Tensor, "b b"]]:
    """Turn a `share` of the images into grids with three others of the batch.

    Also returns which quarters are an image's own (1 or 0), and `shows`: whether image j's
    picture now holds image i, at [j, i]. H and W must be even.
    """
    num, _, height, width = pixels.shape
    if height % 2 or width % 2:
        raise ValueError(f"images of {height}x{width} pixels; expected even sides for quad-mixup")
    is_mixed = torch.rand(num) < share if num > 3 else torch.zeros(num, dtype=torch.bool)
    # Four different images each, the own one first, in random places.
    others = torch.stack([1 + torch.randperm(max(num - 1, 3))[:3] for _ in range(num)])
    members = torch.cat([torch.zeros(num, 1, dtype=torch.long), others], dim=1)
    members = (members + torch.arange(num)[:, None]) % num
    order = torch.rand(num, 4).argsort(dim=1)
    members = members.gather(1, order)
    own = (order == 0).float().unflatten(1, (2, 2))
    own[~is_mixed] = 1.0
    shows = torch.zeros(num, num, dtype=torch.bool).scatter_(1, members, True)
    shows[~is_mixed] = torch.eye(num, dtype=torch.bool)[~is_mixed]
    small = F.interpolate(pixels, size=(height // 2, width // 2), mode="bilinear", antialias=True)
    quarters = small[members.to(pixels.device)].unflatten(1, (2, 2))
    grids = quarters.permute(0, 3, 1, 4, 2, 5).reshape(pixels.shape)
    is_mixed = is_mixed.to(pixels.device)
    mixed = torch.where(is_mixed[:, None, None, None], grids, pixels)
    return mixed, own.to(pixels.device), shows.to(pixels.device)


def own_cells(own: Float[Tensor, "b 2 2"], height: int, width: int) -> Float[Tensor, "b h w"]:
    """The quarters' mask on an (h, w) grid."""
    return F.interpolate(own[:, None], size=(height, width), mode="nearest")[:, 0]
