"""EfficientNet-Lite0 without its classifier: inverted residuals with ReLU6 and nothing else.

Padding is TensorFlow's "same": where the stride is 2 and the side even, the larger half of it
lies right and below, so that weights trained there fit (Tan & Le 2019, arXiv 1905.11946; "Lite":
no squeeze-and-excitation, no swish, stem and head as wide as for the smallest model).
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

STAGES = (
    # expansion, channels, blocks, stride of the first, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM, HEAD = 32, 1280
EPS = 1e-3
"""Of all batch norms, as in TensorFlow."""


class SameConvNorm(nn.Sequential):
    """Convolution padded as TensorFlow pads, batch norm and, unless linear, ReLU6."""

    def __init__(
        self, dim_in: int, dim: int, kernel: int, stride: int = 1, *, groups=1, linear=False
    ) -> None:
        before = (kernel - stride) // 2
        after = kernel - stride - before
        is_even = before == after or kernel == 1
        super().__init__(
            nn.Identity() if is_even else nn.ZeroPad2d((before, after, before, after)),
            nn.Conv2d(
                dim_in, dim, kernel, stride, before if is_even else 0, groups=groups, bias=False
            ),
            nn.BatchNorm2d(dim, eps=EPS),
            nn.Identity() if linear else nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; added to the input where the shapes agree."""

    def __init__(self, dim_in: int, dim: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        hidden = dim_in * expansion
        self.is_residual = stride == 1 and dim_in == dim
        self.expand = SameConvNorm(dim_in, hidden, 1) if expansion > 1 else nn.Identity()
        self.filter = SameConvNorm(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SameConvNorm(hidden, dim, 1, linear=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        out = self.project(self.filter(self.expand(x)))
        return x + out if self.is_residual else out


class EfficientNetLiteBackbone(nn.Module):
    """Pixels (b, 3, H, W), normalised, to features (b, 1280, H/32, W/32); multiples of 32."""

    patch_px = 32
    pixel_mean, pixel_std = (127 / 255,) * 3, (128 / 255,) * 3
    """What these weights were trained with, in place of ImageNet's own mean and spread."""
    dim = HEAD

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConvNorm(3, STEM, 3, 2)
        widths = [STEM, *(channels for _, channels, *_ in STAGES)]
        self.blocks = nn.Sequential(
            *(
                InvertedResidual(dim if index else dim_in, dim, expansion, stride, kernel)
                for (dim_in, dim), (expansion, _, num, first, kernel) in zip(
                    pairwise(widths), STAGES, strict=True
                )
                for index, stride in enumerate((first, *[1] * (num - 1)))
            )
        )
        self.head = SameConvNorm(widths[-1], HEAD, 1)

    def forward(self, x: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        return self.head(self.blocks(self.stem(x)))
