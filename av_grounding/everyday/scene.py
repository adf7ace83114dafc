"""Scenes: cut-out photographs of things on a photograph of a place, with exact masks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

HEIGHT_PX, WIDTH_PX = 480, 640
SIZE_PX = (140, 230)
"""Range of a thing's longest side."""
MAX_COVERED = 0.1
"""Of the smaller of two things' boxes, by the other."""
MARGIN_PX = 4
_TRIES = 400

CutOut = UInt8[np.ndarray, "_ _ 4"]


@dataclass(frozen=True)
class PlacedCutOut:
    """A cut-out at its size in a scene, and its left upper corner there, in pixels.

    `layers` are its colours in [0, 255] times alpha, then alpha in [0, 1].
    """

    layers: Float32[np.ndarray, "h w 4"]
    left: float = 0.0
    top: float = 0.0

    @classmethod
    def scaled(cls, picture: CutOut, longest_px: float, *, is_flipped: bool) -> PlacedCutOut:
        """A picture whose longer side becomes `longest_px`, mirrored or not."""
        scale = longest_px / max(picture.shape[:2])
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        alpha = picture[..., 3:].astype(np.float32) / 255
        # Colours times alpha, or what lies hidden around a thing would bleed into its outline.
        layers = np.dstack([picture[..., :3] * alpha, alpha])
        method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
        layers = cv2.resize(layers, (width, height), interpolation=method)
        return cls(np.ascontiguousarray(layers[:, ::-1]) if is_flipped else layers)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 in pixels."""
        height, width = self.layers.shape[:2]
        return self.left, self.top, self.left + width, self.top + height

    def at(self, left: float, top: float) -> PlacedCutOut:
        """The same elsewhere, as near as the picture's margins allow."""
        height, width = self.layers.shape[:2]
        return replace(
            self,
            left=float(np.clip(left, MARGIN_PX, WIDTH_PX - width - MARGIN_PX)),
            top=float(np.clip(top, MARGIN_PX, HEIGHT_PX - height - MARGIN_PX)),
        )


@dataclass(frozen=True)
class ComposedScene:
    """`masks` mark the visible pixels of each thing, so they are disjoint.

    `boxes` are x0, y0, x1, y1 in pixels around the things, later ones in front.
    """

    image: UInt8[np.ndarray, "H W 3"]
    masks: Bool[np.ndarray, "n H W"]
    boxes: tuple[tuple[float, float, float, float], ...]


def arrange(pictures: list[CutOut], rng: np.random.Generator) -> list[PlacedCutOut]:
    """Places for cut-outs in a scene, that hardly cover one another; every size is drawn."""
    while True:
        placed: list[PlacedCutOut] = []
        for _ in range(_TRIES):
            candidate = _drawn(pictures[len(placed)], rng)
            if all(_shared(candidate.box, other.box) <= MAX_COVERED for other in placed):
                placed.append(candidate)
                if len(placed) == len(pictures):
                    return placed


def compose(place: UInt8[np.ndarray, "H W 3"], things: list[PlacedCutOut]) -> ComposedScene:
    """Lay things over a place; where corners lie between pixels, things are interpolated."""
    image = place.copy()
    masks = np.zeros((len(things), *image.shape[:2]), bool)
    for number, thing in enumerate(things):
        left, top = int(thing.left), int(thing.top)
        height, width = thing.layers.shape[:2]
        shift = np.float32([[1, 0, thing.left - left], [0, 1, thing.top - top]])
        layers = cv2.warpAffine(thing.layers, shift, (width + 1, height + 1))
        patch = np.s_[top : top + height + 1, left : left + width + 1]
        behind, alpha = image[patch], layers[..., 3]
        behind[:] = np.rint(behind * (1 - alpha[..., None]) + layers[..., :3])
        covers = alpha >= 0.5
        for mask in masks[:number]:
            mask[patch] &= ~covers
        masks[number][patch] = covers
    return ComposedScene(image, masks, tuple(thing.box for thing in things))


def _drawn(picture: CutOut, rng: np.random.Generator) -> PlacedCutOut:
    longest_px, is_flipped = float(rng.uniform(*SIZE_PX)), bool(rng.random() < 0.5)
    thing = PlacedCutOut.scaled(picture, longest_px, is_flipped=is_flipped)
    height, width = thing.layers.shape[:2]
    return thing.at(
        float(rng.integers(MARGIN_PX, WIDTH_PX - width - MARGIN_PX)),
        float(rng.integers(MARGIN_PX, HEIGHT_PX - height - MARGIN_PX)),
    )


def _shared(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """How much of the smaller box two share."""
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second)]
    return max(0.0, across) * max(0.0, down) / min(areas)
