"""Ensembles: photographs of instruments in one picture, each with a phrase that it plays.

What is heard is sampled from real instruments and nothing of it trains: programs of the sound
font, keys and phrases are a test's own (see `playing`). Sample i of a seed is always the same,
whichever others are made.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

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
from av_grounding.synthetic.samples import (
    Sum,
    resume_manifest,
    sum_at_levels,
    write_picture,
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
    pictures = []
    for name in names:
        addresses = VALIDATION.pictures[name]
        pictures.append(cut_out(addresses[int(rng.integers(len(addresses)))]))
    number = int(rng.integers(num_places("validation")))
    background = place("validation", number, HEIGHT_PX, WIDTH_PX)
    scene = compose(background, arrange(pictures, rng))
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
    for folder in ("images", "masks", "audio"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    manifest = out / "manifest.jsonl"
    first = resume_manifest(manifest, split, seed)
    with open(manifest, "a", encoding="utf-8") as rows:
        for index in range(first, num):
            rngs = (np.random.default_rng((seed, index, purpose)) for purpose in range(2))
            drawn = draw_ensemble(2 + index % 2, *rngs, split)
            stem = f"{split}_{seed}_{index:06d}"
            row: dict = {"split": split, "seed": seed, "index": index, "objects": []}
            image = drawn.scene.image[..., ::-1]
            row["image"] = write_picture(out, f"images/{stem}.png", image)
            row["mixture_wav"] = write_sound(out, f"audio/{stem}_mixture.wav", drawn.total.mixture)
            for slot, name in enumerate(drawn.names):
                mask = drawn.scene.masks[slot].astype(np.uint8) * 255
                part = drawn.total.parts[slot]
                row["objects"].append(
                    {
                        "class": name,
                        "mask": write_picture(out, f"masks/{stem}_{slot}.png", mask),
                        "wav": write_sound(out, f"audio/{stem}_{slot}.wav", part),
                    }
                )
            rows.write(json.dumps(row) + "\n")
            rows.flush()
            if progress:
                progress(index + 1, num)
    return manifest


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
