"""Backgrounds with clutter that is no object, and the imperfections of a camera."""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import UInt8
from scipy.special import ndtri

from av_grounding.synthetic.drawing import (
    BLACK,
    SHIFT,
    Colour,
    darker,
    ellipse,
    lighter,
    mix,
    random_colour,
)

Image = UInt8[np.ndarray, "H W 3"]

# Standard normal quantiles: turns uniform bytes into Gaussian noise at the price of a look-up.
_NORMAL_QUANTILES = ndtri((np.arange(256) + 0.5) / 256).astype(np.float32)


def draw_background(seed: int, height_px: int, width_px: int) -> Image:
    """A wall, floor, sky, pattern or noise with distractor shapes, determined by the seed."""
    rng = np.random.default_rng((seed, 1))
    base = random_colour(rng)
    # Busy, saturated backdrops are the exception, as in rooms and landscapes.
    if rng.random() < 0.6:
        base = mix(base, (190, 190, 186), 0.3 + 0.5 * rng.random())
    kind = rng.random()
    if kind < 0.4:
        image = _gradient(rng, base, height_px, width_px)
    elif kind < 0.75:
        image = _wall_and_floor(rng, base, height_px, width_px)
    else:
        image = _pattern(rng, base, height_px, width_px)
    _add_texture(image, rng)
    _add_clutter(image, rng)
    return image


def _gradient(rng: np.random.Generator, base: Colour, height: int, width: int) -> Image:
    other = mix(base, random_colour(rng), 0.2 + 0.6 * rng.random())
    corners = [base, other, mix(base, other, rng.random()), mix(base, other, rng.random())]
    grid = np.array(corners, dtype=np.uint8)[rng.permutation(4)].reshape(2, 2, 3)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)


def _wall_and_floor(rng: np.random.Generator, base: Colour, height: int, width: int) -> Image:
    image = np.empty((height, width, 3), dtype=np.uint8)
    horizon, tilt = height * (0.35 + 0.4 * rng.random()), height * 0.1 * (rng.random() - 0.5)
    image[:] = base
    ground = np.array(
        [(0, horizon - tilt), (width, horizon + tilt), (width, height), (0, height)]
    ).astype(np.int32)
    floor = mix(random_colour(rng), base, 0.5 * rng.random())
    cv2.fillPoly(image, [ground], floor, cv2.LINE_AA)
    if rng.random() < 0.5:
        edge = darker(floor, 0.4) if rng.random() < 0.5 else lighter(floor, 0.5)
        cv2.polylines(image, [ground[:2]], False, edge, int(rng.integers(1, 4)), cv2.LINE_AA)
    if rng.random() < 0.35:
        for _ in range(5):
            x = width * rng.random()
            start = (int(x), int(horizon - tilt + 2 * tilt * x / width))
            end = (int(2.5 * x - 0.75 * width), height)
            cv2.line(image, start, end, darker(floor), 1, cv2.LINE_AA)
    return image


def _pattern(rng: np.random.Generator, base: Colour, height: int, width: int) -> Image:
    """Stripes or checks: a wave of some angle and period, thresholded or not."""
    other = mix(base, random_colour(rng), 0.15 + 0.45 * rng.random())
    y = np.arange(height, dtype=np.float32)[:, None] / min(height, width)
    x = np.arange(width, dtype=np.float32)[None] / min(height, width)
    angle, period = math.pi * rng.random(), 0.05 + 0.25 * rng.random()
    turn = 2 * math.pi / period
    along = (turn * math.cos(angle)) * x + (turn * math.sin(angle)) * y
    wave = np.sin(along)
    if rng.random() < 0.5:
        wave = wave * np.sin((turn * math.sin(angle)) * x - (turn * math.cos(angle)) * y)
    level = np.clip(wave * rng.choice((1.0, 8.0)) * 127 + 128, 0, 255).astype(np.uint8)
    ramp = np.linspace(base, other, 256).astype(np.uint8)
    return ramp[level]


def _add_texture(image: Image, rng: np.random.Generator) -> None:
    """Add smooth brightness noise of a random scale."""
    height, width = image.shape[:2]
    cells = int(2 ** (2 + 4 * rng.random()))
    strength = 16 * rng.random()
    noise = strength * rng.standard_normal((cells, cells), dtype=np.float32)
    noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.add(image, cv2.merge((noise,) * 3), dst=image, dtype=cv2.CV_8U)


def _add_clutter(image: Image, rng: np.random.Generator) -> None:
    """Draw distractors, some alone, some in outlined groups that look almost like a thing."""
    height, width = image.shape[:2]
    short = min(height, width)
    for _ in range(int(rng.integers(2, 9))):
        x, y = width * rng.random(), height * rng.random()
        size = short * (0.02 + 0.13 * rng.random() ** 1.5)
        ground = image[min(int(y), height - 1), min(int(x), width - 1)]
        under = (int(ground[0]), int(ground[1]), int(ground[2]))
        contrast = 0.15 + 0.85 * rng.random() ** 1.3
        outlined = rng.random() < 0.5
        num_parts = int(rng.integers(2, 5)) if rng.random() < 0.3 else 1
        for _ in range(num_parts):
            colour = mix(under, random_colour(rng), contrast)
            points = _random_shape(rng) * size + (x, y)
            fixed = [np.round(points * (1 << SHIFT)).astype(np.int32)]
            if rng.random() < 0.2:
                thickness = int(rng.integers(1, 4))
                cv2.polylines(image, fixed, False, colour, thickness, cv2.LINE_AA, SHIFT)
            else:
                cv2.fillPoly(image, fixed, colour, cv2.LINE_AA, SHIFT)
                if outlined:
                    edge = mix(colour, BLACK, 0.7)
                    cv2.polylines(image, fixed, True, edge, 1, cv2.LINE_AA, SHIFT)
            x += size * 1.2 * (rng.random() - 0.5)
            y += size * 1.2 * (rng.random() - 0.5)


def _random_shape(rng: np.random.Generator) -> np.ndarray:
    """Points of a polygon, ellipse, bar or star within about [-1, 1]."""
    kind = rng.random()
    if kind < 0.3:
        rx, ry = 0.4 + 0.6 * rng.random(), 0.3 + 0.6 * rng.random()
        return ellipse(0.0, 0.0, rx, ry, 180 * rng.random())
    num_corners = int(rng.integers(3, 8))
    start = 2 * math.pi * rng.random()
    angles = start + 2 * math.pi * np.arange(num_corners) / num_corners
    reach = 0.5 + 0.6 * rng.random(num_corners)
    points = np.stack((reach * np.cos(angles), reach * np.sin(angles)), axis=1)
    if kind < 0.45:
        points[:, int(rng.integers(2))] *= 0.2
        points *= 1.8
    return points


def photometric_jitter(image: Image, seed: int) -> Image:
    """Apply a random exposure, contrast, colour cast, slight blur and sensor noise."""
    rng = np.random.default_rng((seed, 2))
    contrast, brightness = 0.78 + 0.4 * rng.random(), 40 * (rng.random() - 0.5)
    cast = 1 + 0.16 * (rng.random(3) - 0.5)
    levels = np.arange(256, dtype=np.float64)[:, None]
    table = np.clip((levels - 128) * contrast * cast + 128 + brightness, 0, 255)
    image = cv2.LUT(image, table.astype(np.uint8)[None])
    sigma = 0.9 * rng.random()
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (3, 3), sigma)
    noise_std = 6.0 * rng.random() ** 2
    uniform = np.frombuffer(rng.bytes(image.size), dtype=np.uint8).reshape(image.shape)
    noise_table = np.rint(noise_std * _NORMAL_QUANTILES).astype(np.int8)
    return cv2.add(
        image, cv2.LUT(uniform, noise_table.view(np.uint8)).view(np.int8), dtype=cv2.CV_8U
    )
