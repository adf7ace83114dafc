"""Stages and the mixture heard there: samples of a world in which one sees who sounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from av_grounding.synthetic.scene import render_scene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.synthetic.stage import Stage, draw_stage


@dataclass(frozen=True)
class StageSample:
    """`masks` are those of `stage.actors`, `mixture` what its sounding ones make together,
    `absent` the sound of a class that is not shown; both (s,) at 16 kHz."""

    stage: Stage
    image: UInt8[np.ndarray, "H W 3"]
    masks: list[Bool[np.ndarray, "H W"]]
    mixture: Float32[np.ndarray, " s"]
    absent: Float32[np.ndarray, " s"]

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
        mixture = np.zeros(round(CLIP_S * SAMPLE_RATE_HZ), np.float32)
        for name in sounding:
            sound = world.draw_sound(name, rng)
            mixture += sound * np.float32(0.1 / max(active_rms(sound), 1e-6))
        scene = render_scene(stage.scene, IMAGE_PX, IMAGE_PX)
        yield StageSample(
            stage=stage,
            image=scene.image,
            masks=list(scene.masks),
            mixture=mixture / max(1.0, float(np.abs(mixture).max())),
            absent=world.draw_sound(other, rng),
        )


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
