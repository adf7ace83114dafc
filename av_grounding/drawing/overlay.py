"""Heatmaps as colour: alone, or laid over the image they answer."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.image import check_image, resize_heatmap
from av_grounding.types import Grounding

Head = Literal["sound", "speech"]

# Weak and strong end of each head's ramp, RGB. Amber and blue differ in lightness as well as in
# hue and stay apart with every common colour vision deficiency.
RAMPS: dict[Head, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "sound": ((214, 72, 0), (255, 214, 64)),
    "speech": ((0, 58, 196), (96, 214, 255)),
}
# A head is marked and called present from this calibrated value on: "as likely as not".
PRESENT = 0.5
MIN_LEGEND_PX = 96


def colorize(
    heatmap: Float32[np.ndarray, "h w"], head: Head = "sound"
) -> UInt8[np.ndarray, "h w 3"]:
    """A heatmap in its head's colours on black; brightness follows the absolute value."""
    values = _unit(heatmap)
    return np.rint(_ramp(values, head) * values[..., None]).astype(np.uint8)


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    heatmaps: Grounding,
    alpha: float = 0.55,
    *,
    legend: bool = True,
) -> UInt8[np.ndarray, "H W 3"]:
    """Both heatmaps over the image: sound in amber, speech in blue.

    Opacity is `alpha` times the absolute value, so empty maps leave the image as it is. A map
    whose score is at least 0.5 gets its peak marked and its 0.5 level outlined: a circle and a
    full line for sound, a diamond and a dashed line for speech, told apart without colour.
    Images too small for text get no legend, nor do any without `legend`.
    """
    import cv2

    image = check_image(image)
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha {alpha}: expected 0 (image only) to 1 (opaque at a value of 1)")
    height, width = image.shape[:2]
    # Colours are laid over each other on the small grid; only their sum is resized.
    opacity = {head: alpha * _unit(_map(heatmaps, head)) for head in RAMPS}
    weight = opacity["sound"] + opacity["speech"]
    total = 1.0 - (1.0 - opacity["sound"]) * (1.0 - opacity["speech"])
    mixed = sum(
        _ramp(opacity[head] / max(alpha, 1e-6), head) * opacity[head][..., None] for head in RAMPS
    )
    premultiplied = mixed * (total / np.maximum(weight, 1e-6))[..., None]
    kept = np.repeat((1.0 - total)[..., None], 3, axis=2)
    size = (width, height)
    result = cv2.multiply(image, cv2.resize(kept, size), dtype=cv2.CV_32F)
    # Adding into 8 bits rounds and saturates.
    result = cv2.add(result, cv2.resize(premultiplied, size), dtype=cv2.CV_8U)
    for head in RAMPS:
        if _score(heatmaps, head) >= PRESENT and _map(heatmaps, head).any():
            _outline(result, _map(heatmaps, head), head)
            _mark_peak(result, _map(heatmaps, head), head)
    if legend and min(height, width) >= MIN_LEGEND_PX:
        _draw_legend(result, heatmaps)
    return result


def peak_px(heatmap: Float32[np.ndarray, "h w"], height: int, width: int) -> tuple[int, int]:
    """(x, y) of the largest value's cell centre on an image of `height` x `width` pixels."""
    row, column = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
    x = (column + 0.5) * width / heatmap.shape[1] - 0.5
    y = (row + 0.5) * height / heatmap.shape[0] - 0.5
    return round(x), round(y)


def _map(heatmaps: Grounding, head: Head) -> Float32[np.ndarray, "h w"]:
    return heatmaps.sound if head == "sound" else heatmaps.speech


def _score(heatmaps: Grounding, head: Head) -> float:
    return heatmaps.sound_score if head == "sound" else heatmaps.speech_score


def _unit(heatmap: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    return np.clip(np.nan_to_num(heatmap), 0.0, 1.0).astype(np.float32)


def _ramp(values: Float32[np.ndarray, "h w"], head: Head) -> Float32[np.ndarray, "h w 3"]:
    weak, strong = (np.array(color, np.float32) for color in RAMPS[head])
    return weak + (strong - weak) * values[..., None]


def _mark_peak(
    image: UInt8[np.ndarray, "H W 3"], heatmap: Float32[np.ndarray, "h w"], head: Head
) -> None:
    import cv2

    height, width = image.shape[:2]
    x, y = peak_px(heatmap, height, width)
    radius = max(4, round(min(height, width) * 0.035))
    thickness = max(1, round(min(height, width) / 240))
    # A dark line under the bright one keeps the mark visible on any background.
    for color, line in (((0, 0, 0), 2 * thickness), (RAMPS[head][1], thickness)):
        if head == "sound":
            cv2.circle(image, (x, y), radius, color, line, cv2.LINE_AA)
        else:
            reach = round(radius * 1.25)
            corners = [(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)]
            cv2.polylines(image, [np.array(corners, np.int32)], True, color, line, cv2.LINE_AA)


def _outline(
    image: UInt8[np.ndarray, "H W 3"], heatmap: Float32[np.ndarray, "h w"], head: Head
) -> None:
    import cv2

    height, width = image.shape[:2]
    inside = (resize_heatmap(_unit(heatmap), height, width) >= PRESENT).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    dash = max(4, round(min(height, width) * 0.025))
    lines = [np.vstack([contour, contour[:1]]) for contour in contours]
    if head == "speech":
        lines = [line[i : i + dash] for line in lines for i in range(0, len(line), 2 * dash)]
    thickness = max(1, round(min(height, width) / 480))
    cv2.polylines(image, lines, False, (0, 0, 0), thickness + 1, cv2.LINE_AA)
    cv2.polylines(image, lines, False, RAMPS[head][1], thickness, cv2.LINE_AA)


def _draw_legend(image: UInt8[np.ndarray, "H W 3"], heatmaps: Grounding) -> None:
    import cv2

    scale = max(0.35, min(image.shape[:2]) / 900)
    thickness = max(1, round(scale * 1.5))
    font = cv2.FONT_HERSHEY_SIMPLEX
    line_px, left_px = round(26 * scale), round(8 * scale)
    labels = {head: f"{head} {_score(heatmaps, head):.2f}" for head in RAMPS}
    text_px = max(cv2.getTextSize(text, font, scale, thickness)[0][0] for text in labels.values())
    box = image[: 2 * line_px + left_px, : text_px + line_px + 2 * left_px]
    box[:] = (box * 0.35).astype(np.uint8)
    mark_px = round(8 * scale)
    for row, (head, text) in enumerate(labels.items()):
        center = (left_px + mark_px, left_px // 2 + row * line_px + line_px // 2)
        color = RAMPS[head][1]
        if head == "sound":
            cv2.circle(image, center, mark_px, color, -1, cv2.LINE_AA)
        else:
            x, y = center
            corners = [(x, y - mark_px), (x + mark_px, y), (x, y + mark_px), (x - mark_px, y)]
            cv2.fillPoly(image, [np.array(corners, np.int32)], color, cv2.LINE_AA)
        origin = (left_px + round(24 * scale), center[1] + mark_px)
        cv2.putText(image, text, origin, font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
