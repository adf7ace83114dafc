"""The procedural sound of every class."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from av_grounding.synthetic import sounds_living as living
from av_grounding.synthetic import sounds_made as made
from av_grounding.synthetic.acoustics import SAMPLE_RATE_HZ, colored_noise, normalize_level
from av_grounding.synthetic.sound_blocks import Signal

__all__ = ["SAMPLE_RATE_HZ", "synthesize_sound"]

_SOUNDS: dict[str, Callable[[np.random.Generator, int], Signal]] = {
    "dog": living.dog,
    "cat": living.cat,
    "bird": living.bird,
    "cow": living.cow,
    "frog": living.frog,
    "bee": living.bee,
    "car": made.car,
    "train": made.train,
    "airplane": made.airplane,
    "boat": made.boat,
    "bell": made.bell,
    "clock": made.clock,
    "drum": made.drum,
    "guitar": made.guitar,
    "piano": made.piano,
    "phone": made.phone,
    "kettle": made.kettle,
    "baby": living.baby,
}


def synthesize_sound(class_name: str, seed: int, duration_s: float) -> Float32[np.ndarray, " s"]:
    """The sound of one individual of a class, repeated or sustained over the duration.

    Pitch, rate, timbre, envelope and recording noise are drawn from `seed`. Events start within
    the first 0.5 s and recur so that any second holds some. 16 kHz mono, active level (see
    `active_rms`) -20 dBFS, less where the peak would exceed 0.99.
    """
    if class_name not in _SOUNDS:
        near = difflib.get_close_matches(class_name, _SOUNDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "pick one of them"
        raise ValueError(f"got class {class_name!r}, expected one of {', '.join(_SOUNDS)}; {hint}")
    if seed < 0:
        raise ValueError(f"got seed {seed}, expected 0 or more; drop the sign")
    if not 0.02 <= duration_s <= 600.0:
        raise ValueError(f"got duration_s {duration_s}, expected 0.02..600; generate it in pieces")
    rng = np.random.default_rng((seed, zlib.crc32(class_name.encode())))
    num_samples = round(duration_s * SAMPLE_RATE_HZ)
    sound = normalize_level(_SOUNDS[class_name](rng, num_samples).astype(np.float32))
    # A first-order tilt and a faint floor, as from another microphone in another room.
    tilt = rng.uniform(-0.35, 0.35)
    sound[1:] += np.float32(tilt) * sound[:-1].copy()
    floor = 10 ** (rng.uniform(-75.0, -60.0) / 20)
    return normalize_level(sound + np.float32(floor) * colored_noise(num_samples, 1.0, rng))
