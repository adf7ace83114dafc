"""The classes of drawn objects and the sprite of one individual."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8

from av_grounding.synthetic import objects_animals as animals
from av_grounding.synthetic import objects_things as things
from av_grounding.synthetic import objects_vehicles as vehicles
from av_grounding.synthetic.drawing import Drawing, Sketch

_SKETCHES: dict[str, Callable[[Sketch], None]] = {
    "dog": animals.dog,
    "cat": animals.cat,
    "bird": animals.bird,
    "cow": animals.cow,
    "frog": animals.frog,
    "bee": animals.bee,
    "car": vehicles.car,
    "train": vehicles.train,
    "airplane": vehicles.airplane,
    "boat": vehicles.boat,
    "bell": things.bell,
    "clock": things.clock,
    "drum": things.drum,
    "guitar": things.guitar,
    "piano": things.piano,
    "phone": things.phone,
    "kettle": things.kettle,
    "baby": animals.baby,
}
CLASSES: tuple[str, ...] = tuple(_SKETCHES)

SHAKE_DEG = 10.0
"""An active object is drawn as the mean of three poses this far apart: a struck bell shakes."""


@dataclass(frozen=True)
class ObjectInstance:
    """One individual of a class: proportions, palette and markings are drawn from its seed."""

    class_name: str
    seed: int

    def __post_init__(self) -> None:
        if self.class_name not in _SKETCHES:
            near = difflib.get_close_matches(self.class_name, CLASSES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "pick one of them"
            raise ValueError(
                f"got class {self.class_name!r}, expected one of {', '.join(CLASSES)}; {hint}"
            )
        if self.seed < 0:
            raise ValueError(f"got seed {self.seed}, expected 0 or more; drop the sign")


# Holds the individuals of a running scene; training sees new ones all the time.
@lru_cache(maxsize=128)
def _drawing(instance: ObjectInstance) -> Drawing:
    rng = np.random.default_rng((instance.seed, CLASSES.index(instance.class_name)))
    sketch = Sketch(rng)
    _SKETCHES[instance.class_name](sketch)
    return sketch.finish()


def draw_premultiplied(
    instance: ObjectInstance,
    size_px: int,
    angle_deg: float = 0.0,
    flip: bool = False,
    *,
    is_active: bool = False,
) -> UInt8[np.ndarray, "s s 4"]:
    """`draw_object` with the colour multiplied by alpha, ready for compositing.

    An active object is blurred by its own shaking: what one picture can show of a thing that
    sounds, and of none that is silent.
    """
    if size_px < 4:
        raise ValueError(f"got size_px {size_px}, expected 4 or more; draw the object larger")
    drawing = _drawing(instance)
    if not is_active:
        return drawing.rasterise(size_px, angle_deg, flip)
    poses = [
        drawing.rasterise(size_px, angle_deg + turn, flip).astype(np.uint16)
        for turn in (-SHAKE_DEG, 0.0, SHAKE_DEG)
    ]
    return (sum(poses) // 3).astype(np.uint8)


def draw_object(
    instance: ObjectInstance, size_px: int, angle_deg: float = 0.0, flip: bool = False
) -> UInt8[np.ndarray, "s s 4"]:
    """RGBA sprite with antialiased straight alpha; the longest extent is about `size_px`.

    The object is mirrored first (`flip`), then turned clockwise by `angle_deg`.
    """
    sprite = draw_premultiplied(instance, size_px, angle_deg, flip)
    alpha = sprite[..., 3:].astype(np.float32)
    straight = sprite[..., :3] * (255.0 / np.maximum(alpha, 1.0))
    sprite[..., :3] = np.clip(np.rint(straight), 0, 255)
    return sprite
