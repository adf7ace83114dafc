"""Heatmaps as colour: alone, or laid over the image they answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.drawing.captions import draw_mark, draw_text
from av_grounding.drawing.styles import Answers, Style, styles_of
from av_grounding.image import check_image, peak_cell, resize_heatmap

# A head is marked and called present from this calibrated value on: "as likely as not".
PRESENT = 0.5
MIN_LEGEND_PX = 96


def colorize(
    heatmap: Float32[np.ndarray, "h w"], head: str = "sound"
) -> UInt8[np.ndarray, "h w 3"]:
    """A heatmap in its head's colours on black; brightness follows the absolute value."""
    values = _unit(heatmap)
    return np.rint(_ramp(values, styles_of([head])[head]) * values[..., None]).astype(np.uint8)


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    answers: Answers,
    alpha: float = 0.55,
    *,
    legend: bool = True,
    styles: Mapping[str, Style] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Every head's heatmap over the image in its own colours: sound in amber, speech in blue.

    `answers` are a `Grounding`'s `heads`. Opacity is `alpha` times the absolute value, so empty
    maps leave the image as it is. Of a head whose score is at least 0.5 each map that reaches 0.5
    has that level outlined and its peak marked (with its label, where it has one): a circle and a
    full line for sound, a diamond and a dashed line for speech, told apart without colour. Images
    too small for text get no legend, nor do any without `legend`. `styles`: of all heads, where
    `answers` are only some of them.
    """
    import cv2

    image = check_image(image)
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha {alpha}: expected 0 (image only) to 1 (opaque at a value of 1)")
    height, width = image.shape[:2]
    styles = styles or styles_of(answers)
    if not answers:
        return image.copy()
    # Colours are laid over each other on one small grid; only their sum is resized.
    grid = max((answer.heatmap.shape for answer in answers.values()), key=lambda shape: shape[0])
    opacity = {head: alpha * _on_grid(answers[head].heatmap, grid) for head in answers}
    weight = sum(opacity.values())
    total = 1.0 - np.prod([1.0 - of_head for of_head in opacity.values()], axis=0)
    mixed = sum(
        _ramp(of_head / max(alpha, 1e-6), styles[head]) * of_head[..., None]
        for head, of_head in opacity.items()
    )
    premultiplied = mixed * (total / np.maximum(weight, 1e-6))[..., None]
    kept = np.repeat((1.0 - total)[..., None], 3, axis=2)
    size = (width, height)
    result = cv2.multiply(image, cv2.resize(kept, size), dtype=cv2.CV_32F)
    # Adding into 8 bits rounds and saturates.
    result = cv2.add(result, cv2.resize(premultiplied, size), dtype=cv2.CV_8U)
    for head, answer in answers.items():
        if answer.score >= PRESENT and answer.heatmap.any():
            _mark_maps(result, answer.heatmaps, answer.names, styles[head])
    if legend and min(height, width) >= MIN_LEGEND_PX:
        _draw_legend(result, answers, styles)
    return result


def peak_px(heatmap: Float32[np.ndarray, "h w"], height: int, width: int) -> tuple[int, int]:
    """(x, y) of the largest value's cell centre on an image of `height` x `width` pixels."""
    row, column = peak_cell(heatmap)
    x = (column + 0.5) * width / heatmap.shape[1] - 0.5
    y = (row + 0.5) * height / heatmap.shape[0] - 0.5
    return round(x), round(y)


def _unit(heatmap: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    return np.clip(np.nan_to_num(heatmap), 0.0, 1.0).astype(np.float32)


def _on_grid(
    heatmap: Float32[np.ndarray, "h w"], grid: tuple[int, ...]
) -> Float32[np.ndarray, "H W"]:
    return _unit(heatmap if heatmap.shape == grid else resize_heatmap(heatmap, *grid))


def _ramp(values: Float32[np.ndarray, "h w"], style: Style) -> Float32[np.ndarray, "h w 3"]:
    weak, strong = (np.array(color, np.float32) for color in (style.weak, style.strong))
    return weak + (strong - weak) * values[..., None]


def _mark_maps(
    image: UInt8[np.ndarray, "H W 3"],
    heatmaps: Float32[np.ndarray, "m h w"],
    labels: tuple[str, ...],
    style: Style,
) -> None:
    peaks = heatmaps.max(axis=(1, 2))
    present = [*np.flatnonzero(peaks >= PRESENT)]
    for number in present:
        _outline(image, heatmaps[number], style)
    for number in present or [int(peaks.argmax())]:
        _mark_peak(image, heatmaps[number], style)
        if labels:
            _tell(image, heatmaps[number], labels[number], style)


def _mark_peak(
    image: UInt8[np.ndarray, "H W 3"], heatmap: Float32[np.ndarray, "h w"], style: Style
) -> None:
    height, width = image.shape[:2]
    radius = max(4, round(min(height, width) * 0.035))
    thickness = max(1, round(min(height, width) / 240))
    # A dark line under the bright one keeps the mark visible on any background.
    for color, line in (((0, 0, 0), 2 * thickness), (style.strong, thickness)):
        draw_mark(image, style.mark, peak_px(heatmap, height, width), radius, color, line)


def _outline(
    image: UInt8[np.ndarray, "H W 3"], heatmap: Float32[np.ndarray, "h w"], style: Style
) -> None:
    import cv2

    height, width = image.shape[:2]
    inside = (resize_heatmap(_unit(heatmap), height, width) >= PRESENT).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    dash = max(4, round(min(height, width) * 0.025))
    lines = [np.vstack([contour, contour[:1]]) for contour in contours]
    if style.is_dashed:
        lines = [line[i : i + dash] for line in lines for i in range(0, len(line), 2 * dash)]
    thickness = max(1, round(min(height, width) / 480))
    cv2.polylines(image, lines, False, (0, 0, 0), thickness + 1, cv2.LINE_AA)
    cv2.polylines(image, lines, False, style.strong, thickness, cv2.LINE_AA)


def _tell(
    image: UInt8[np.ndarray, "H W 3"],
    heatmap: Float32[np.ndarray, "h w"],
    label: str,
    style: Style,
) -> None:
    """A map's label beside its peak, on a dark ground, inside the image."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_LEGEND_PX:
        return
    x, y = peak_px(heatmap, height, width)
    write_label(image, label, (x, y), style)


def write_label(
    image: UInt8[np.ndarray, "H W 3"], label: str, at: tuple[int, int], style: Style
) -> None:
    """Text beside a point (x, y), on a dark ground, inside the image."""
    height, width = image.shape[:2]
    x, y = at
    size_px = max(12, round(min(height, width) / 34))
    chip = np.zeros((size_px * 3 // 2, size_px * (len(label) + 2), 3), np.uint8)
    end = draw_text(chip, label, (size_px // 3, size_px * 11 // 10), size_px, style.strong)
    chip = chip[:, : min(end + size_px // 3, width)]
    reach = round(min(height, width) * 0.05)
    left = x + reach if x + reach + chip.shape[1] <= width else x - reach - chip.shape[1]
    left, top = max(0, left), min(max(0, y - chip.shape[0] // 2), height - chip.shape[0])
    box = image[top : top + chip.shape[0], left : left + chip.shape[1]]
    np.maximum((box * 0.35).astype(np.uint8), chip, out=box)


def _draw_legend(
    image: UInt8[np.ndarray, "H W 3"], answers: Answers, styles: Mapping[str, Style]
) -> None:
    import cv2

    scale = max(0.35, min(image.shape[:2]) / 900)
    thickness = max(1, round(scale * 1.5))
    font = cv2.FONT_HERSHEY_SIMPLEX
    line_px, left_px = round(26 * scale), round(8 * scale)
    labels = {head: f"{head} {answer.score:.2f}" for head, answer in answers.items()}
    text_px = max(cv2.getTextSize(text, font, scale, thickness)[0][0] for text in labels.values())
    box = image[: len(labels) * line_px + left_px, : text_px + line_px + 2 * left_px]
    box[:] = (box * 0.35).astype(np.uint8)
    mark_px = round(8 * scale)
    for row, (head, text) in enumerate(labels.items()):
        center = (left_px + mark_px, left_px // 2 + row * line_px + line_px // 2)
        draw_mark(image, styles[head].mark, center, mark_px, styles[head].strong, reach=1.0)
        origin = (left_px + round(24 * scale), center[1] + mark_px)
        cv2.putText(image, text, origin, font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
