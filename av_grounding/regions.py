"""Regions of a picture with scores, and the pictures painted of them (002 section 2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8


@dataclass(frozen=True)
class Regions:
    """n regions of one picture, as one head judges them; masks may overlap.

    `scores` are calibrated probabilities, `logits` what they are the sigmoid of, `confidence` how
    sure the proposals were that there is a thing at all. `labels` name what each region shows,
    where the model knows names.
    """

    masks: Bool[np.ndarray, "n h w"]
    logits: Float32[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]
    labels: tuple[str, ...] = ()

    @property
    def scores(self) -> Float32[np.ndarray, " n"]:
        return (1.0 / (1.0 + np.exp(-np.clip(self.logits, -60.0, 60.0)))).astype(np.float32)

    @property
    def boxes(self) -> Float32[np.ndarray, "n 4"]:
        """x0, y0, x1, y1 around each mask, as shares of the picture's width and height."""
        return boxes_of(self.masks)


def boxes_of(masks: Bool[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n 4"]:
    """x0, y0, x1, y1 around each mask as shares of width and height; zeros for an empty one."""
    rows, columns = masks.any(axis=2), masks.any(axis=1)
    sides = []
    for line in (columns, rows):
        size = line.shape[1]
        first, last = line.argmax(axis=1), size - line[:, ::-1].argmax(axis=1)
        sides.append((first / size, np.where(line.any(axis=1), last, 0) / size))
    (x0, x1), (y0, y1) = sides
    return np.stack([x0, y0, x1, y1], axis=1).astype(np.float32)


def painted(
    masks: Bool[np.ndarray, "n h w"], values: Float[np.ndarray, " n"], background: float
) -> Float32[np.ndarray, "h w"]:
    """The largest value of the regions that cover a pixel; `background` where none does."""
    picture = np.full(masks.shape[1:], background, np.float32)
    for number in np.argsort(values, kind="stable"):
        if values[number] > background:
            picture[masks[number]] = values[number]
    return picture


def relative_scores(scores: Float[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Scores between the smallest (0) and the largest (1) of one picture (002 eq. 4).

    Where all are equal, as of a single region, all are 1.
    """
    scores = np.asarray(scores, np.float64)
    low, high = scores.min(), scores.max()
    if not low < high:
        return np.ones(len(scores), np.float32)
    return ((scores - low) / (high - low)).astype(np.float32)


def sound_map(
    masks: Bool[np.ndarray, "n h w"], scores: Float[np.ndarray, " n"]
) -> Float32[np.ndarray, "h w"]:
    """O of 002 eq. 4: relative scores, the largest that covers a pixel, 0 where none does."""
    return painted(masks, relative_scores(scores), 0.0)


def box_map(
    masks: Bool[np.ndarray, "n h w"], scores: Float[np.ndarray, " n"], height: int, width: int
) -> Float32[np.ndarray, "H W"]:
    """`sound_map` with each region's box in its mask's place, at this size: what is compared with
    annotated boxes (002 A.1)."""
    edges = np.rint(boxes_of(masks) * (width, height, width, height)).astype(int)
    boxes = np.zeros((len(masks), height, width), bool)
    for box, (x0, y0, x1, y1) in zip(boxes, edges, strict=True):
        box[y0:y1, x0:x1] = True
    return sound_map(boxes, scores)


def class_map(
    masks: Bool[np.ndarray, "n h w"],
    scores: Float[np.ndarray, " n"],
    classes: Int[np.ndarray, " n"],
    threshold: float = 0.9,
) -> Int[np.ndarray, "h w"]:
    """C of 002 eq. 5: one more than the class of the best region that covers a pixel.

    0, the background, where no region's relative score lies above `threshold` (sigma of the paper,
    0.9). Among equals the first region counts.
    """
    relative = relative_scores(scores)
    picture = np.zeros(masks.shape[1:], np.int64)
    # The best is painted last, and the first of equals after the others.
    for number in np.argsort(-relative, kind="stable")[::-1]:
        if relative[number] > threshold:
            picture[masks[number]] = 1 + classes[number]
    return picture


def packed(masks: Bool[np.ndarray, "*shape w"]) -> UInt8[np.ndarray, "*shape v"]:
    """Masks with eight pixels a byte, row by row."""
    return np.packbits(masks, axis=-1)


def unpacked(bits: UInt8[np.ndarray, "*shape v"], width: int) -> Bool[np.ndarray, "*shape w"]:
    """What `packed` was given."""
    return np.unpackbits(bits, axis=-1, count=width).astype(bool)
