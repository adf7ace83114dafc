"""Ensembles: photographs of instruments in one picture, each with a phrase that it plays.

What is heard is sampled from real instruments and nothing of it trains: programs of the sound
font, keys and phrases are a test's own (see `playing`). Sample i of a seed is always the same,
whichever others are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from av_grounding.everyday.music import INSTRUMENTS
from av_grounding.everyday.packages import require
from av_grounding.everyday.parts import PACKAGES, VALIDATION
from av_grounding.everyday.places import num_places, place
from av_grounding.everyday.playing import play_split
from av_grounding.everyday.samples import EverydaySamples
from av_grounding.everyday.scene import HEIGHT_PX, WIDTH_PX, ComposedScene, arrange, compose
from av_grounding.everyday.things import cut_out

NUM_PHRASES = 40
"""Of each instrument."""
SHOWN = tuple(noun for noun in INSTRUMENTS if noun in VALIDATION.pictures)
"""Instruments with a photograph."""


@lru_cache(maxsize=2 * len(INSTRUMENTS))
def phrases(noun: str, split: str) -> Float32[np.ndarray, "n s"]:
    """An instrument's phrases of a split, 4 s each at 16 kHz, rendered once a process."""
    return play_split(noun, split, NUM_PHRASES)


def draw_names(rng: np.random.Generator, num: int) -> list[str]:
    """`num` different instruments with a photograph."""
    return [str(name) for name in rng.choice(SHOWN, num, replace=False)]


def draw_scene(names: Sequence[str], rng: np.random.Generator) -> ComposedScene:
    """A picture of these instruments, in this order, 480 x 640 pixels."""
    require(PACKAGES)
    pictures = []
    for name in names:
        addresses = VALIDATION.pictures[name]
        pictures.append(cut_out(addresses[int(rng.integers(len(addresses)))]))
    number = int(rng.integers(num_places("validation")))
    background = place("validation", number, HEIGHT_PX, WIDTH_PX)
    return compose(background, arrange(pictures, rng))


def draw_phrase(name: str, rng: np.random.Generator, split: str = "test") -> np.ndarray:
    """A phrase that an instrument plays."""
    return phrases(name, split)[int(rng.integers(NUM_PHRASES))]


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
