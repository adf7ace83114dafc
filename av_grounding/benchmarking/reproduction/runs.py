"""The list of runs behind the papers' findings on the synthetic world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from av_grounding.training.configuration import DenseavRun, SssRun
from av_grounding.training.settings import override

# (name, recipe, settings beside the shared ones): what is compared with what.
COMPARED = (
    ("denseav", DenseavRun, ()),
    ("sss", SssRun, ()),
)
ABLATIONS = (
    ("sss without L_cor", SssRun, ("recipe.weight_correspondence=0.0",)),
    ("sss without L_dis", SssRun, ("recipe.weight_disentanglement=0.0",)),
    ("denseav, average pool", DenseavRun, ("recipe.aggregation=average",)),
    ("denseav, CLS token", DenseavRun, ("recipe.aggregation=cls",)),
    ("denseav, SimPool", DenseavRun, ("recipe.aggregation=simpool",)),
    ("denseav on mixtures", DenseavRun, ("recipe.clips=mixed",)),
)


@dataclass(frozen=True)
class Budget:
    """Budget of the whole table. Every run gets the same number of steps and of batches.

    ValueError for no seed, a seed twice, or numbers below one.
    """

    steps: int = 1000
    pretext_steps: int = 700
    aligner_steps: int = 120
    """Of the warm-up, in which the backbones do not learn (000 section 3.3.2; 001 section 3.5)."""
    batch_size: int = 32
    num_samples: int = 300
    """Test samples; each is evaluated clean, mixed and under off-screen audio."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of the two recipes that are compared."""
    ablation_seeds: tuple[int, ...] = (1,)
    settings: tuple[str, ...] = ()
    """More settings of every run, as for `train --set`."""

    def __post_init__(self) -> None:
        for name in ("steps", "pretext_steps", "aligner_steps", "batch_size", "num_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("seeds", "ablation_seeds"):
            seeds = getattr(self, name)
            if not seeds or len(set(seeds)) != len(seeds):
                raise ValueError(f"{name} are {seeds}; expected at least one, all different")


@dataclass(frozen=True)
class Run:
    """One training of the table. `group` is its row, of which it is one seed."""

    group: str
    seed: int
    config: SssRun

    @property
    def name(self) -> str:
        """For its folder."""
        return f"{self.group.replace(', ', '-').replace(' ', '-').lower()}-{self.seed}"


def list_runs(schedule: Budget) -> list[Run]:
    """All runs; first one seed of everything, so that a table is whole as early as can be."""
    runs = []
    for rows, seeds in ((COMPARED, schedule.seeds), (ABLATIONS, schedule.ablation_seeds)):
        for place, seed in enumerate(seeds):
            for group, kind, settings in rows:
                runs.append((place, Run(group, seed, make_config(kind, seed, settings, schedule))))
    return [run for _, run in sorted(runs, key=lambda placed: placed[0])]


def make_config(
    kind: type[SssRun], seed: int, settings: Sequence[str], schedule: Budget
) -> SssRun:
    # Sharpness hardens over the same share of the schedule as in the shipped model's.
    hardening = round(schedule.steps * 1200 / 3200)
    shared = (
        f"loop.steps={schedule.steps}",
        f"loop.seed={seed}",
        f"pretext.steps={schedule.pretext_steps}",
        f"aligners.steps={schedule.aligner_steps}",
        "tuning.steps=0",
        f"data.batch_size={schedule.batch_size}",
        f"recipe.sharpness_steps={hardening}",
    )
    return override(kind(), [*shared, *settings, *schedule.settings])
