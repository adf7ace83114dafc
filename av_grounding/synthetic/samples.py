"""Samples of the synthetic world: one image, one object that sounds, another that is named.

The structure is Extended IS3's (000 section 4.1): the sound of one object and speech naming
another are summed into a mixture. Everything is known: masks, classes, the word's time span.
Sample i of a split and seed is always the same, whichever others are made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from av_grounding.files import write_text
from av_grounding.synthetic.acoustics import (
    ACTIVE_LEVEL_DBFS,
    active_rms,
    add_noise,
    mix,
    reverberate,
)
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene import instance_seed, render_scene, sample_scene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ, synthesize_sound
from av_grounding.synthetic.speech import CARRIERS, VOICES, Speak, Utterance, synthesize_utterance

SPLITS = ("train", "val", "test")
IMAGE_PX = 224
CLIP_S = 3.2
LEVEL_RANGE_DB, PEAK = 3.0, 0.99
"""Of sounds that are summed: how far their levels differ, and where the sum is scaled down."""


@dataclass(frozen=True)
class Sample:
    """One sample. Waveforms are (s,) float32 at 16 kHz; masks mark visible pixels.

    `word_span_s` is when the noun is spoken in `speech` and `mixture`. `objects` lists class and
    xyxy pixel box of everything in the image.
    """

    image: UInt8[np.ndarray, "H W 3"]
    mask_sound: Bool[np.ndarray, "H W"]
    mask_speech: Bool[np.ndarray, "H W"]
    sound: Float32[np.ndarray, " s"]
    speech: Float32[np.ndarray, " s"]
    mixture: Float32[np.ndarray, " s"]
    sound_class: str
    speech_class: str
    text: str
    word_span_s: tuple[float, float]
    objects: tuple[dict, ...]


class SyntheticSamples:
    """Indexable samples of a split: `samples[i]`, and `absent(i)` for what must stay dark.

    `ratio_db` is the sound-to-speech level of the mixture; None draws it from [-5, 5] dB. `speak`
    says the same phrases with other voices than the split's own, which are espeak-ng's.
    """

    def __init__(
        self,
        split: str,
        seed: int,
        *,
        image_px: tuple[int, int] = (IMAGE_PX, IMAGE_PX),
        clip_s: float = CLIP_S,
        ratio_db: float | None = None,
        speak: Speak | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
        self.split, self.seed, self.image_px = split, seed, image_px
        self.num_samples_clip = round(clip_s * SAMPLE_RATE_HZ)
        self.ratio_db, self.speak = ratio_db, speak

    def rng(self, index: int, purpose: int = 0) -> np.random.Generator:
        return np.random.default_rng((self.seed, SPLITS.index(self.split), index, purpose))

    def __getitem__(self, index: int) -> Sample:
        rng = self.rng(index)
        names = draw_names(rng)
        sounding, named = names[:2]
        scene = render_scene(sample_scene(rng, names, self.split), *self.image_px)
        classes = [placed.instance.class_name for placed in scene.spec.objects]
        sound = self.draw_sound(sounding, rng)
        utterance, speech, span = self.draw_speech(named, rng)
        ratio_db = float(rng.uniform(-5.0, 5.0)) if self.ratio_db is None else self.ratio_db
        mixture, sound, speech = mix(sound, speech, ratio_db)
        mixture = add_noise(mixture, float(rng.uniform(20.0, 40.0)), int(rng.integers(2**31)))
        return Sample(
            image=scene.image,
            mask_sound=scene.masks[classes.index(sounding)],
            mask_speech=scene.masks[classes.index(named)],
            sound=sound,
            speech=speech,
            mixture=mixture,
            sound_class=sounding,
            speech_class=named,
            text=utterance.text,
            word_span_s=span,
            objects=tuple(
                {"class": name, "box": [round(float(v), 1) for v in box]}
                for name, box in zip(classes, scene.boxes, strict=True)
            ),
        )

    def absent(self, index: int) -> dict[str, np.ndarray]:
        """Waveforms for sample `index`'s image under which a head must stay dark.

        `silence` and `noise` for both heads, `sound` for a sound whose object is not in the
        image, `speech` for a noun whose object is not.
        """
        rng = self.rng(index, purpose=1)
        seen = draw_names(self.rng(index))
        others = [name for name in CLASSES if name not in seen]
        sound_class, speech_class = rng.permutation(others)[:2]
        silence = np.zeros(self.num_samples_clip, np.float32)
        hiss = rng.standard_normal(self.num_samples_clip).astype(np.float32)
        return {
            "silence": silence,
            "noise": hiss * np.float32(10 ** (-65 / 20)),
            "sound": self.draw_sound(str(sound_class), rng),
            "speech": self.draw_speech(str(speech_class), rng)[1],
        }

    def draw_sound(self, class_name: str, rng: np.random.Generator) -> np.ndarray:
        duration_s = self.num_samples_clip / SAMPLE_RATE_HZ
        sound = synthesize_sound(class_name, instance_seed(rng, self.split), duration_s)
        return reverberate(sound, int(rng.integers(2**31))) if rng.random() < 0.5 else sound

    def draw_speech(
        self, class_name: str, rng: np.random.Generator
    ) -> tuple[Utterance, np.ndarray, tuple[float, float]]:
        """An utterance laid into a clip at a random time, cut so that the noun is heard."""
        carrier, voices = CARRIERS[rng.integers(len(CARRIERS))], VOICES[self.split]
        voice, seed = voices[rng.integers(len(voices))], int(rng.integers(2**31))
        if self.speak is None:
            utterance = synthesize_utterance(class_name, carrier, voice, seed)
        else:
            utterance = self.speak(class_name, carrier, seed)
        clip, span = place(utterance, self.num_samples_clip, rng)
        if rng.random() < 0.5:
            clip = reverberate(clip, int(rng.integers(2**31)))
        return utterance, clip, span


def draw_names(rng: np.random.Generator) -> list[str]:
    """The 2 to 4 classes of a sample: the one that sounds, the one that is named, bystanders."""
    num_objects = int(rng.integers(2, 5))
    return [CLASSES[i] for i in rng.permutation(len(CLASSES))[:num_objects]]


def place(
    utterance: Utterance, num_samples: int, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float]]:
    """The utterance in a clip of `num_samples`, whole where it fits, else cut around its noun."""
    spare = num_samples - len(utterance.waveform)
    lowest, highest = min(spare, 0), max(spare, 0)
    if spare < 0:
        first, last = (round(t * SAMPLE_RATE_HZ) for t in utterance.word_span_s)
        lowest, highest = max(lowest, -first), min(highest, num_samples - last)
    shift = int(rng.integers(lowest, max(lowest, highest) + 1))
    clip = np.zeros(num_samples, np.float32)
    source = utterance.waveform[max(0, -shift) : max(0, -shift) + num_samples - max(0, shift)]
    clip[max(0, shift) : max(0, shift) + len(source)] = source
    shift_s = shift / SAMPLE_RATE_HZ
    return clip, (utterance.word_span_s[0] + shift_s, utterance.word_span_s[1] + shift_s)


def write_samples(
    out: Path,
    num: int,
    seed: int,
    split: str,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write images, masks, wavs and manifest.jsonl (one row a sample) into `out`.

    Rows are appended as samples are finished, so that an interrupted run leaves a valid set; a
    second run with the same arguments goes on behind the last complete row.
    """
    samples, out = SyntheticSamples(split, seed), Path(out)

    def write(sample: Sample, stem: str) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for key, pixels in (
            ("image", sample.image[..., ::-1]),
            ("mask_sound", sample.mask_sound.astype(np.uint8) * 255),
            ("mask_speech", sample.mask_speech.astype(np.uint8) * 255),
        ):
            folder = "images" if key == "image" else "masks"
            name = f"{folder}/{stem}{key.removeprefix('mask').removeprefix('image')}.png"
            row[key] = write_picture(out, name, pixels)
        for key in ("sound", "speech", "mixture"):
            name = f"audio/{stem}_{key}.wav"
            row[f"{key}_wav"] = write_sound(out, name, getattr(sample, key))
        return row | {
            "sound_class": sample.sound_class,
            "speech_class": sample.speech_class,
            "text": sample.text,
            "word_span_s": [round(t, 3) for t in sample.word_span_s],
            "objects": list(sample.objects),
        }

    def drawn(first: int) -> Iterator[Sample]:
        return (samples[index] for index in range(first, num))

    return write_rows(out, num, seed, split, drawn, write, progress)


def write_rows(
    out: Path,
    num: int,
    seed: int,
    split: str,
    draw: Callable[[int], Iterable[Any]],
    write: Callable[[Any, str], dict[str, Any]],
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """`out`/manifest.jsonl, a row a sample: split, seed, index and what `write` says.

    `draw(first)` gives the samples from number `first` on; `write` puts their files below images,
    masks and audio. Goes on behind the last complete row.
    """
    for folder in ("images", "masks", "audio"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    manifest = out / "manifest.jsonl"
    first = resume_manifest(manifest, split, seed)
    with open(manifest, "a", encoding="utf-8") as rows:
        for index, sample in enumerate(draw(first), first):
            row = {"split": split, "seed": seed, "index": index}
            rows.write(json.dumps(row | write(sample, f"{split}_{seed}_{index:06d}")) + "\n")
            rows.flush()
            if progress:
                progress(index + 1, num)
    return manifest


class Sum(NamedTuple):
    """A mixture and its parts as they stand in it: `mixture` is the sum of `parts`."""

    mixture: Float32[np.ndarray, " s"]
    parts: list[Float32[np.ndarray, " s"]]


def sum_at_levels(
    names: list[str], draw_sound: Callable[[str], np.ndarray], rng: np.random.Generator
) -> Sum:
    """One sound of each name, at levels within 3 dB, scaled down together where they clip."""
    parts = []
    for name in names:
        level_db = ACTIVE_LEVEL_DBFS + float(rng.uniform(-LEVEL_RANGE_DB, 0.0))
        sound = draw_sound(name)
        # A sound with sharp peaks is quieter than the others as it comes.
        parts.append(sound * np.float32(10 ** (level_db / 20) / active_rms(sound)))
    peak = float(np.abs(np.sum(parts, axis=0)).max())
    scale = np.float32(min(1.0, PEAK / peak))
    parts = [part * scale for part in parts]
    return Sum(np.sum(parts, axis=0), parts)


def write_picture(out: Path, name: str, pixels: UInt8[np.ndarray, "H W ..."]) -> str:
    """Write a BGR or grey picture to `out`/`name`; returns the name."""
    import cv2

    if not cv2.imwrite(str(out / name), pixels):
        raise OSError(f"could not write {out / name}: is the disk full?")
    return name


def write_sound(out: Path, name: str, waveform: Float32[np.ndarray, " s"]) -> str:
    """Write a wav of 16 bits at 16 kHz to `out`/`name`; returns the name."""
    from scipy.io import wavfile

    pcm = np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)
    wavfile.write(out / name, SAMPLE_RATE_HZ, pcm)
    return name


def resume_manifest(manifest: Path, split: str, seed: int) -> int:
    """Drop a torn last line; return how many samples are complete."""
    if not manifest.exists():
        return 0
    text = manifest.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1].splitlines(keepends=True)
    first = json.loads(complete[0]) if complete else {"split": split, "seed": seed}
    if (first["split"], first["seed"]) != (split, seed):
        raise ValueError(
            f"{manifest} holds split {first['split']!r} with seed {first['seed']}, not {split!r} "
            f"with seed {seed}: write into another directory"
        )
    write_text(manifest, "".join(complete))
    return len(complete)
