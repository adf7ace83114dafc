"""Region proposals without any learned weight: what might be a thing, in one picture.

`ClassicalProposals` joins watershed segments to a tree of regions and offers those that stand out
from what surrounds them. `GridProposals` offers the cells of a grid: what a dense model answers
with, in the code of regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import nn

from av_grounding.modeling.region_tree import RegionTree

MIN_MASK_PX = 16
"""Masks of fewer pixels hold nothing that an encoder could see."""


@dataclass(frozen=True)
class Proposals:
    """Up to n regions of one picture, the most confident first.

    `masks` lie on a grid that may be coarser than the picture, `confidence` is in [0, 1]. They may
    overlap and need not cover the picture. There is always at least one: a picture without
    proposals has itself, with a confidence of 0.
    """

    masks: Bool[np.ndarray, "n h w"]
    confidence: Float32[np.ndarray, " n"]

    @classmethod
    def best(
        cls,
        masks: Bool[np.ndarray, "m h w"],
        confidence: Float[np.ndarray, " m"],
        num: int,
        max_iou: float = 1.0,
    ) -> Proposals:
        """The `num` most confident masks, of which no two share more than `max_iou`.

        Equal confidences go in the order given, so that the same picture always gives the same.
        """
        usable = masks.sum(axis=(1, 2)) >= min(MIN_MASK_PX, masks[0].size if len(masks) else 0)
        masks, confidence = masks[usable], np.asarray(confidence, np.float32)[usable]
        order = np.argsort(-confidence, kind="stable")
        if max_iou < 1.0:
            flat = masks[order].reshape(len(masks), masks.shape[1] * masks.shape[2])
            order = order[suppressed(flat, np.ones(flat.shape[1]), max_iou)]
        chosen = order[:num]
        if not len(chosen):
            return cls(np.ones((1, *masks.shape[1:]), bool), np.zeros(1, np.float32))
        return cls(masks[chosen], confidence[chosen])


def suppressed(
    members: Bool[np.ndarray, "n p"], areas: Float[np.ndarray, " p"], max_iou: float
) -> Int[np.ndarray, " m"]:
    """Of regions in falling order those that share at most `max_iou` with every one kept before.

    `members` says which parts of the picture, of the given areas, a region is made of.
    """
    parts = members.astype(np.float32)
    shared = (parts * areas.astype(np.float32)) @ parts.T
    own = np.diagonal(shared)
    iou = shared / np.maximum(own[:, None] + own - shared, 1.0)
    kept: list[int] = []
    for number in range(len(members)):
        if not kept or iou[number, kept].max() <= max_iou:
            kept.append(number)
    return np.array(kept, np.int64)


class GridProposals(nn.Module):
    """The cells of a grid: `rows` of them down the picture and as many across as fit squares."""

    def __init__(self, num_regions: int = 48, mask_px: int = 96) -> None:
        super().__init__()
        self.num_regions, self.mask_px = num_regions, mask_px

    def forward(self, image: UInt8[np.ndarray, "H W 3"]) -> Proposals:
        height, width = image.shape[:2]
        rows = max(1, int(np.sqrt(self.num_regions * height / width) + 1e-6))
        columns = max(1, min(self.num_regions // rows, rows * width // height or 1))
        h, w = mask_size(height, width, self.mask_px)
        row, column = np.arange(h) * rows // h, np.arange(w) * columns // w
        cell = row[:, None] * columns + column
        masks = cell == np.arange(rows * columns)[:, None, None]
        return Proposals(masks, np.full(len(masks), 0.5, np.float32))


def mask_size(height: int, width: int, short_px: int) -> tuple[int, int]:
    """(h, w) of masks whose short side has `short_px` pixels, or the picture's if it has fewer."""
    scale = min(1.0, short_px / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class ClassicalProposals(nn.Module):
    """Regions that grow by likeness, ranked by how far they stand out (see the module).

    `mask_px` is the short side at which it works. `max_iou` of two masks is far above a detector's
    box suppression: parts and wholes share boxes, and the whole is mostly what is wanted.
    """

    def __init__(
        self,
        num_regions: int = 16,
        mask_px: int = 160,
        segment_px: int = 10,
        max_iou: float = 0.7,
    ) -> None:
        super().__init__()
        self.num_regions, self.mask_px = num_regions, mask_px
        self.segment_px, self.max_iou = segment_px, max_iou

    def forward(self, image: UInt8[np.ndarray, "H W 3"]) -> Proposals:
        import cv2

        h, w = mask_size(*image.shape[:2], self.mask_px)
        small = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
        lab, gradient = lab_and_gradient(small)
        tree = RegionTree(watershed_segments(lab, gradient, self.segment_px), lab, gradient)
        saliency = tree.saliency()
        candidates = np.argsort(-saliency, kind="stable")[: 6 * self.num_regions]
        # What regions share is counted in whole segments, a hundred times fewer than pixels.
        kept = suppressed(tree.members(candidates), tree.area[: tree.num_leaves], self.max_iou)
        chosen = candidates[kept[: self.num_regions]]
        return Proposals.best(tree.masks(chosen), saliency[chosen], self.num_regions)


def lab_and_gradient(
    image: UInt8[np.ndarray, "h w 3"],
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Colours in CIE L*a*b*, slightly blurred, and how fast they change, per pixel of distance."""
    import cv2

    lab = cv2.cvtColor(image.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab)
    lab = cv2.GaussianBlur(lab, (0, 0), 0.8)
    across, down = (cv2.Scharr(lab, cv2.CV_32F, *axes) / 32.0 for axes in ((1, 0), (0, 1)))
    return lab, np.sqrt((across**2 + down**2).sum(axis=2))


def watershed_segments(
    lab: Float32[np.ndarray, "h w 3"], gradient: Float32[np.ndarray, "h w"], step_px: int
) -> Int[np.ndarray, "h w"]:
    """Segments of about `step_px` squared, numbered from 0, whose borders lie on edges.

    One marker a square, at its calmest pixel; OpenCV's watershed floods from them.
    """
    import cv2

    h, w = gradient.shape
    rows, columns = -(-h // step_px), -(-w // step_px)
    beyond = ((0, rows * step_px - h), (0, columns * step_px - w))
    squares = np.pad(gradient, beyond, constant_values=np.inf)
    squares = squares.reshape(rows, step_px, columns, step_px).swapaxes(1, 2)
    row, column = np.divmod(squares.reshape(rows, columns, -1).argmin(axis=2), step_px)
    row += step_px * np.arange(rows)[:, None]
    column += step_px * np.arange(columns)
    markers = np.zeros((h, w), np.int32)
    markers[row, column] = np.arange(1, 1 + rows * columns).reshape(rows, columns)
    # Distances of colour as people see them, in the eight bits that the flood takes.
    colours = np.clip(2.0 * lab + (20.0, 128.0, 128.0), 0.0, 255.0).astype(np.uint8)
    # It leaves the picture's outermost pixels out, so the picture gets a margin.
    colours = cv2.copyMakeBorder(colours, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    labels = cv2.copyMakeBorder(markers, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    labels = cv2.watershed(colours, labels)[1:-1, 1:-1].astype(np.float32)
    while (is_line := labels < 1).any():
        labels = np.where(is_line, cv2.dilate(labels, np.ones((3, 3), np.uint8)), labels)
    labels = labels.astype(np.int64)
    is_there = np.bincount(labels.ravel()) > 0
    return (np.cumsum(is_there) - 1)[labels]
