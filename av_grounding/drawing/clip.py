"""The picture of a rendered clip: camera and every head side by side, and a timeline.

Everything is in fractions of one fixed width, so that all clips look alike. Heads look as they do
everywhere else (see `styles`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from av_grounding.drawing.captions import draw_mark, draw_text
from av_grounding.drawing.overlay import overlay
from av_grounding.drawing.styles import KNOWN, Answer, Answers, styles_of
from av_grounding.image import letterbox
from av_grounding.types import Frame

WIDTH_PX = 1920
MARGIN_PX = 24
HEADER_PX = 84
MIN_PANEL_PX, MAX_PANEL_PX = 240, 780
WAVE_PX, SCORES_PX, AXIS_PX = 64, 84, 30
TIMELINE_PX = WAVE_PX + SCORES_PX + AXIS_PX
MAX_WINDOW_S = 40.0
"""A longer clip shows this much of its timeline at once, and the timeline moves."""
BINS_PER_S = 100
"""Resolution of the envelope."""

BACKGROUND = (16, 18, 22)
LANE = (26, 29, 35)
WHITE, GREY, FAINT = (240, 242, 245), (150, 156, 166), (58, 63, 72)
WAVE = (122, 130, 142)
MIN_WORDS_PX = 560
"""Narrower panels have room for a head's name and score alone."""
MAX_HEADS = 7


@dataclass
class ClipTimeline:
    """What is known of a whole recording before its first frame is drawn; seconds from there."""

    duration_s: float
    peaks: Float32[np.ndarray, " bins"]
    """Largest sample of each hundredth of a second, in [0, 1]."""
    utterances_s: Sequence[tuple[float, float]] = ()
    times_s: Float64[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(0))
    scores: Mapping[str, Float32[np.ndarray, " n"]] = field(default_factory=dict)
    """Head -> score at each of `times_s`, 0 where the heatmap is empty."""

    @property
    def window_s(self) -> float:
        return min(max(self.duration_s, 1.0), MAX_WINDOW_S)

    def window_start_s(self, time_s: float) -> float:
        """Where the visible part begins: the moment stays in the middle, but for the ends."""
        latest_s = max(0.0, self.duration_s - self.window_s)
        return min(max(0.0, time_s - self.window_s / 2), latest_s)


class ClipCanvas:
    """Draws the frames of one clip; all of the size that the first image's shape leads to."""

    def __init__(
        self,
        image_size: tuple[int, int],
        timeline: ClipTimeline,
        thresholds: Mapping[str, float],
        alpha: float = 0.75,
    ) -> None:
        """`thresholds` has every head that is shown, in the order of their panels.

        ValueError for more than `MAX_HEADS`.
        """
        if len(thresholds) > MAX_HEADS:
            raise ValueError(
                f"got {len(thresholds)} heads, expected up to {MAX_HEADS} beside a camera: a clip "
                "has no room for more"
            )
        height, width = image_size
        num_panels = 1 + len(thresholds)
        self._panel_width_px = (WIDTH_PX - (num_panels + 1) * MARGIN_PX) // num_panels
        fitting = round(self._panel_width_px * height / width)
        self._panel_px = min(max(fitting, MIN_PANEL_PX), MAX_PANEL_PX) // 2 * 2
        self._timeline = timeline
        self._thresholds = thresholds
        self._styles = styles_of(thresholds)
        self._alpha = alpha
        self._strip: tuple[float, np.ndarray] | None = None
        self._top_px = HEADER_PX + self._panel_px + MARGIN_PX
        self.size = (self._top_px + TIMELINE_PX + MARGIN_PX // 2, WIDTH_PX)

    def draw(self, frame: Frame, answers: Answers, time_s: float) -> UInt8[np.ndarray, "H W 3"]:
        """One frame of the clip, RGB."""
        canvas = np.full((*self.size, 3), BACKGROUND, np.uint8)
        shown = _fitted(frame.image, self._panel_px, self._panel_width_px)
        self._place(canvas, 0, shown)
        left = MARGIN_PX
        draw_text(canvas, "Camera", (left, 40), 30, WHITE, bold=True)
        height, width = frame.image.shape[:2]
        draw_text(canvas, f"{frame.frame_id}, {width} x {height}", (left, 66), 18, GREY)
        clock = f"{_clock(time_s)} / {_clock(self._timeline.duration_s)}"
        draw_text(canvas, clock, (left + self._panel_width_px, 40), 24, GREY, align="right")
        for column, head in enumerate(self._thresholds, start=1):
            self._place(canvas, column, self._head_panel(shown, head, answers[head]))
            self._header(canvas, column, head, answers[head])
        self._place_timeline(canvas, time_s)
        return canvas

    def _place(self, canvas: np.ndarray, column: int, panel: np.ndarray) -> None:
        left = MARGIN_PX + column * (self._panel_width_px + MARGIN_PX)
        right = left + self._panel_width_px
        target = canvas[HEADER_PX : HEADER_PX + self._panel_px, left:right]
        target[:] = letterbox(panel, self._panel_px, self._panel_width_px)

    def _head_panel(self, shown: np.ndarray, head: str, answer: Answer) -> np.ndarray:
        import cv2

        # Half the colour and less light: what glows is the heatmap.
        grey = cv2.cvtColor(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        base = cv2.addWeighted(shown, 0.4, grey, 0.3, 0.0)
        return overlay(base, {head: answer}, self._alpha, legend=False, styles=self._styles)

    def _header(self, canvas: np.ndarray, column: int, head: str, answer: Answer) -> None:
        score = gated_score(answer)
        threshold = self._thresholds[head]
        is_present = score > 0.0 and score >= threshold
        left = MARGIN_PX + column * (self._panel_width_px + MARGIN_PX)
        right, style = left + self._panel_width_px, self._styles[head]
        color = style.strong if is_present else GREY
        draw_mark(canvas, style.mark, (left + 10, 30), 10, style.strong)
        title = head.capitalize().replace("_", " ")
        end = draw_text(canvas, title, (left + 32, 40), 30, WHITE, bold=True)
        if self._panel_width_px >= MIN_WORDS_PX:
            draw_text(canvas, style.verdict(score, threshold), (end + 16, 40), 22, color)
        number = f"{score:.2f}" if score else "0"
        draw_text(canvas, number, (right, 40), 30, color, bold=True, align="right")
        canvas[56:66, left:right] = LANE
        canvas[56:66, left : left + round(score * self._panel_width_px)] = color
        tick = left + round(threshold * self._panel_width_px)
        canvas[52:70, tick - 1 : tick + 1] = WHITE

    def _place_timeline(self, canvas: np.ndarray, time_s: float) -> None:
        start_s = self._timeline.window_start_s(time_s)
        if self._strip is None or self._strip[0] != start_s:
            self._strip = (start_s, draw_timeline(self._timeline, start_s, self._thresholds))
        strip = self._strip[1]
        now = round((time_s - start_s) / self._timeline.window_s * (strip.shape[1] - 1))
        now = min(max(now, 0), strip.shape[1] - 1)
        target = canvas[self._top_px : self._top_px + TIMELINE_PX, MARGIN_PX:-MARGIN_PX]
        target[:] = strip
        # What is still to come is there, but dim.
        future = target[: WAVE_PX + SCORES_PX, now:]
        future[:] = (future * 0.45).astype(np.uint8)
        target[: WAVE_PX + SCORES_PX, max(0, now - 1) : now + 1] = WHITE


def gated_score(answer: Answer) -> float:
    """A head's score, or 0 where its heatmap is empty."""
    return float(answer.score) if answer.heatmap.any() else 0.0


def draw_timeline(
    timeline: ClipTimeline, start_s: float, thresholds: Mapping[str, float]
) -> UInt8[np.ndarray, "H W 3"]:
    """The visible part of the timeline: envelope with utterances, scores, seconds."""
    import cv2

    width = WIDTH_PX - 2 * MARGIN_PX
    strip = np.full((TIMELINE_PX, width, 3), BACKGROUND, np.uint8)
    wave, scores = strip[:WAVE_PX], strip[WAVE_PX + 4 : WAVE_PX + SCORES_PX]
    wave[:] = scores[:] = LANE
    per_s = width / timeline.window_s

    def column(time_s: float) -> int:
        return round(min(max((time_s - start_s) * per_s, 0.0), width))

    voice, styles = KNOWN["speech"], styles_of(thresholds)
    for begin_s, end_s in timeline.utterances_s:
        first, last = column(begin_s), column(end_s)
        if last > first:
            shade = np.array(voice.weak, np.float32) * 0.55 + np.array(LANE, np.float32) * 0.45
            wave[:, first:last] = shade.astype(np.uint8)
            wave[:4, first:last] = voice.strong
    level = _columns(timeline.peaks, start_s, timeline.window_s, width)
    reach = np.maximum(1, np.sqrt(level) * (WAVE_PX - 14) / 2)
    distance = np.abs(np.arange(WAVE_PX)[:, None] - (WAVE_PX / 2 + 2))
    wave[distance <= reach] = WAVE
    rows = scores.shape[0] - 9
    for head, threshold in thresholds.items():
        dash = round(4 + (1.0 - threshold) * rows)
        is_dash = np.arange(width) // 6 % 2 == styles[head].is_dashed
        scores[dash, is_dash] = FAINT
    visible = (timeline.times_s >= start_s - 1) & (
        timeline.times_s <= start_s + timeline.window_s + 1
    )
    x = np.rint((timeline.times_s[visible] - start_s) * per_s).astype(np.int32)
    for head, values in timeline.scores.items():
        y = np.rint(4 + (1.0 - values[visible]) * rows).astype(np.int32)
        points = np.stack([x, y], axis=1)
        style = styles[head]
        pieces = _dashes(points) if style.is_dashed else [points]
        cv2.polylines(scores, pieces, False, style.strong, 2, cv2.LINE_AA)
    for label, top in (("heard", 20), ("scores", WAVE_PX + 22)):
        draw_text(strip, label, (8, top), 15, GREY)
    _draw_seconds(strip, timeline, start_s, per_s)
    return strip


def _draw_seconds(strip: np.ndarray, timeline: ClipTimeline, start_s: float, per_s: float) -> None:
    step_s = next((s for s in (1, 2, 5, 10) if timeline.window_s / s <= 14), 10)
    top = WAVE_PX + SCORES_PX
    for second in range(0, int(timeline.duration_s) + 1, step_s):
        x = round((second - start_s) * per_s)
        if 0 <= x < strip.shape[1] - 40:
            strip[top : top + 6, x : x + 2] = FAINT
            draw_text(strip, _clock(second)[:-2], (x + 6, top + 20), 15, GREY)


def _columns(
    peaks: Float32[np.ndarray, " bins"], start_s: float, window_s: float, width: int
) -> Float32[np.ndarray, " width"]:
    """The largest value under each pixel column; 0 beyond the ends."""
    edges = (start_s + np.arange(width + 1) * window_s / width) * BINS_PER_S
    first = np.floor(edges[:-1]).astype(int)
    last = np.maximum(np.ceil(edges[1:]).astype(int), first + 1)
    most = int((last - first).max())
    padded = np.concatenate([peaks, np.zeros(most + 1, np.float32)])
    index = np.minimum(first[:, None] + np.arange(most), len(peaks))
    return np.where(index < last[:, None], padded[index], np.float32(0)).max(axis=1)


def _dashes(points: np.ndarray, on_px: int = 14, off_px: int = 7) -> list[np.ndarray]:
    """A polyline cut into dashes of even length along x."""
    if len(points) < 2:
        return [points]
    x = np.arange(points[0, 0], points[-1, 0] + 1)
    y = np.rint(np.interp(x, points[:, 0], points[:, 1])).astype(np.int32)
    line = np.stack([x, y], axis=1).astype(np.int32)
    period = on_px + off_px
    # Counted from the start of the clip's own axis, so that dashes move with the timeline.
    return [line[i : i + on_px] for i in range(0, len(line), period)]


def _fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image scaled to fit, so that marks on it are as large in every clip."""
    import cv2

    rows, columns = image.shape[:2]
    scale = min(height / rows, width / columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    interpolation = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=interpolation)


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(max(0.0, time_s), 60.0)
    return f"{int(minutes)}:{seconds:04.1f}"
