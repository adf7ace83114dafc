"""Synthetic retrieval, disentanglement, recognition and separation; see `synthetic.KINDS`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from av_grounding.evaluation.benchmark import (
    HEADS,
    Head,
    PairSample,
    SeparationSample,
    SeparationSource,
)
from av_grounding.evaluation.benchmarks.synthetic import (
    Drawn,
    DrawnClip,
    DrawnImage,
    Key,
    sample_of,
    view,
)
from av_grounding.evaluation.benchmarks.synthetic_kinds import (
    MIXING,
    RATIO_RANGE_DB,
    SCENE,
    SOUND,
    draw_classes,
    sum_sounds,
)
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.synthetic.acoustics import mix
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.samples import Sum

WHOLE_GALLERY = 0


def retrieval(key: Key, index: int) -> Drawn:
    """A picture of two objects; one sounds and the other is named. No pair of classes twice."""
    pairs = list(combinations(CLASSES, 2))
    pair = pairs[key.rng(WHOLE_GALLERY, MIXING).permutation(len(pairs))[index]]
    rng = key.rng(index, SOUND)
    sounding, named = (str(name) for name in rng.permutation(pair))
    scene = view(key, key.rng(index, SCENE), [sounding, named])
    sound = key.samples.draw_sound(sounding, rng)
    utterance, speech, _ = key.samples.draw_speech(named, rng)
    ratio_db = float(rng.uniform(-RATIO_RANGE_DB, RATIO_RANGE_DB))
    return _pair(
        key,
        index,
        scene.image,
        mix(sound, speech, ratio_db).mixture,
        # Either head knows half of the clip, so each is asked for half of the gallery.
        head=HEADS[index % 2],
        class_name="+".join(sorted(pair)),
        text=utterance.text,
    )


def disentanglement(key: Key, index: int) -> Drawn:
    """Even samples are sounds, odd ones speech, of one scene each two."""
    sample, head = sample_of(key, index // 2), HEADS[index % 2]
    return _pair(
        key,
        index,
        sample.image,
        getattr(sample, head),
        head=head,
        class_name=getattr(sample, f"{head}_class"),
        text=sample.text if head == "speech" else "",
    )


def recognition(key: Key, index: int) -> Drawn:
    """One object and its sound; every class comes up equally often."""
    order = key.rng(index // len(CLASSES), MIXING).permutation(len(CLASSES))
    name = CLASSES[order[index % len(CLASSES)]]
    scene = view(key, key.rng(index, SCENE), [name])
    clip = key.samples.draw_sound(name, key.rng(index, SOUND))
    return _pair(key, index, scene.image, clip, head="sound", class_name=name)


def separation(key: Key, index: int) -> Drawn:
    """The sum of two sounds, and a picture of each source alone."""
    names = draw_classes(key, index, 2)
    total = sum_sounds(key, index, names)
    rng = key.rng(index, SCENE)
    arrays = {"mixture": total.mixture}
    sources = []
    for number, (name, clip) in enumerate(zip(names, total.parts, strict=True)):
        arrays[f"image{number}"] = view(key, rng, [name]).image
        arrays[f"clip{number}"] = clip
        sources.append(
            SeparationSource(
                class_name=name,
                load_image=DrawnImage(key, index, f"image{number}"),
                load_clip=DrawnClip(key, index, f"clip{number}"),
            )
        )
    sample = SeparationSample(
        id=f"{key.name}-{key.seed}-{index:05d}",
        load_mixture=DrawnClip(key, index, "mixture"),
        sources=tuple(sources),
    )
    return Drawn(sample, arrays)


def duet_separation(key: Key, index: int) -> Drawn:
    """The sum of two sounds and one picture of both sources, each marked by its outline."""
    names = draw_classes(key, index, 2)
    scene = view(key, key.rng(index, SCENE), names)
    masks = [scene.masks[name] for name in names]
    return in_one_picture(key, index, names, sum_sounds(key, index, names), scene.image, masks)


def in_one_picture(
    key: Key,
    index: int,
    names: Sequence[str],
    total: Sum,
    image: np.ndarray,
    masks: Sequence[np.ndarray],
) -> Drawn:
    """A mixture of which each source is marked by its mask in the one picture of all."""
    arrays = {"mixture": total.mixture, "image": image}
    sources = []
    for number, (name, clip, mask) in enumerate(zip(names, total.parts, masks, strict=True)):
        arrays[f"clip{number}"] = clip
        sources.append(
            SeparationSource(
                class_name=name,
                load_image=DrawnImage(key, index),
                load_clip=DrawnClip(key, index, f"clip{number}"),
                load_mask=PackedMask.of(mask),
            )
        )
    sample = SeparationSample(
        id=f"{key.name}-{key.seed}-{index:05d}",
        load_mixture=DrawnClip(key, index, "mixture"),
        sources=tuple(sources),
    )
    return Drawn(sample, arrays)


def _pair(
    key: Key,
    index: int,
    image: np.ndarray,
    clip: np.ndarray,
    *,
    head: Head,
    class_name: str,
    text: str = "",
) -> Drawn:
    sample = PairSample(
        id=f"{key.name}-{key.seed}-{index:05d}",
        load_image=DrawnImage(key, index),
        load_clip=DrawnClip(key, index),
        head=head,
        class_name=class_name,
        text=text,
    )
    return Drawn(sample, {"image": image, "clip": clip})
