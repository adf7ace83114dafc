"""The image sizes that a compiled encoder takes: one, or one height and a range of widths."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from av_grounding.image import MAX_ASPECT, ResizeTransform
from av_grounding.types import ModelSpec

CAMERA_SIZE = (480, 640)
"""(H, W) of the camera whose frames an export is for where no size is named: 4:3."""
MIN_COLUMNS = 2
"""PyTorch's tracer takes a size of 1 for a constant."""


@dataclass(frozen=True)
class ImageSizes:
    """`height` x `width` pixels; with `widths`, every width from the first to the second.

    All are multiples of `patch_px`. `width` is then the one that compilers tune for.
    """

    height: int
    width: int
    patch_px: int
    widths: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        image_size: tuple[int, int] | None = None,
        widths: tuple[int, int] | None = None,
    ) -> ImageSizes:
        """Of a model; `image_size` is (H, W), by default that of a 4:3 camera.

        Raises ValueError for sizes that the model does not take, or that no frame has.
        """
        height, width = image_size or default_image_size(spec)
        sizes = cls(height, width, spec.patch_px, widths)
        _check_image_size(sizes, spec)
        if widths is not None:
            _check_widths(sizes, spec)
        return sizes

    @property
    def compared(self) -> tuple[tuple[int, int], ...]:
        """(H, W) of the images that an export is compared on: the ends, its own, one between."""
        if self.widths is None:
            return ((self.height, self.width),)
        low, high = self.widths
        between = (self.width + high) // 2 // self.patch_px * self.patch_px
        return tuple((self.height, width) for width in sorted({low, self.width, between, high}))

    @property
    def shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Of the encoder's input: the lowest, its own and the highest."""
        low, high = self.widths or (self.width, self.width)
        return tuple((1, 3, self.height, width) for width in (low, self.width, high))

    def dynamic_shapes(self) -> tuple | None:
        """What `torch.export` is told of the encoder's input."""
        if self.widths is None:
            return None
        low, high = (width // self.patch_px for width in self.widths)
        return ({3: self.patch_px * torch.export.Dim("columns", min=low, max=high)},)

    def check(self, height: int, width: int) -> None:
        """Raise ValueError, with the remedy, for an image of another size."""
        low, high = self.widths or (self.width, self.width)
        if height == self.height and low <= width <= high and width % self.patch_px == 0:
            return
        remedy = f"export again with --image-size {height}x{width}"
        if self.widths is not None:
            remedy = "export again with another --image-size and --dynamic-width"
        raise ValueError(
            f"image of {height}x{width} pixels; this export takes {self}: {remedy}, or use "
            "backend 'torch'"
        )

    def __str__(self) -> str:
        if self.widths is None:
            return f"{self.height}x{self.width}"
        low, high = self.widths
        return f"{self.height}x{low} to {self.height}x{high} in steps of {self.patch_px}"


def default_image_size(spec: ModelSpec) -> tuple[int, int]:
    """(H, W) of the model's input for a 4:3 camera."""
    placement = ResizeTransform.fit(*CAMERA_SIZE, spec.short_side_px, spec.patch_px)
    return placement.input_height, placement.input_width


def all_widths(height: int, patch_px: int) -> tuple[int, int]:
    """The widths that frames of this height are brought to: from a square to 3:1."""
    return height, int(height // patch_px * MAX_ASPECT) * patch_px


def _check_image_size(sizes: ImageSizes, spec: ModelSpec) -> None:
    height, width, patch_px = sizes.height, sizes.width, sizes.patch_px
    if height < patch_px or width < patch_px or height % patch_px or width % patch_px:
        raise ValueError(
            f"image size {height}x{width}; expected multiples of {patch_px}, such as "
            f"{'x'.join(map(str, default_image_size(spec)))}"
        )


def _check_widths(sizes: ImageSizes, spec: ModelSpec) -> None:
    low, high = sizes.widths
    patch_px = sizes.patch_px
    lowest = MIN_COLUMNS * patch_px
    are_multiples = low % patch_px == 0 and high % patch_px == 0
    if not (are_multiples and lowest <= low <= sizes.width <= high and low < high):
        raise ValueError(
            f"widths {low}:{high} beside image size {sizes.height}x{sizes.width}; expected "
            f"multiples of {patch_px} from {lowest} on, the lower first, with {sizes.width} among "
            "them"
        )
    for width in sizes.widths:
        placement = ResizeTransform.fit(sizes.height, width, spec.short_side_px, patch_px)
        height_in, width_in = placement.input_height, placement.input_width
        if (height_in, width_in) != (sizes.height, width):
            short = round(spec.short_side_px / patch_px) * patch_px
            low, high = all_widths(short, patch_px)
            raise ValueError(
                f"no frame reaches the model as {sizes.height}x{width} (that shape is brought to "
                f"{height_in}x{width_in}); expected height {short} and widths from {low} to {high}"
            )
