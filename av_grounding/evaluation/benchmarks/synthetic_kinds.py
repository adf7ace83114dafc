"""What one sample of each synthetic grounding benchmark is; see `synthetic_list.KINDS`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from av_grounding.evaluation.benchmark import HEADS, GroundingSample, Head, Presence, Target
from av_grounding.evaluation.benchmarks.synthetic import (
    Drawn,
    DrawnClip,
    DrawnImage,
    Key,
    SceneByClass,
    absent_of,
    sample_of,
    view,
)
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.synthetic.acoustics import mix
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.samples import Sample, Sum, draw_names, sum_at_levels
from av_grounding.synthetic.scene import render_scene
from av_grounding.synthetic.stage import draw_stage, lookalikes

RATIO_RANGE_DB = 5.0
HISS_DBFS = -65.0
DARK = ("mixture", "silence", "noise", *HEADS)
"""What is heard with each scene: its own mixture, and the cases of `SyntheticSamples.absent`."""
# Purposes of random numbers (see `Key.rng`).
SCENE, SOUND, MIXING = 0, 1, 2


def simultaneous(key: Key, index: int) -> Drawn:
    """The sound of one object, speech naming another."""
    sample = sample_of(key, index)
    targets = tuple(target_of(sample, head) for head in HEADS)
    return grounding(key, index, sample.image, sample.mixture, targets, text=sample.text)


def clean(key: Key, index: int) -> Drawn:
    """Even samples are sounds, odd ones speech, of one scene each two."""
    sample, head = sample_of(key, index // 2), HEADS[index % 2]
    text = sample.text if head == "speech" else ""
    clip = getattr(sample, head)
    return grounding(key, index, sample.image, clip, (target_of(sample, head),), text=text)


def mixed(key: Key, index: int) -> Drawn:
    """`clean` with a clip of the other type about something that is not in the picture."""
    sample, head = sample_of(key, index // 2), HEADS[index % 2]
    other = HEADS[1 - index % 2]
    intruder = absent_of(key, index // 2)[other]
    ratio_db = float(key.rng(index, MIXING).uniform(-RATIO_RANGE_DB, RATIO_RANGE_DB))
    mixture = mix(getattr(sample, head), intruder, ratio_db).mixture
    text = sample.text if head == "speech" else ""
    return grounding(key, index, sample.image, mixture, (target_of(sample, head),), text=text)


def dark(key: Key, index: int) -> Drawn:
    """A scene's own mixture, then what no head may answer with: see `DARK`."""
    sample, case = sample_of(key, index // len(DARK)), DARK[index % len(DARK)]
    if case == "mixture":
        return grounding(key, index, sample.image, sample.mixture, (target_of(sample, "sound"),))
    empty = PackedMask.of(np.zeros(sample.image.shape[:2], bool))
    heads: tuple[Head, ...] = (case,) if case in HEADS else HEADS
    return grounding(
        key, index, sample.image, absent_of(key, index // len(DARK))[case],
        tuple(Target(head=head, class_name=case, load_mask=empty) for head in heads),
        presence="off_screen" if case in HEADS else "silent",
        group=f"absent_{case}" if case in HEADS else case,
    )  # fmt: skip


def solo(key: Key, index: int) -> Drawn:
    """One object sounds, up to two others are silent."""
    names, scene = _solo_scene(key, index)
    clip = key.samples.draw_sound(names[0], key.rng(index, SOUND))
    return grounding(key, index, scene.image, clip, (scene.target("sound", names[0]),))


def silent(key: Key, index: int) -> Drawn:
    """Even samples are those of `solo`; odd ones show the same picture and are silent."""
    names, scene = _solo_scene(key, index // 2)
    if index % 2 == 0:
        clip = key.samples.draw_sound(names[0], key.rng(index // 2, SOUND))
        return grounding(key, index, scene.image, clip, (scene.target("sound", names[0]),))
    hiss = key.rng(index, SOUND).standard_normal(key.samples.num_samples_clip, np.float32)
    clip = hiss * np.float32(10 ** (HISS_DBFS / 20))
    targets = (scene.nothing("sound", names[0]),)
    return grounding(key, index, scene.image, clip, targets, presence="silent")


def offscreen(key: Key, index: int) -> Drawn:
    """Even samples are those of `solo`; odd ones are heard with a sound from elsewhere."""
    names, scene = _solo_scene(key, index // 2)
    rng = key.rng(index // 2, SOUND)
    if index % 2 == 0:
        clip = key.samples.draw_sound(names[0], rng)
        return grounding(key, index, scene.image, clip, (scene.target("sound", names[0]),))
    elsewhere = str(rng.permutation([name for name in CLASSES if name not in names])[0])
    clip = key.samples.draw_sound(elsewhere, rng)
    targets = (scene.nothing("sound", elsewhere),)
    return grounding(key, index, scene.image, clip, targets, presence="off_screen")


def duet(key: Key, index: int) -> Drawn:
    """Two sounding objects and a silent one."""
    return _several(key, index, 2)


def trio(key: Key, index: int) -> Drawn:
    """Three sounding objects and a silent one."""
    return _several(key, index, 3)


def lookalike(key: Key, index: int) -> Drawn:
    """One object sounds and looks it; its twin is silent and does not."""
    return _lookalikes(key, index, 1)


def lookalike_duet(key: Key, index: int) -> Drawn:
    """Two objects sound; the twin of the first is silent."""
    return _lookalikes(key, index, 2)


def interactive(key: Key, index: int) -> Drawn:
    """Two samples a picture: its first object sounds, then its second."""
    names = draw_classes(key, index // 2, 2)
    scene = view(key, key.rng(index // 2, SCENE), names)
    name = names[index % 2]
    clip = key.samples.draw_sound(name, key.rng(index, SOUND))
    group = f"{key.name}-{index // 2}"
    return grounding(key, index, scene.image, clip, (scene.target("sound", name),), group=group)


def target_of(sample: Sample, head: Head) -> Target:
    """What a head should find in a sample of the world."""
    name = getattr(sample, f"{head}_class")
    height, width = sample.image.shape[:2]
    box = next(entry["box"] for entry in sample.objects if entry["class"] == name)
    left, top, right, bottom = box
    return Target(
        head=head,
        class_name=name,
        load_mask=PackedMask.of(getattr(sample, f"mask_{head}")),
        boxes=((left / width, top / height, right / width, bottom / height),),
        word_span_s=sample.word_span_s if head == "speech" else None,
    )


def _solo_scene(key: Key, index: int) -> tuple[list[str], SceneByClass]:
    # The names of SyntheticSamples, so that `absent` knows what is in the picture.
    names = draw_names(key.samples.rng(index))[:3]
    return names, view(key, key.rng(index, SCENE), names)


def _several(key: Key, index: int, num_sources: int) -> Drawn:
    names = draw_classes(key, index, num_sources + 1)
    scene = view(key, key.rng(index, SCENE), names)
    total = sum_sounds(key, index, names[:num_sources])
    targets = tuple(scene.target("sound", name) for name in names[:num_sources])
    return grounding(key, index, scene.image, total.mixture, targets)


def _lookalikes(key: Key, index: int, num_sources: int) -> Drawn:
    stage = draw_stage(key.rng(index, SCENE), key.split, lambda rng: lookalikes(num_sources, rng))
    height, width = key.samples.image_px
    scene = render_scene(stage.scene, height, width)
    sounding, (twin,) = stage.slots("sounding"), stage.slots("twin")
    size = np.array([width, height, width, height])
    names = [stage.actors[slot].class_name for slot in sounding]
    total = sum_sounds(key, index, names)
    targets = tuple(
        Target(
            head="sound",
            class_name=name,
            load_mask=PackedMask.of(scene.masks[slot]),
            boxes=(tuple((scene.boxes[slot] / size).tolist()),),
        )
        for slot, name in zip(sounding, names, strict=True)
    )
    drawn = grounding(key, index, scene.image, total.mixture, targets)
    sample = replace(drawn.sample, load_twin=PackedMask.of(scene.masks[twin]))
    return replace(drawn, sample=sample)


def draw_classes(key: Key, index: int, num: int) -> list[str]:
    """Different classes for a sample, in random order."""
    order = key.rng(index, MIXING).permutation(len(CLASSES))
    return [CLASSES[number] for number in order[:num]]


def sum_sounds(key: Key, index: int, names: list[str]) -> Sum:
    """The sounds of these classes."""
    rng = key.rng(index, SOUND)
    return sum_at_levels(names, lambda name: key.samples.draw_sound(name, rng), rng)


def grounding(
    key: Key,
    index: int,
    image: np.ndarray,
    clip: np.ndarray,
    targets: tuple[Target, ...],
    *,
    presence: Presence = "sounding",
    text: str = "",
    group: str = "",
) -> Drawn:
    """A grounding sample with its picture and its clip."""
    sample = GroundingSample(
        id=f"{key.name}-{key.seed}-{index:05d}",
        load_image=DrawnImage(key, index),
        load_clip=DrawnClip(key, index),
        targets=targets,
        presence=presence,
        text=text,
        group=group,
    )
    return Drawn(sample, {"image": image, "clip": clip})
