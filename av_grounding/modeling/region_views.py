"""What an image encoder is shown of a region: the thing alone, and in its surroundings."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from av_grounding.regions import boxes_of

BLUR_AT_PX = 224
"""Side of the view in which the blur's width is stated."""


def local_views(
    image: UInt8[np.ndarray, "H W 3"], masks: Bool[np.ndarray, "n h w"], size_px: int
) -> UInt8[np.ndarray, "n s s 3"]:
    """I^L of 002 eq. 2: each mask's box cut out of the picture, black off the mask, squeezed
    to a square."""
    import cv2

    height, width = image.shape[:2]
    views = np.empty((len(masks), size_px, size_px, 3), np.uint8)
    for view, mask, box in zip(views, masks, boxes_of(masks).tolist(), strict=True):
        x0, x1 = _span(box[0], box[2], width)
        y0, y1 = _span(box[1], box[3], height)
        rows, columns = (
            _span(box[low], box[high], side)
            for low, high, side in ((1, 3, mask.shape[0]), (0, 2, mask.shape[1]))
        )
        shrinks = max(x1 - x0, y1 - y0) > 1.5 * size_px
        crop = cv2.resize(
            image[y0:y1, x0:x1],
            (size_px, size_px),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        view[:] = crop * _resized(mask[slice(*rows), slice(*columns)], size_px)[..., None]
    return views


def global_views(
    image: UInt8[np.ndarray, "H W 3"],
    masks: Bool[np.ndarray, "n h w"],
    size_px: int,
    blur_px: float,
) -> UInt8[np.ndarray, "n s s 3"]:
    """I^G of 002 eq. 3: the whole picture squeezed to a square, blurred off the mask.

    `blur_px` is the Gaussian's standard deviation where the side is 224 pixels.
    """
    import cv2

    whole = cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(whole, (0, 0), max(0.3, blur_px * size_px / BLUR_AT_PX))
    return np.stack(
        [np.where(_resized(mask, size_px)[..., None], whole, blurred) for mask in masks]
    )


def mask_weights(
    masks: Bool[np.ndarray, "n h w"], grid: tuple[int, int], *, device: torch.device | None = None
) -> Float[Tensor, "n r"]:
    """How much each cell of a grid counts in the mean over a region; each row has a sum of 1."""
    covered = torch.from_numpy(masks).to(device).float()[:, None]
    weights = F.interpolate(covered, grid, mode="area").flatten(1)
    return weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-8)


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(int(low * size + 1e-4), size - 1)
    return first, max(first + 1, int(np.ceil(high * size - 1e-4)))


def _resized(mask: Bool[np.ndarray, "h w"], size_px: int) -> Bool[np.ndarray, "s s"]:
    import cv2

    resized = cv2.resize(
        mask.astype(np.float32), (size_px, size_px), interpolation=cv2.INTER_LINEAR
    )
    return resized >= 0.5
