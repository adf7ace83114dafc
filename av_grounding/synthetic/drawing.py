"""Vector sketches in unit coordinates and their antialiased rasterisation.

A sketch is a list of filled polygons and strokes, x to the right and y down, in any range: it is
fitted to the sprite when it is rasterised, so the functions that draw objects never see pixels.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int, UInt8

Colour = tuple[int, int, int]
"""RGB, 0..255."""
Points = Float32[np.ndarray, "_ 2"]
PointsLike = Sequence[tuple[float, float]]

BLACK: Colour = (18, 18, 20)
WHITE: Colour = (248, 248, 244)
GLASS: Colour = (176, 214, 232)
WOOD: Colour = (176, 118, 66)
BRASS: Colour = (222, 176, 70)
NATURAL_COLOURS: tuple[Colour, ...] = (
    (139, 94, 60), (205, 160, 92), (235, 215, 180), (120, 120, 124), (70, 66, 64), (30, 30, 34),
    (245, 244, 240), (168, 80, 44), (92, 100, 116), (186, 186, 188),
)  # fmt: skip

SUPERSAMPLING = 2
SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates
TEXTURE_CELLS = 16
CURVE_STEPS = 6

_T = np.arange(CURVE_STEPS, dtype=np.float32)[:, None] / CURVE_STEPS
_CATMULL_ROM = 0.5 * np.concatenate(
    (
        -_T + 2 * _T**2 - _T**3,
        2 - 5 * _T**2 + 3 * _T**3,
        _T + 4 * _T**2 - 3 * _T**3,
        _T**3 - _T**2,
    ),
    axis=1,
)
_ANGLES = np.arange(32, dtype=np.float32) * (2 * math.pi / 32)
_CIRCLE = np.stack((np.cos(_ANGLES), np.sin(_ANGLES)), axis=1)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from `first` to `second`."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(first, second, strict=True))
    return r, g, b


def darker(colour: Colour, share: float = 0.25) -> Colour:
    return mix(colour, BLACK, share)


def lighter(colour: Colour, share: float = 0.35) -> Colour:
    return mix(colour, WHITE, share)


def random_colour(rng: np.random.Generator) -> Colour:
    """Natural browns, greys, black and white about a third of the time, else any hue."""
    if rng.random() < 0.35:
        base = NATURAL_COLOURS[rng.integers(len(NATURAL_COLOURS))]
        r, g, b = (int(min(255, max(0, c + 24 * (rng.random() - 0.5)))) for c in base)
        return r, g, b
    saturation, value = 0.25 + 0.7 * rng.random(), 0.35 + 0.63 * rng.random()
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), saturation, value)
    return int(255 * red), int(255 * green), int(255 * blue)


def contrasting_colour(rng: np.random.Generator, other: Colour) -> Colour:
    """A random colour that can be told from `other`."""
    for _ in range(20):
        colour = random_colour(rng)
        if sum(abs(a - b) for a, b in zip(colour, other, strict=True)) > 160:
            return colour
    return BLACK if sum(other) > 380 else WHITE


def ellipse(x: float, y: float, rx: float, ry: float, angle_deg: float = 0.0) -> Points:
    # A coarser circle suffices for eyes and buttons.
    circle = _CIRCLE if max(rx, ry) > 0.12 else _CIRCLE[::2]
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    axes = np.array(((rx * c, rx * s), (-ry * s, ry * c)), dtype=np.float32)
    return circle @ axes + np.array((x, y), dtype=np.float32)


def polygon(points: PointsLike) -> Points:
    return np.array(points, dtype=np.float32)


def _spline(padded: Points) -> Points:
    windows = np.stack((padded[:-3], padded[1:-2], padded[2:-1], padded[3:]), axis=1)
    return np.matmul(_CATMULL_ROM, windows).reshape(-1, 2)


def blob(points: PointsLike) -> Points:
    """A smooth closed curve through the points."""
    p = polygon(points)
    return _spline(np.concatenate((p[-1:], p, p[:2])))


def curve(points: PointsLike) -> Points:
    """A smooth open curve through the points."""
    p = polygon(points)
    return np.concatenate((_spline(np.concatenate((p[:1], p, p[-1:]))), p[-1:]))


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> Points:
    """A rectangle with rounded corners."""
    if radius <= 0:
        return polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    radius = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    r, d = radius, 0.3 * radius
    top = [(x0, y0 + r), (x0 + d, y0 + d), (x0 + r, y0)]
    top += [(x1 - r, y0), (x1 - d, y0 + d), (x1, y0 + r)]
    low = [(x1, y1 - r), (x1 - d, y1 - d), (x1 - r, y1)]
    low += [(x0 + r, y1), (x0 + d, y1 - d), (x0, y1 - r)]
    return polygon(top + low)


def limb(points: PointsLike, width: float, end_width: float | None = None) -> Points:
    """A smooth band along the points with a rounded end, for legs, tails, handles and spouts."""
    p = curve(points)
    tangent = np.gradient(p, axis=0)
    tangent /= np.maximum(np.hypot(tangent[:, :1], tangent[:, 1:]), 1e-6)
    half = np.linspace(width, width if end_width is None else end_width, len(p)) / 2
    normal = np.stack((-tangent[:, 1], tangent[:, 0]), axis=1) * half[:, None]
    cap = (p[-1] + tangent[-1] * half[-1] * 0.7)[None]
    tail = (p[0] - tangent[0] * half[0] * 0.7)[None]
    return np.concatenate((p + normal, cap, (p - normal)[::-1], tail)).astype(np.float32)


class Stroke(NamedTuple):
    """One drawing step: a filled polygon, or a line of `width` when `filled` is false."""

    points: Points
    colour: Colour
    filled: bool
    width: float
    closed: bool


class Sketch:
    """Collects the strokes of one individual; its random choices come from `rng`.

    `body`, `second` and `accent` are the individual's palette; `edge` is its outline colour.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.strokes: list[Stroke] = []
        self.edge_width = self.uniform(0.025, 0.05)
        self.second: Colour
        self.accent: Colour
        self.edge: Colour
        self.set_body(random_colour(rng))

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def set_body(self, colour: Colour) -> None:
        """Set the main colour and draw the rest of the palette to go with it."""
        self.body = colour
        self.second = contrasting_colour(self.rng, colour)
        self.accent = contrasting_colour(self.rng, colour)
        self.edge = darker(colour, 0.75) if sum(colour) > 170 else lighter(colour, 0.45)

    def typical(self, *colours: Colour) -> None:
        """Now and then take one of the colours the object often has in the world."""
        if self.chance(0.25):
            self.set_body(colours[self.rng.integers(len(colours))])

    def fill(self, points: Points, colour: Colour, outline: bool = True) -> None:
        self.strokes.append(Stroke(points, colour, True, 0.0, True))
        if outline:
            self.strokes.append(Stroke(points, self.edge, False, self.edge_width, True))

    def union(self, shapes: Iterable[Points], colour: Colour) -> None:
        """Fill several shapes as one silhouette with one outline around all of them."""
        shapes = list(shapes)
        for points in shapes:
            self.strokes.append(Stroke(points, self.edge, False, 2 * self.edge_width, True))
        for points in shapes:
            self.strokes.append(Stroke(points, colour, True, 0.0, True))

    def line(self, points: Points, colour: Colour, width: float | None = None) -> None:
        width = self.edge_width if width is None else width
        self.strokes.append(Stroke(points, colour, False, width, False))

    def eye(self, x: float, y: float, radius: float, look: float = 0.2) -> None:
        self.fill(ellipse(x, y, radius, radius), WHITE)
        self.fill(ellipse(x + look * radius, y, 0.62 * radius, 0.68 * radius), BLACK, False)
        glint = 0.22 * radius
        self.fill(ellipse(x + (look + 0.2) * radius, y - 0.3 * radius, glint, glint), WHITE, False)

    def spots(
        self, x: float, y: float, rx: float, ry: float, num_spots: int, colour: Colour
    ) -> None:
        """Irregular patches inside an ellipse."""
        for _ in range(num_spots):
            angle, reach = self.uniform(0.0, 2 * math.pi), self.uniform(0.0, 0.62)
            size = self.uniform(0.18, 0.34) * min(rx, ry) * 1.3
            cx, cy = x + reach * rx * math.cos(angle), y + reach * ry * math.sin(angle)
            patch = ellipse(cx, cy, size * self.uniform(0.8, 1.5), size, self.uniform(0.0, 180.0))
            self.fill(patch, colour, False)

    def finish(self) -> Drawing:
        """Warp the whole slightly (stretch, shear, waviness) and pack it for rasterisation."""
        points = np.concatenate([stroke.points for stroke in self.strokes])
        x, y = points[:, 0], points[:, 1]
        stretch, shear = self.uniform(0.87, 1.15), self.uniform(-0.09, 0.09)
        wave, phase = self.uniform(0.0, 0.04), self.uniform(0.0, 2 * math.pi)
        warped = np.stack(
            (
                stretch * x + shear * y + wave * np.sin(3 * y + phase),
                y + wave * np.sin(3 * x + 2 * phase),
            ),
            axis=1,
        )
        lengths = [len(stroke.points) for stroke in self.strokes]
        half_widths = np.repeat([stroke.width / 2 for stroke in self.strokes], lengths)
        ends = np.cumsum(lengths)
        ramp = np.linspace(-1, 1, TEXTURE_CELLS, dtype=np.float32)
        light = self.uniform(0.05, 0.22) * (-ramp[:, None] + self.uniform(-0.7, 0.7) * ramp[None])
        grain = self.uniform(0.0, 0.09)
        noise = self.rng.standard_normal((TEXTURE_CELLS, TEXTURE_CELLS), dtype=np.float32)
        return Drawing(
            warped.astype(np.float32),
            half_widths.astype(np.float32),
            np.stack((ends - lengths, ends), axis=1),
            tuple(self.strokes),
            1.0 + light + grain * noise,
        )


@dataclass(frozen=True)
class Drawing:
    """A finished sketch: all points in one array, so that a pose is one matrix product."""

    points: Points
    half_widths: Float32[np.ndarray, " n"]
    spans: Int[np.ndarray, "strokes 2"]
    strokes: tuple[Stroke, ...]
    texture: Float32[np.ndarray, "cells cells"]

    def rasterise(
        self, size_px: int, angle_deg: float = 0.0, flip: bool = False
    ) -> UInt8[np.ndarray, "s s 4"]:
        """RGBA with colour premultiplied by alpha; the longest extent fills the square."""
        c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
        sign = -1.0 if flip else 1.0
        pose = np.array(((sign * c, sign * s), (-s, c)), dtype=np.float32)
        posed = self.points @ pose
        pad = self.half_widths[:, None]
        low, high = (posed - pad).min(axis=0), (posed + pad).max(axis=0)
        side = SUPERSAMPLING * size_px
        scale = (side - 2) / float((high - low).max())
        pixels = (posed - (low + high) / 2) * scale + (side - 1) / 2
        fixed = np.round(pixels * (1 << SHIFT)).astype(np.int32)
        canvas = np.zeros((side, side, 4), dtype=np.uint8)
        for stroke, (start, end) in zip(self.strokes, self.spans, strict=True):
            polygon_px, colour = [fixed[start:end]], (*stroke.colour, 255)
            if stroke.filled:
                cv2.fillPoly(canvas, polygon_px, colour, cv2.LINE_8, SHIFT)
            else:
                thickness = max(1, round(stroke.width * scale))
                cv2.polylines(
                    canvas, polygon_px, stroke.closed, colour, thickness, cv2.LINE_8, SHIFT
                )
        sprite = cv2.resize(canvas, (size_px, size_px), interpolation=cv2.INTER_AREA)
        shade = cv2.resize(self.texture, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
        lit = sprite[..., :3] * shade[..., None]
        sprite[..., :3] = np.clip(lit, 0, sprite[..., 3:])
        return sprite
