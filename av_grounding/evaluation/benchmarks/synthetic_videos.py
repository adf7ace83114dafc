"""Synthetic videos with a mask or a class map for every second; see `synthetic.KINDS`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int

from av_grounding.evaluation.benchmark import GroundingSample, SemanticSample, Target
from av_grounding.evaluation.benchmarks.synthetic import (
    Drawn,
    DrawnClip,
    DrawnImage,
    Key,
)
from av_grounding.evaluation.benchmarks.synthetic_kinds import SCENE, SOUND, draw_classes
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene import Scene, instance_seed, render_scene, sample_scene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ, synthesize_sound

NUM_FRAMES = 5
TIMELINE_S = ((0.0, 3.0), (2.0, 5.0))
"""When each of the two sounding objects is heard; the third is silent."""
WHOLE_S = {"synthetic-s4": ((0.0, 5.0),), "synthetic-ms3": ((0.0, 5.0), (0.0, 5.0))}
"""The same where what sounds does so from the first frame to the last, as in AVSBench."""
DRIFT_PER_FRAME = 0.01
"""How far an object moves from one frame to the next, as a fraction of the picture."""


def segmentation(key: Key, index: int) -> Drawn:
    """A frame and the pixels of everything that sounds in its second."""
    names, scene, arrays = _frame(key, index)
    heard = _heard(key, index)
    mask = np.any([scene.masks[number] for number in heard], axis=0)
    target = Target(
        head="sound",
        class_name="+".join(names[number] for number in heard),
        load_mask=PackedMask.of(mask),
    )
    sample = GroundingSample(
        id=f"{key.name}-{key.seed}-{index:05d}",
        load_image=DrawnImage(key, index),
        load_clip=DrawnClip(key, index),
        targets=(target,),
        video_id=f"{key.name}-{key.seed}-{index // NUM_FRAMES:05d}",
        # Where all frames share their sound, none has a moment of its own.
        frame_s=None if key.name in WHOLE_S else index % NUM_FRAMES + 0.5,
    )
    return Drawn(sample, arrays)


def semantic(key: Key, index: int) -> Drawn:
    """A frame and the class of every pixel that sounds in its second."""
    names, scene, arrays = _frame(key, index)
    class_map = np.zeros(scene.image.shape[:2], np.uint8)
    for number in _heard(key, index):
        class_map[scene.masks[number]] = 1 + CLASSES.index(names[number])
    sample = SemanticSample(
        id=f"{key.name}-{key.seed}-{index:05d}",
        load_image=DrawnImage(key, index),
        load_clip=DrawnClip(key, index),
        load_class_map=DrawnClassMap(class_map.tobytes(), class_map.shape),
        video_id=f"{key.name}-{key.seed}-{index // NUM_FRAMES:05d}",
        frame_s=index % NUM_FRAMES + 0.5,
    )
    return Drawn(sample, arrays)


@dataclass(frozen=True)
class DrawnClassMap:
    """A class map at hand, a byte a pixel."""

    data: bytes
    shape: tuple[int, int]

    def __call__(self) -> Int[np.ndarray, "H W"]:
        return np.frombuffer(self.data, np.uint8).reshape(self.shape).astype(np.int32)


def _timeline_s(key: Key) -> tuple[tuple[float, float], ...]:
    return WHOLE_S.get(key.name, TIMELINE_S)


def _heard(key: Key, index: int) -> list[int]:
    centre_s, spans = index % NUM_FRAMES + 0.5, _timeline_s(key)
    return [number for number, (start, end) in enumerate(spans) if start <= centre_s < end]


def _frame(key: Key, index: int) -> tuple[list[str], Scene, dict[str, np.ndarray]]:
    """Class names and scene of a frame, the sounding objects first, and what is read of it."""
    video, number = divmod(index, NUM_FRAMES)
    names = draw_classes(key, video, 2 + video % 3 if key.name == "synthetic-s4" else 3)
    rng = key.rng(video, SCENE)
    spec = sample_scene(rng, names, key.split)
    angles = rng.uniform(0.0, 2.0 * np.pi, len(names))
    moved = tuple(
        replace(
            placed,
            center=tuple(
                float(np.clip(at + number * DRIFT_PER_FRAME * step, 0.1, 0.9))
                for at, step in zip(placed.center, (np.cos(angle), np.sin(angle)), strict=True)
            ),
        )
        for placed, angle in zip(spec.objects, angles, strict=True)
    )
    scene = render_scene(replace(spec, objects=moved), *key.samples.image_px)
    order = [placed.instance.class_name for placed in spec.objects]
    scene = replace(scene, masks=scene.masks[[order.index(name) for name in names]])
    return names, scene, {"image": scene.image, "clip": _soundtrack(key, video)}


@lru_cache(maxsize=4)
def _soundtrack(key: Key, video: int) -> Float32[np.ndarray, " s"]:
    rng = key.rng(video, SOUND)
    track = np.zeros(NUM_FRAMES * SAMPLE_RATE_HZ, np.float32)
    spans = _timeline_s(key)
    names = draw_classes(key, video, len(spans))
    for name, (start_s, end_s) in zip(names, spans, strict=True):
        clip = synthesize_sound(name, instance_seed(rng, key.split), end_s - start_s)
        start = round(start_s * SAMPLE_RATE_HZ)
        track[start : start + len(clip)] += clip
    return track / np.float32(max(1.0, float(np.abs(track).max())))
