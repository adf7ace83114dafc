"""Scenes: drawn objects on cluttered backgrounds, with exact masks and boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from av_grounding.synthetic.background import draw_background, photometric_jitter
from av_grounding.synthetic.objects import ObjectInstance, draw_premultiplied

SEED_RANGES: dict[str, tuple[int, int]] = {
    "train": (0, 1 << 30),
    "val": (1 << 30, (1 << 30) + (1 << 28)),
    "test": ((1 << 30) + (1 << 28), 1 << 31),
}
"""Half-open ranges of seeds: no individual and no background is shared by two splits."""

MAX_NUM_OBJECTS = 4
SIZE_RANGES: dict[int, tuple[float, float]] = {
    1: (0.26, 0.42),
    2: (0.24, 0.42),
    3: (0.22, 0.38),
    4: (0.22, 0.31),
}
"""Number of objects -> the range of sizes, as fractions of the image's short side."""
MAX_OVERLAP = 0.15
"""Bounding circles may reach into each other by this share of the smaller one's diameter."""
MAX_CUT = 0.05
"""Bounding circles may leave the image by this share of their diameter."""
MAX_ANGLE_DEG = 15.0


@dataclass(frozen=True)
class Placed:
    """An individual in a scene.

    `center` is (x, y) in [0, 1] of the image's width and height; `size` is the longest extent as
    a fraction of the short side. `is_active`: in the state in which it sounds (see
    `objects.draw_premultiplied`).
    """

    instance: ObjectInstance
    center: tuple[float, float]
    size: float
    angle_deg: float = 0.0
    flip: bool = False
    is_active: bool = False


@dataclass(frozen=True)
class SceneSpec:
    """Everything that determines a scene except its resolution; later objects lie in front."""

    objects: tuple[Placed, ...]
    background_seed: int
    image_seed: int
    """Seeds the camera: brightness, contrast, colour cast, blur and sensor noise."""


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    `masks` mark the visible pixels of each object, so they are disjoint; `boxes` are x0, y0, x1,
    y1 in pixels around them (x1 and y1 exclusive), all zero when nothing of the object is visible.
    """

    spec: SceneSpec
    image: UInt8[np.ndarray, "H W 3"]
    masks: Bool[np.ndarray, "n H W"]
    boxes: Float[np.ndarray, "n 4"]


def instance_seed(rng: np.random.Generator, split: str) -> int:
    """Draw a seed from the split's own range."""
    if split not in SEED_RANGES:
        raise ValueError(
            f"got split {split!r}, expected one of {', '.join(SEED_RANGES)}; pick one of them"
        )
    low, high = SEED_RANGES[split]
    return int(rng.integers(low, high))


def sample_scene(
    rng: np.random.Generator,
    class_names: Sequence[str],
    split: str,
    *,
    aspect: float = 1.0,
    active: Sequence[bool] = (),
) -> SceneSpec:
    """Place one new individual for each name, in random order and with little overlap.

    `aspect` is width / height of the image that the scene is meant for; `active` says of each
    name whether its individual is in its active state (none is, where it is empty).
    """
    num_objects = len(class_names)
    if not 1 <= num_objects <= MAX_NUM_OBJECTS:
        raise ValueError(
            f"got {num_objects} classes, expected 1 to {MAX_NUM_OBJECTS}; name fewer objects"
        )
    if not 0.25 <= aspect <= 4.0:
        raise ValueError(f"got aspect {aspect}, expected width / height in [0.25, 4]; crop first")
    width, height = max(aspect, 1.0), max(1.0 / aspect, 1.0)
    circles = _sample_circles(rng, num_objects, width, height)
    objects = tuple(
        Placed(
            ObjectInstance(class_names[index], instance_seed(rng, split)),
            center=(x / width, y / height),
            size=size,
            angle_deg=float(rng.uniform(-MAX_ANGLE_DEG, MAX_ANGLE_DEG)),
            flip=bool(rng.random() < 0.5),
            is_active=bool(active[index]) if active else False,
        )
        for index, (x, y, size) in zip(rng.permutation(num_objects), circles, strict=True)
    )
    return SceneSpec(objects, instance_seed(rng, split), instance_seed(rng, split))


def _sample_circles(
    rng: np.random.Generator, num_circles: int, width: float, height: float
) -> list[tuple[float, float, float]]:
    """(x, y, diameter) by rejection, in units of the short side."""
    low, high = SIZE_RANGES[num_circles]
    while True:
        circles: list[tuple[float, float, float]] = []
        for _ in range(25 * num_circles):
            size = low + (high - low) * rng.random()
            margin = (0.5 - MAX_CUT) * size
            x = margin + (width - 2 * margin) * rng.random()
            y = margin + (height - 2 * margin) * rng.random()
            if all(
                math.hypot(x - cx, y - cy) >= (size + other) / 2 - MAX_OVERLAP * min(size, other)
                for cx, cy, other in circles
            ):
                circles.append((x, y, size))
                if len(circles) == num_circles:
                    return circles


def render_scene(spec: SceneSpec, height_px: int, width_px: int) -> Scene:
    """Draw the scene at a resolution; the same spec and size give the same bytes."""
    if min(height_px, width_px) < 16:
        raise ValueError(
            f"got {height_px} x {width_px} px, expected 16 or more a side; render it larger"
        )
    image = draw_background(spec.background_seed, height_px, width_px)
    masks = np.zeros((len(spec.objects), height_px, width_px), dtype=bool)
    for index, placed in enumerate(spec.objects):
        size_px = max(4, round(placed.size * min(height_px, width_px)))
        sprite = draw_premultiplied(
            placed.instance, size_px, placed.angle_deg, placed.flip, is_active=placed.is_active
        )
        left = round(placed.center[0] * width_px - size_px / 2)
        top = round(placed.center[1] * height_px - size_px / 2)
        x0, x1 = max(left, 0), min(left + size_px, width_px)
        y0, y1 = max(top, 0), min(top + size_px, height_px)
        if x0 >= x1 or y0 >= y1:
            continue
        sprite = sprite[y0 - top : y1 - top, x0 - left : x1 - left]
        under = image[y0:y1, x0:x1]
        clear = 255 - sprite[..., 3:].astype(np.uint16)
        under[:] = sprite[..., :3] + (under * clear + 127) // 255
        opaque = sprite[..., 3] >= 128
        masks[:index, y0:y1, x0:x1] &= ~opaque
        masks[index, y0:y1, x0:x1] = opaque
    boxes = np.array([_box(mask) for mask in masks], dtype=np.float64).reshape(-1, 4)
    return Scene(spec, photometric_jitter(image, spec.image_seed), masks, boxes)


def _box(mask: Bool[np.ndarray, "H W"]) -> tuple[float, float, float, float]:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return float(x), float(y), float(x + width), float(y + height)
