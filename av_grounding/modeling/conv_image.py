"""The small convolutional image backbone: bounded receptive field, any image size.

Local by construction, so that a cell's token describes what lies around that cell; a light
top-down path brings the coarse stages' evidence back to a stride of 4 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalisation and, unless linear, a ReLU."""

    def __init__(self, dim_in: int, dim: int, kernel: int, stride: int = 1, *, linear=False):
        super().__init__(
            nn.Conv2d(dim_in, dim, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(dim),
            nn.Identity() if linear else nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two 3x3 convolutions around a bottleneck, added to the input."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvNorm(dim, hidden, 3), ConvNorm(hidden, dim, 3, linear=True))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class ConvImageBackbone(nn.Module):
    """Pixels (b, 3, H, W), normalised, to features (b, dim, H/4, W/4); H and W multiples of 16."""

    patch_px = 16
    stride_px = 4

    def __init__(self, widths: Sequence[int] = (24, 48, 96, 128), dim: int = 96):
        super().__init__()
        stem, fine, middle, coarse = widths
        self.dim = dim
        self.stem = nn.Sequential(ConvNorm(3, stem, 3, 2), ConvNorm(stem, fine, 3, 2))
        self.fine = Residual(fine, fine // 2)
        self.middle = nn.Sequential(
            ConvNorm(fine, middle, 3, 2),
            Residual(middle, middle // 2),
            Residual(middle, middle // 2),
        )
        self.coarse = nn.Sequential(
            ConvNorm(middle, coarse, 3, 2), Residual(coarse, coarse), Residual(coarse, coarse)
        )
        self.coarse_to_middle = ConvNorm(coarse, middle, 1, linear=True)
        self.merge_middle = ConvNorm(middle, middle, 3)
        self.middle_to_fine = ConvNorm(middle, dim, 1, linear=True)
        self.fine_lateral = ConvNorm(fine, dim, 1, linear=True)
        self.merge_fine = Residual(dim, fine // 2)

    def forward(self, x: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        fine = self.fine(self.stem(x))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.merge_middle(middle + enlarge(self.coarse_to_middle(coarse)))
        return self.merge_fine(
            F.relu(self.fine_lateral(fine) + enlarge(self.middle_to_fine(middle)))
        )


def enlarge(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
