"""Augmentation of real clips (001 section 3.5 and supplement 16; values of its released code).

Pure functions of a NumPy generator, so that a batch can be drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

SAMPLE_RATE_HZ = 16_000
MIN_ASPECT, MAX_ASPECT = 3 / 4, 4 / 3


@dataclass(frozen=True)
class AugmentationConfig:
    """001 section 3.5 names crops, flips, jitter and grayscale; its released code the numbers."""

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_side: float = 0.0
    """Above 0: a square instead, at a random place, of this share of the shorter side."""
    flip: float = 0.5
    jitter: float = 0.2
    """Of brightness, contrast, saturation and hue."""
    grayscale: float = 0.1
    splice: float = 1.0
    """Share of clips with a negative splice (001 supplement 16)."""
    splice_s: tuple[float, float] = (1.0, 4.0)
    easing_s: float = 0.1
    """Raised-cosine crossing at both ends of a splice."""
    keep_window: float = 0.5
    """Share of clips of which one random window is kept and the rest silenced."""
    least_kept: float = 0.1
    """Shortest such window, as a share of the clip."""


def augment_image(
    image: UInt8[np.ndarray, "H W 3"], size: int, config: AugmentationConfig, rng
) -> UInt8[np.ndarray, "size size 3"]:
    """A random resized crop, flipped, jittered and greyed at random."""
    if config.crop_side:
        y, x, height, width = draw_square(image.shape[:2], config.crop_side, rng)
    else:
        y, x, height, width = draw_crop(image.shape[:2], config.crop_scale, rng)
    crop = image[y : y + height, x : x + width]
    shrinks = height > size or width > size
    crop = cv2.resize(
        crop, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    if rng.random() < config.flip:
        crop = crop[:, ::-1]
    crop = jitter_colour(np.ascontiguousarray(crop), config.jitter, rng)
    if rng.random() < config.grayscale:
        crop = np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return crop


def draw_crop(
    shape: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a part of the image's area, of aspect 3:4 to 4:3.

    The largest square in the middle where none fits, and where the scale is (1, 1).
    """
    height, width = shape
    for _ in range(0 if scale == (1.0, 1.0) else 10):
        area = height * width * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(np.log(MIN_ASPECT), np.log(MAX_ASPECT)))
        h, w = round(float(np.sqrt(area / aspect))), round(float(np.sqrt(area * aspect)))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def draw_square(
    shape: tuple[int, int], share: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a square of that share of the image's shorter side."""
    side = max(1, round(share * min(shape)))
    y, x = (int(rng.integers(length - side + 1)) for length in shape)
    return y, x, side, side


def jitter_colour(
    image: UInt8[np.ndarray, "H W 3"], strength: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Brightness, contrast and saturation scaled by 1 ± strength, hue turned by ± strength."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    turn = rng.uniform(-strength, strength)
    values = image.astype(np.float32) * np.float32(brightness)
    grey = values @ np.float32([0.299, 0.587, 0.114])
    values = (values - grey.mean()) * np.float32(contrast) + grey.mean()
    grey = (values @ np.float32([0.299, 0.587, 0.114]))[..., None]
    values = np.clip((values - grey) * np.float32(saturation) + grey, 0, 255) / np.float32(255)
    hsv = cv2.cvtColor(values, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * turn)) % 360
    return np.round(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


def augment_clip(
    waveform: Float32[np.ndarray, " s"],
    other: Float32[np.ndarray, " s"],
    silent: Float32[np.ndarray, " t"],
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, " s"], Float32[np.ndarray, " t"], Float32[np.ndarray, " t"]]:
    """A changed clip, and how silent and how foreign each of its tokens is then.

    A splice replaces 1 to 4 s by a piece of `other`; a kept window leaves silence around it.
    """
    foreign = np.zeros_like(waveform)
    if rng.random() < config.splice:
        waveform, foreign = splice(waveform, other, config, rng)
    kept = np.ones_like(waveform)
    if rng.random() < config.keep_window:
        length = round(len(waveform) * rng.uniform(config.least_kept, 1.0))
        start = int(rng.integers(len(waveform) - length + 1))
        kept[:start] = kept[start + length :] = 0.0
    foreign_tokens, kept_tokens = (per_token(v, len(silent)) for v in (foreign * kept, kept))
    # What a splice covers is heard, though it was silent before.
    silent = np.maximum(silent * (1.0 - foreign_tokens), 1.0 - kept_tokens)
    return waveform * kept, silent.astype(np.float32), foreign_tokens


def splice(
    waveform: Float32[np.ndarray, " s"],
    other: Float32[np.ndarray, " o"],
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, " s"], Float32[np.ndarray, " s"]]:
    """The clip with a piece of `other` in it, and the soft mask of where (001 eq. 9)."""
    length = min(
        round(rng.uniform(*config.splice_s) * SAMPLE_RATE_HZ), len(waveform) // 2, len(other)
    )
    weight = np.zeros(len(waveform), np.float32)
    if length < 2:
        return waveform, weight
    start = int(rng.integers(len(waveform) - length + 1))
    source = int(rng.integers(len(other) - length + 1))
    ease = min(max(round(config.easing_s * SAMPLE_RATE_HZ), 1), length // 2)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ease) + 0.5) / ease)
    window = np.ones(length, np.float32)
    window[:ease], window[-ease:] = rise, rise[::-1]
    weight[start : start + length] = window
    spliced = waveform * (1.0 - weight)
    spliced[start : start + length] += other[source : source + length] * window
    return spliced, weight


def per_token(values: Float32[np.ndarray, " n"], num: int) -> Float32[np.ndarray, " m"]:
    """Means over `num` equal parts."""
    edges = np.linspace(0, len(values), num + 1).round().astype(int)
    return (np.add.reduceat(values, edges[:-1]) / np.diff(edges)).astype(np.float32)
