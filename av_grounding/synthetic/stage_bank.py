"""A bank of rendered stages on disk, so that training does not draw pictures again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from av_grounding.files import write_json
from av_grounding.synthetic.bank_arrays import draw_arrays
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene import MAX_NUM_OBJECTS
from av_grounding.synthetic.scene_bank import render_view
from av_grounding.synthetic.stage import draw_stage

ROLES = ("sounding", "twin", "bystander")
CHUNK = 50


@dataclass(frozen=True)
class StageBankSpec:
    """What a bank holds; a directory made with the same values is reused."""

    split: str
    num_stages: int
    size_px: int = 160
    seed: int = 0
    kind: str = "stages"

    def __post_init__(self) -> None:
        if self.num_stages < 1:
            raise ValueError(f"num_stages is {self.num_stages}; expected 1 or more")


class StageBank:
    """images (n,S,S,3) uint8; classes (n,4) int8, roles (n,4) int8 and active (n,4) bool.

    `classes` and `roles` number `CLASSES` and `ROLES`, -1 where a stage has fewer objects.
    """

    def __init__(self, directory: Path) -> None:
        self.spec = StageBankSpec(**json.loads((directory / "bank.json").read_text()))
        # In memory, not mapped: training draws at random, which would read single pages.
        self.images = np.load(directory / "images.npy")
        self.classes = np.load(directory / "classes.npy")
        self.roles = np.load(directory / "roles.npy")
        self.active = np.load(directory / "active.npy")

    @classmethod
    def build(
        cls,
        directory: Path,
        spec: StageBankSpec,
        *,
        workers: int = 2,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Render the bank unless `directory` already holds it; `progress(done, total)`."""
        done = directory / "bank.json"
        if done.exists() and json.loads(done.read_text()) == asdict(spec):
            return
        directory.mkdir(parents=True, exist_ok=True)
        done.unlink(missing_ok=True)
        num, size = spec.num_stages, spec.size_px
        arrays = {
            "images": (np.uint8, (num, size, size, 3)),
            "classes": (np.int8, (num, MAX_NUM_OBJECTS)),
            "roles": (np.int8, (num, MAX_NUM_OBJECTS)),
            "active": (np.bool_, (num, MAX_NUM_OBJECTS)),
        }
        firsts = range(0, num, CHUNK)
        for num_done in draw_arrays(
            directory, arrays, render_stages, spec, firsts, workers=workers
        ):
            if progress:
                progress(num_done, num)
        write_json(done, asdict(spec))


def render_stages(
    spec: StageBankSpec, first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The stages from `first` on, up to a chunk; each depends on the seed and its number alone."""
    num = min(CHUNK, spec.num_stages - first)
    images = np.empty((num, spec.size_px, spec.size_px, 3), np.uint8)
    classes = np.full((num, MAX_NUM_OBJECTS), -1, np.int8)
    roles, active = classes.copy(), np.zeros((num, MAX_NUM_OBJECTS), bool)
    for row in range(num):
        rng = np.random.default_rng((spec.seed, 7, first + row))
        stage = draw_stage(rng, spec.split)
        images[row], _ = render_view(stage.scene, spec.size_px, rng)
        for slot, actor in enumerate(stage.actors):
            classes[row, slot] = CLASSES.index(actor.class_name)
            roles[row, slot] = ROLES.index(actor.role)
            active[row, slot] = actor.is_active
    return images, classes, roles, active
