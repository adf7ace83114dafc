"""Duets and trios of sampled instruments; see `synthetic_list.KINDS`."""

from __future__ import annotations

from av_grounding.evaluation.benchmarks.synthetic import Drawn, Key
from av_grounding.evaluation.benchmarks.synthetic_kinds import SCENE, SOUND, sum_at_levels
from av_grounding.evaluation.benchmarks.synthetic_pairs import in_one_picture
from av_grounding.everyday import ensemble


def duet(key: Key, index: int) -> Drawn:
    """Two instruments that play at once, and one picture of both."""
    return _ensemble(key, index, 2)


def trio(key: Key, index: int) -> Drawn:
    """The same with three."""
    return _ensemble(key, index, 3)


def _ensemble(key: Key, index: int, num: int) -> Drawn:
    rng, sounds = key.rng(index, SCENE), key.rng(index, SOUND)
    names = ensemble.draw_names(rng, num)
    scene = ensemble.draw_scene(names, rng)
    total = sum_at_levels(names, lambda name: ensemble.draw_phrase(name, sounds), sounds)
    return in_one_picture(key, index, names, total, scene.image, list(scene.masks))
