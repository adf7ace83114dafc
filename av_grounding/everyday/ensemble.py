"""Ensembles: photographs of instruments in one picture, each with a phrase that it plays.

What is heard is sampled from real instruments and nothing of it trains: programs of the sound
font, keys and phrases are a test's own (see `playing`). Sample i of a seed is always the same,
whichever others are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from av_grounding.everyday.music import INSTRUMENTS
from av_grounding.everyday.packages import require
from av_grounding.everyday.parts import PACKAGES, VALIDATION
from av_grounding.everyday.playing import play_split
from av_grounding.everyday.samples import EverydaySamples, draw_scene
from av_grounding.everyday.scene import ComposedScene
from av_grounding.synthetic.samples import (
    Sum,
    sum_at_levels,
    write_picture,
    write_rows,
    write_sound,
)

NUM_PHRASES = 40
"""Of each instrument."""
SHOWN = tuple(noun for noun in INSTRUMENTS if noun in VALIDATION.pictures)
"""Instruments with a photograph."""


@lru_cache(maxsize=2 * len(INSTRUMENTS))
def phrases(noun: str, split: str) -> Float32[np.ndarray, "n s"]:
    """An instrument's phrases of a split, 4 s each at 16 kHz, rendered once a process."""
    return play_split(noun, split, NUM_PHRASES)


@dataclass(frozen=True)
class Ensemble:
    """Instruments in one picture; `total` is what is heard, 4 s at 16 kHz, and each one's part."""

    names: list[str]
    scene: ComposedScene
    total: Sum


def draw_ensemble(
    num: int, rng: np.random.Generator, sounds: np.random.Generator, split: str = "test"
) -> Ensemble:
    """`num` different instruments with a photograph; picture by `rng`, phrases by `sounds`."""
    require(PACKAGES)
    names = [str(name) for name in rng.choice(SHOWN, num, replace=False)]
    scene = draw_scene(VALIDATION, names, rng)
    total = sum_at_levels(names, lambda name: draw_phrase(name, sounds, split), sounds)
    return Ensemble(names, scene, total)


def draw_phrase(name: str, rng: np.random.Generator, split: str = "test") -> np.ndarray:
    """A phrase that an instrument plays."""
    return phrases(name, split)[int(rng.integers(NUM_PHRASES))]


def write_ensembles(
    out: Path,
    num: int,
    seed: int,
    split: str = "test",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Duets and trios in turn: picture, mixture, and of each instrument its mask and its part.

    A stopped call goes on; returns the manifest.
    """

    def write(played: Ensemble, stem: str) -> dict[str, Any]:
        row: dict[str, Any] = {"objects": []}
        row["image"] = write_picture(out, f"images/{stem}.png", played.scene.image[..., ::-1])
        row["mixture_wav"] = write_sound(out, f"audio/{stem}_mixture.wav", played.total.mixture)
        for slot, name in enumerate(played.names):
            mask = played.scene.masks[slot].astype(np.uint8) * 255
            part = played.total.parts[slot]
            row["objects"].append(
                {
                    "class": name,
                    "mask": write_picture(out, f"masks/{stem}_{slot}.png", mask),
                    "wav": write_sound(out, f"audio/{stem}_{slot}.wav", part),
                }
            )
        return row

    def drawn(first: int) -> Iterator[Ensemble]:
        for index in range(first, num):
            rngs = (np.random.default_rng((seed, index, purpose)) for purpose in range(2))
            yield draw_ensemble(2 + index % 2, *rngs, split)

    return write_rows(out, num, seed, split, drawn, write, progress)


class EnsembleSamples(EverydaySamples):
    """Scenes of the validation part with instruments alone; one plays, another is named.

    Phrases, programs and keys are such as training hears, but none of its phrases.
    """

    def __init__(self, seed: int) -> None:
        super().__init__("validation", seed)
        pictures = {noun: VALIDATION.pictures[noun] for noun in SHOWN}
        self.part = replace(VALIDATION, pictures=pictures, recordings=pictures)

    def draw_sound(self, noun: str, rng: np.random.Generator) -> np.ndarray:
        return draw_phrase(noun, rng, "validation")
