"""Regions over their picture: outlined masks with names and scores; and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from av_grounding.drawing.overlay import PRESENT, write_label
from av_grounding.drawing.styles import Style, styles_of
from av_grounding.image import check_image
from av_grounding.regions import Regions

MAX_NAMED = 3
"""Of a head's regions, drawn as found; the others get a thin line."""
MIN_SHARE = 0.5
"""Of the mask of a better region, that a region may share and still be named."""


def draw_regions(
    image: UInt8[np.ndarray, "H W 3"], regions: Mapping[str, Regions]
) -> UInt8[np.ndarray, "H W 3"]:
    """Every region's outline; those that a head found are tinted and named, in its colours.

    Found: scores of 0.5 and more, or else the best alone, with a question mark. Of regions that
    overlap by more than half, as a part and its whole, the better one is named.
    """
    result = check_image(image).copy()
    styles = styles_of(regions)
    for of_head in regions.values():
        for mask in of_head.masks:
            _outline(result, mask, (200, 200, 200), 1)
        break  # all heads judge the same regions
    labels: list[tuple[str, tuple[int, int], Style]] = []
    for head, of_head in regions.items():
        for number in named(of_head):
            mask, score = _enlarged(of_head.masks[number], result), of_head.scores[number]
            tint = 0.35 * np.array(styles[head].strong, np.float32)
            result[mask] = np.rint(0.65 * result[mask] + tint).astype(np.uint8)
            _outline(result, of_head.masks[number], styles[head].strong, 2)
            name = of_head.labels[number] if of_head.labels else head
            doubt = "" if score >= PRESENT else "?"
            rows, columns = np.nonzero(mask)
            at = (int(columns.mean()), int(rows.mean()))
            labels.append((f"{name}{doubt} {score:.2f}", at, styles[head]))
    for text, at, style in labels:
        write_label(result, text, at, style)
    return result


def named(regions: Regions) -> list[int]:
    """The regions that a head found, the best first; the best alone where none reaches 0.5."""
    scores = regions.scores
    order = np.argsort(-scores, kind="stable")
    chosen: list[int] = []
    for number in order:
        mask = regions.masks[number]
        size = max(1, np.count_nonzero(mask))
        if chosen and (scores[number] < PRESENT or len(chosen) == MAX_NAMED):
            break
        shared = [np.count_nonzero(mask & regions.masks[one]) for one in chosen]
        smaller = [min(size, np.count_nonzero(regions.masks[one])) for one in chosen]
        if all(part <= MIN_SHARE * of for part, of in zip(shared, smaller, strict=True)):
            chosen.append(int(number))
    return chosen


def describe_regions(regions: Mapping[str, Regions], size: tuple[int, int]) -> dict[str, Any]:
    """Head -> its regions, the best first, as JSON holds them.

    `box` is x0, y0, x1, y1 in pixels of a picture of `size` (H, W). `mask` is run-length coded
    row by row on a grid of `mask_size` (h, w): lengths of runs in turn off and on, off first.
    """
    height, width = size
    described: dict[str, Any] = {"image_size": [height, width], "heads": {}}
    for head, of_head in regions.items():
        boxes = of_head.boxes * np.array([width, height, width, height], np.float32)
        described["mask_size"] = list(of_head.masks.shape[1:])
        described["heads"][head] = [
            {
                "label": of_head.labels[number] if of_head.labels else None,
                "score": round(float(of_head.scores[number]), 4),
                "confidence": round(float(of_head.confidence[number]), 4),
                "box": [round(float(value), 1) for value in boxes[number]],
                "mask": run_lengths(of_head.masks[number]),
            }
            for number in np.argsort(-of_head.logits, kind="stable")
        ]
    return described


def run_lengths(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """Lengths of a mask's runs, row by row, in turn off and on, beginning with off."""
    flat = np.concatenate([[False], mask.ravel()])
    changes = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()


def _enlarged(mask: Bool[np.ndarray, "h w"], image: np.ndarray) -> Bool[np.ndarray, "H W"]:
    import cv2

    size = image.shape[1::-1]
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5


def _outline(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "h w"],
    color: tuple[int, int, int],
    line_px: int,
) -> None:
    import cv2

    inside = _enlarged(mask, image).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    if line_px > 1:
        cv2.polylines(image, contours, True, (0, 0, 0), line_px + 2, cv2.LINE_AA)
    cv2.polylines(image, contours, True, color, line_px, cv2.LINE_AA)
