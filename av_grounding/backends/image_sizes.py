"""The one image size that a compiled encoder takes."""

from __future__ import annotations

from av_grounding.image import ResizeTransform
from av_grounding.types import ModelSpec

CAMERA_SIZE = (480, 640)
"""(H, W) of the camera whose frames an export is for where no size is named: 4:3."""


def default_image_size(spec: ModelSpec) -> tuple[int, int]:
    """(H, W) of the model's input for a 4:3 camera."""
    placement = ResizeTransform.fit(*CAMERA_SIZE, spec.short_side_px, spec.patch_px)
    return placement.input_height, placement.input_width


def checked_image_size(
    spec: ModelSpec, image_size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """`image_size` (H, W), or the default; ValueError where the model does not take it."""
    height, width = image_size or default_image_size(spec)
    patch_px = spec.patch_px
    if height < patch_px or width < patch_px or height % patch_px or width % patch_px:
        raise ValueError(
            f"image size {height}x{width}; expected multiples of {patch_px}, such as "
            f"{'x'.join(map(str, default_image_size(spec)))}"
        )
    return height, width


def check_input_size(expected: tuple[int, int], given: tuple[int, int]) -> None:
    """Raise ValueError, with the remedy, for an image of another size (H, W) than exported."""
    if given != expected:
        named, taken = ("x".join(map(str, size)) for size in (given, expected))
        raise ValueError(
            f"image of {named} pixels; this export takes {taken}: export again with --image-size "
            f"{named}, or use backend 'torch'"
        )
