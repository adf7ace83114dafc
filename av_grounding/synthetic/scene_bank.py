"""A bank of rendered scenes on disk, so that training draws images without drawing them again.

Scenes come in groups: the scenes of one group hold every class exactly once, and each scene is
rendered twice with the same individuals in other places, poses, light and surroundings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from av_grounding.files import write_json
from av_grounding.synthetic.bank_arrays import draw_arrays
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene import SceneSpec, render_scene, sample_scene

CELL_PX = 4
MIN_OBJECTS, MAX_OBJECTS = 2, 4


@dataclass(frozen=True)
class SceneBankSpec:
    """What a bank holds; a directory made with the same values is reused."""

    split: str
    num_groups: int
    size_px: int = 160
    seed: int = 0
    num_scenes_per_group: int = 6

    def __post_init__(self) -> None:
        fewest, most = math.ceil(len(CLASSES) / MAX_OBJECTS), len(CLASSES) // MIN_OBJECTS
        if not fewest <= self.num_scenes_per_group <= most:
            raise ValueError(
                f"num_scenes_per_group is {self.num_scenes_per_group}; expected {fewest} to {most}"
                f": a scene holds {MIN_OBJECTS} to {MAX_OBJECTS} of the {len(CLASSES)} classes"
            )


class SceneBank:
    """images (n,2,S,S,3) uint8, index (n,2,S/4,S/4) uint8, classes (n,4) int8 with -1 for none.

    `index` is 0 on the background, else 1 + the class of the object seen at the cell's centre,
    which within a group names one individual.
    """

    def __init__(self, directory: Path) -> None:
        self.spec = SceneBankSpec(**json.loads((directory / "bank.json").read_text()))
        # In memory, not mapped: training draws at random, which would read single pages.
        self.images = np.load(directory / "images.npy")
        self.index = np.load(directory / "index.npy")
        self.classes = np.load(directory / "classes.npy")

    @classmethod
    def build(
        cls,
        directory: Path,
        spec: SceneBankSpec,
        *,
        workers: int = 2,
        progress: Callable[[int, int], None] | None = None,
    ) -> SceneBank:
        """Render the bank unless `directory` already holds it; `progress(done, total)`."""
        done = directory / "bank.json"
        if done.exists() and json.loads(done.read_text()) == asdict(spec):
            return cls(directory)
        directory.mkdir(parents=True, exist_ok=True)
        done.unlink(missing_ok=True)
        num = spec.num_groups * spec.num_scenes_per_group
        size, grid = spec.size_px, spec.size_px // CELL_PX
        arrays = {
            "images": (np.uint8, (num, 2, size, size, 3)),
            "index": (np.uint8, (num, 2, grid, grid)),
            "classes": (np.int8, (num, MAX_OBJECTS)),
        }
        groups = range(spec.num_groups)
        for num_done in draw_arrays(
            directory, arrays, render_group, spec, groups, workers=workers
        ):
            if progress:
                progress(num_done // spec.num_scenes_per_group, spec.num_groups)
        write_json(done, asdict(spec))
        return cls(directory)


def render_group(spec: SceneBankSpec, group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All scenes of one group, both views."""
    rng = np.random.default_rng((spec.seed, group))
    order = rng.permutation(len(CLASSES))
    images, index, classes = [], [], []
    for members in split_evenly(order, spec.num_scenes_per_group, rng):
        names = [CLASSES[i] for i in members]
        first = sample_scene(rng, names, spec.split)
        second = with_individuals(sample_scene(rng, names, spec.split), first)
        views = [render_view(view, spec.size_px, rng) for view in (first, second)]
        images.append([image for image, _ in views])
        index.append([cells for _, cells in views])
        classes.append([*members, *[-1] * (MAX_OBJECTS - len(members))])
    return np.array(images), np.array(index), np.array(classes, np.int8)


def split_evenly(order: np.ndarray, parts: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Cut `order` into parts of 2 to 4 members at random."""
    sizes = np.full(parts, len(order) // parts)
    sizes[: len(order) % parts] += 1
    for _ in range(parts):
        giver, taker = rng.integers(parts, size=2)
        if sizes[giver] > MIN_OBJECTS and sizes[taker] < MAX_OBJECTS:
            sizes[giver] -= 1
            sizes[taker] += 1
    return np.split(order, np.cumsum(sizes)[:-1])


def with_individuals(scene: SceneSpec, source: SceneSpec) -> SceneSpec:
    """`scene` with the individuals of `source`, class by class."""
    instances = {placed.instance.class_name: placed.instance for placed in source.objects}
    objects = tuple(
        replace(placed, instance=instances[placed.instance.class_name]) for placed in scene.objects
    )
    return replace(scene, objects=objects)


def render_view(
    scene: SceneSpec, size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The image at `size_px`, drawn at one of several sizes and resized as a camera's would be."""
    import cv2

    drawn_px = int(rng.choice([size_px, size_px * 5 // 4, size_px * 7 // 4]))
    rendered = render_scene(scene, drawn_px, drawn_px)
    image = rendered.image
    if drawn_px != size_px:
        image = cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)
    centres = ((np.arange(size_px // CELL_PX) + 0.5) * CELL_PX * drawn_px / size_px).astype(int)
    index = np.zeros((len(centres), len(centres)), np.uint8)
    for placed, mask in zip(rendered.spec.objects, rendered.masks, strict=True):
        index[mask[np.ix_(centres, centres)]] = 1 + CLASSES.index(placed.instance.class_name)
    return image, index
