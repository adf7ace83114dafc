"""Stages: scenes in which it can be seen who sounds, with silent look-alikes to mistake for it.

From one picture and one microphone nobody can tell two guitars apart, unless the one that plays
looks it: what sounds is drawn active (see `objects.draw_premultiplied`). A silent twin is of a
class that sounds and still. Some silent objects of other classes are active too: who ignored the
sound and looked for shaking alone would point at them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene import MAX_NUM_OBJECTS, SceneSpec, sample_scene

Role = Literal["sounding", "twin", "bystander"]
TWIN_SHARE, ACTIVE_BYSTANDER_SHARE = 0.6, 0.35
MAX_SOUNDING, MAX_BYSTANDERS = 3, 2


@dataclass(frozen=True)
class Actor:
    """One object of a stage: its class, why it is there, and how it is drawn."""

    class_name: str
    role: Role
    is_active: bool


@dataclass(frozen=True)
class Stage:
    """A scene and the role of each of its objects, in the scene's order."""

    scene: SceneSpec
    actors: tuple[Actor, ...]

    def slots(self, role: Role) -> list[int]:
        """Places in `actors`, as in a rendered scene's masks."""
        return [slot for slot, actor in enumerate(self.actors) if actor.role == role]


def draw_actors(rng: np.random.Generator) -> tuple[Actor, ...]:
    """1 to 3 sounding objects of different classes, often a twin of one, and bystanders.

    Bystanders are of classes that do not sound; never is there one object alone.
    """
    order = [CLASSES[number] for number in rng.permutation(len(CLASSES))]
    num_sounding = 1 + int(rng.choice(MAX_SOUNDING, p=(0.4, 0.35, 0.25)))
    actors = [Actor(name, "sounding", True) for name in order[:num_sounding]]
    if rng.random() < TWIN_SHARE:
        actors.append(Actor(order[0], "twin", False))
    num_bystanders = max(int(rng.integers(MAX_BYSTANDERS + 1)), 2 - len(actors))
    for name in order[num_sounding:][: min(num_bystanders, MAX_NUM_OBJECTS - len(actors))]:
        actors.append(Actor(name, "bystander", bool(rng.random() < ACTIVE_BYSTANDER_SHARE)))
    return tuple(actors)


def lookalikes(num_sounding: int, rng: np.random.Generator) -> tuple[Actor, ...]:
    """So many sounding objects, a silent twin of the first, and one active bystander."""
    if not 1 <= num_sounding <= MAX_NUM_OBJECTS - 2:
        raise ValueError(
            f"got {num_sounding} sounding objects, expected 1 to {MAX_NUM_OBJECTS - 2}: a twin "
            "and a bystander stand beside them"
        )
    order = [CLASSES[number] for number in rng.permutation(len(CLASSES))]
    return (
        *(Actor(name, "sounding", True) for name in order[:num_sounding]),
        Actor(order[0], "twin", False),
        Actor(order[num_sounding], "bystander", True),
    )


def draw_stage(
    rng: np.random.Generator,
    split: str,
    choose: Callable[[np.random.Generator], Sequence[Actor]] = draw_actors,
) -> Stage:
    """Actors, placed at random."""
    chosen = choose(rng)
    scene = sample_scene(
        rng,
        [actor.class_name for actor in chosen],
        split,
        active=[actor.is_active for actor in chosen],
    )
    # The scene has them in an order of its own; a class and a state name one of them, for a
    # twin differs from its original by its state.
    by_look = {(actor.class_name, actor.is_active): actor for actor in chosen}
    actors = tuple(
        by_look[placed.instance.class_name, placed.is_active] for placed in scene.objects
    )
    return Stage(scene, actors)
