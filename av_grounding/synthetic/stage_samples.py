"""Stages and the mixture heard there: samples of a world in which one sees who sounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from av_grounding.synthetic.acoustics import active_rms
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.samples import (
    CLIP_S,
    IMAGE_PX,
    SyntheticSamples,
    write_picture,
    write_rows,
    write_sound,
)
from av_grounding.synthetic.scene import Scene, render_scene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.synthetic.stage import Stage, draw_stage


@dataclass(frozen=True)
class StageSample:
    """`masks` are those of `stage.actors`, `mixture` what its sounding ones make together,
    `absent` the sound of a class that is not shown; both (s,) at 16 kHz. The picture is drawn
    when it is looked at."""

    stage: Stage
    mixture: Float32[np.ndarray, " s"]
    absent: Float32[np.ndarray, " s"]

    @cached_property
    def _scene(self) -> Scene:
        return render_scene(self.stage.scene, IMAGE_PX, IMAGE_PX)

    @property
    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        return self._scene.image

    @property
    def masks(self) -> list[Bool[np.ndarray, "H W"]]:
        return list(self._scene.masks)

    @property
    def sounding(self) -> list[str]:
        """The classes that sound."""
        return [self.stage.actors[slot].class_name for slot in self.stage.slots("sounding")]


def stage_samples(num: int, seed: int, split: str, first: int = 0) -> Iterator[StageSample]:
    """Sample i, from `first` on, depends on the seed, the split and i alone."""
    world = SyntheticSamples(split, seed)
    for index in range(first, num):
        rng = world.rng(index, purpose=2)
        stage = draw_stage(rng, split)
        sounding = [stage.actors[slot].class_name for slot in stage.slots("sounding")]
        shown = {actor.class_name for actor in stage.actors}
        other = str(rng.permutation([name for name in CLASSES if name not in shown])[0])
        yield StageSample(
            stage=stage,
            mixture=mixed([world.draw_sound(name, rng) for name in sounding]),
            absent=world.draw_sound(other, rng),
        )


def mixed(sounds: Sequence[Float32[np.ndarray, " s"]]) -> Float32[np.ndarray, " s"]:
    """Clips of the world's length together, each as loud as the others."""
    mixture = np.zeros(round(CLIP_S * SAMPLE_RATE_HZ), np.float32)
    for sound in sounds:
        mixture += sound * np.float32(0.1 / max(active_rms(sound), 1e-6))
    return mixture / max(1.0, float(np.abs(mixture).max()))


def mixtures(num: int, seed: int, split: str) -> Iterator[tuple[Float32[np.ndarray, " s"], int]]:
    """What is heard on `num` stages that nobody sees, and how many sources that is.

    They share sounds, of which there are half as many: to synthesise one takes as long as to
    encode it.
    """
    world = SyntheticSamples(split, seed)
    rng, num_each = world.rng(0, purpose=4), math.ceil(num / 2 / len(CLASSES))
    sounds = {name: [world.draw_sound(name, rng) for _ in range(num_each)] for name in CLASSES}
    for index in range(num):
        rng = world.rng(index, purpose=5)
        stage = draw_stage(rng, split)
        names = [stage.actors[slot].class_name for slot in stage.slots("sounding")]
        yield mixed([sounds[name][int(rng.integers(num_each))] for name in names]), len(names)


def write_stages(
    out: Path,
    num: int,
    seed: int,
    split: str,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """`write_samples` for stages: a picture, its mixture, and a mask for each of its objects."""

    def write(sample: StageSample, stem: str) -> dict[str, Any]:
        row: dict[str, Any] = {"objects": []}
        row["image"] = write_picture(out, f"images/{stem}.png", sample.image[..., ::-1])
        row["mixture_wav"] = write_sound(out, f"audio/{stem}_mixture.wav", sample.mixture)
        for slot, actor in enumerate(sample.stage.actors):
            mask = sample.masks[slot].astype(np.uint8) * 255
            row["objects"].append(
                {
                    "class": actor.class_name,
                    "role": actor.role,
                    "is_active": actor.is_active,
                    "mask": write_picture(out, f"masks/{stem}_{slot}.png", mask),
                }
            )
        return row

    def drawn(first: int) -> Iterator[StageSample]:
        return stage_samples(num, seed, split, first)

    return write_rows(out, num, seed, split, drawn, write, progress)
