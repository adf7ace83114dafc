"""The image side of a space whose channels are things: a classifier's posterior per cell."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ClassAligner(nn.Module):
    """Features (b, d, h, w) to P(thing | cell), the same for every head.

    A classifier behind a global mean is linear, so it reads every cell as well: its rows are
    prototypes in the space of the cells. The posterior over its classes is summed over those that
    a thing is called by (`groups`), and whatever belongs to no thing takes its share. Another
    thing is one more row (see `add`); nothing is trained for it.

    `temperature` T evens the sums S out: P_v = S_v^(1/T) over the sum of all, classes of no thing
    among them. Were the classes evened out before they are summed, a thing of many (a dog has 118)
    would win by their number.
    """

    def __init__(
        self,
        dim_in: int,
        num_heads: int,
        num_things: int,
        *,
        num_classes: int = 1000,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_heads, self.temperature = num_heads, temperature
        self.classify = nn.Conv2d(dim_in, num_classes, 1)
        self.groups = nn.Parameter(torch.zeros(num_things, num_classes), requires_grad=False)

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b k v h w"]:
        groups = self.groups.float()
        posterior = self.classify(x).float().softmax(dim=1)
        things = torch.einsum("bnhw,vn->bvhw", posterior, groups)
        others = posterior * (1.0 - groups.amax(dim=0))[:, None, None]
        shares = torch.cat([things, others], dim=1).clamp_min(1e-12) ** (1.0 / self.temperature)
        things = shares[:, : len(groups)] / shares.sum(dim=1, keepdim=True)
        return things[:, None].expand(-1, self.num_heads, -1, -1, -1)

    @torch.no_grad()
    def add(self, row: Float[Tensor, " d"], bias: float) -> None:
        """One more thing, behind the others, and one more class of its own."""
        conv = self.classify
        wider = nn.Conv2d(conv.in_channels, conv.out_channels + 1, 1)
        wider.weight.copy_(torch.cat([conv.weight, row.to(conv.weight)[None, :, None, None]]))
        wider.bias.copy_(torch.cat([conv.bias, conv.bias.new_tensor([bias])]))
        groups = self.groups.new_zeros(len(self.groups) + 1, wider.out_channels)
        groups[:-1, :-1], groups[-1, -1] = self.groups, 1.0
        self.classify = wider
        self.groups = nn.Parameter(groups, requires_grad=False)
