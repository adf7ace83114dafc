"""Samples of the everyday world: one thing sounds, another is named, a third stands by.

As in the synthetic world, sample i of a part and seed is always the same, whichever others are
made, and everything about it is known; photographs, recordings and voices are real.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from av_grounding.everyday.packages import require
from av_grounding.everyday.parts import PACKAGES, Part, part
from av_grounding.everyday.places import num_places, place
from av_grounding.everyday.scene import HEIGHT_PX, WIDTH_PX, ComposedScene, arrange, compose
from av_grounding.everyday.spoken import say
from av_grounding.everyday.things import cut_out, recording
from av_grounding.synthetic.acoustics import SAMPLE_RATE_HZ, add_noise, mix, reverberate
from av_grounding.synthetic.samples import Sample

CLIP_S = 4.0
MAX_RATIO_DB = 5.0
NOISE_DB = (20.0, 40.0)
HISS_DBFS = -65.0
PAUSE_S = (0.2, 0.8)
"""Between repetitions of a recording that is shorter than the clip, as animals call."""
NUM_THINGS = 3


class EverydaySamples:
    """Indexable samples of a part: `samples[i]`, and `absent(i)` for what must stay dark.

    `ratio_db` is the sound-to-speech level of the mixture; None draws it from [-5, 5] dB. Raises
    FileNotFoundError with the line that installs what is missing.
    """

    image_px = (HEIGHT_PX, WIDTH_PX)
    num_samples_clip = round(CLIP_S * SAMPLE_RATE_HZ)

    def __init__(self, split: str, seed: int, *, ratio_db: float | None = None) -> None:
        self.part, self.seed, self.ratio_db = part(split), seed, ratio_db
        require(PACKAGES)

    def rng(self, index: int, purpose: int = 0) -> np.random.Generator:
        is_test = self.part.name == "test"
        return np.random.default_rng((self.seed, 0xE7 + is_test, index, purpose))

    def __getitem__(self, index: int) -> Sample:
        rng = self.rng(index)
        names = self.draw_names(rng)
        sounding, named = names[:2]
        scene = draw_scene(self.part, names, rng)
        sound = self.draw_sound(sounding, rng)
        speech, span = self.draw_speech(named, rng)
        drawn_db = float(rng.uniform(-MAX_RATIO_DB, MAX_RATIO_DB))
        ratio_db = drawn_db if self.ratio_db is None else self.ratio_db
        mixture, sound, speech = mix(sound, speech, ratio_db)
        mixture = add_noise(mixture, float(rng.uniform(*NOISE_DB)), int(rng.integers(2**31)))
        return Sample(
            image=scene.image,
            mask_sound=scene.masks[0],
            mask_speech=scene.masks[1],
            sound=sound,
            speech=speech,
            mixture=mixture,
            sound_class=sounding,
            speech_class=named,
            text=named,
            word_span_s=span,
            objects=tuple(
                {"class": name, "box": list(box)}
                for name, box in zip(names, scene.boxes, strict=True)
            ),
        )

    def absent(self, index: int) -> dict[str, np.ndarray]:
        """Waveforms for sample `index`'s image under which a head must stay dark.

        `silence` and `noise` for both heads, `sound` for the recording of a thing that is not in
        the picture, `speech` for its name.
        """
        rng = self.rng(index, purpose=1)
        seen = self.draw_names(self.rng(index))
        heard = [noun for noun in self.part.sounding if noun not in seen]
        said = [noun for noun in self.part.named if noun not in seen]
        hiss = rng.standard_normal(self.num_samples_clip).astype(np.float32)
        return {
            "silence": np.zeros(self.num_samples_clip, np.float32),
            "noise": hiss * np.float32(10 ** (HISS_DBFS / 20)),
            "sound": self.draw_sound(heard[int(rng.integers(len(heard)))], rng),
            "speech": self.draw_speech(said[int(rng.integers(len(said)))], rng)[0],
        }

    def draw_names(self, rng: np.random.Generator) -> list[str]:
        """Three nouns: the one that sounds, the one that is named, the one that stands by."""
        names: list[str] = []
        for nouns in (self.part.sounding, self.part.named, tuple(sorted(self.part.pictures))):
            left = [noun for noun in nouns if noun not in names]
            names.append(left[int(rng.integers(len(left)))])
        return names

    def draw_sound(self, noun: str, rng: np.random.Generator) -> np.ndarray:
        """A recording of a thing that fills a clip, in a room or in the open."""
        heard = recording(_one(self.part.recordings[noun], rng))
        clip = filled(heard, self.num_samples_clip, rng)
        return reverberate(clip, int(rng.integers(2**31))) if rng.random() < 0.5 else clip

    def draw_speech(
        self, noun: str, rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[float, float]]:
        """A spoken noun, laid into a clip at a random time, and when it is spoken."""
        said = say(self.part, noun, rng)[: self.num_samples_clip]
        start = int(rng.integers(self.num_samples_clip - len(said) + 1))
        clip = np.zeros(self.num_samples_clip, np.float32)
        clip[start : start + len(said)] = said
        if rng.random() < 0.5:
            clip = reverberate(clip, int(rng.integers(2**31)))
        return clip, (start / SAMPLE_RATE_HZ, (start + len(said)) / SAMPLE_RATE_HZ)


def draw_scene(part: Part, names: Sequence[str], rng: np.random.Generator) -> ComposedScene:
    """A part's photographs of these things, in this order, in one of its places."""
    pictures = [cut_out(_one(part.pictures[name], rng)) for name in names]
    number = int(rng.integers(num_places(part.name)))
    return compose(place(part.name, number, HEIGHT_PX, WIDTH_PX), arrange(pictures, rng))


def filled(
    heard: Float32[np.ndarray, " s"], size: int, rng: np.random.Generator
) -> Float32[np.ndarray, " size"]:
    """A stretch of a long recording; a short one again and again with pauses."""
    if len(heard) >= size:
        start = int(rng.integers(len(heard) - size + 1))
        return heard[start : start + size].copy()
    clip = np.zeros(size, np.float32)
    start = int(rng.uniform(0, PAUSE_S[1]) * SAMPLE_RATE_HZ)
    while start < size:
        once = heard[: size - start]
        clip[start : start + len(once)] = once
        start += len(heard) + int(rng.uniform(*PAUSE_S) * SAMPLE_RATE_HZ)
    return clip


def _one(addresses: tuple[str, ...], rng: np.random.Generator) -> str:
    return addresses[int(rng.integers(len(addresses)))]
