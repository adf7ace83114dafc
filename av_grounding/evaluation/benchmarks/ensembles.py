"""Duets and trios of sampled instruments; see `synthetic_list.KINDS`."""

from __future__ import annotations

from av_grounding.evaluation.benchmarks.synthetic import Drawn, Key
from av_grounding.evaluation.benchmarks.synthetic_kinds import SCENE, SOUND
from av_grounding.evaluation.benchmarks.synthetic_pairs import in_one_picture
from av_grounding.everyday.ensemble import draw_ensemble


def duet(key: Key, index: int) -> Drawn:
    """Two instruments that play at once, and one picture of both."""
    return _ensemble(key, index, 2)


def trio(key: Key, index: int) -> Drawn:
    """The same with three."""
    return _ensemble(key, index, 3)


def _ensemble(key: Key, index: int, num: int) -> Drawn:
    drawn = draw_ensemble(num, key.rng(index, SCENE), key.rng(index, SOUND))
    masks = list(drawn.scene.masks)
    return in_one_picture(key, index, drawn.names, drawn.total, drawn.scene.image, masks)
