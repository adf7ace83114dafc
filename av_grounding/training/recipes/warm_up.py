"""The stage before a recipe, in which only its aligners and temperature learn."""

from __future__ import annotations

from pathlib import Path

from torch.utils.data import Dataset

from av_grounding.training.loop.config import LoopConfig
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress
from av_grounding.training.recipes.contrast import Contrast


def warm_up_aligners(
    recipe: Contrast, batches: Dataset, config: LoopConfig, directory: Path, progress: Progress
) -> None:
    """Give `recipe` aligners that have learned (000 section 3.3.2; 001 section 3.5), resumed.

    With 0 steps it stays as it is.
    """
    if not config.steps:
        return
    warm = train(
        recipe.warm_up(), batches, config, directory,
        on_step=lambda step, row: progress("aligners", step + 1, config.steps, row),
    )  # fmt: skip
    recipe.load_state_dict(warm.state_dict())
