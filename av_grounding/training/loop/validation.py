"""A look at the validation split that leaves the training as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.data import Dataset

from av_grounding.training.loop import checkpoint
from av_grounding.training.loop.distributed import num_ranks, rank

Validate = Callable[[nn.Module, int], dict[str, float]]
"""Metrics of a recipe at a step; every rank calls it, and the loop averages what they return."""


def loss_on(batches: Dataset, num_batches: int) -> Validate:
    """The mean loss over the first `num_batches` of a validation set, the same ones every time.

    The terms come under their own names, their sum as `loss`.
    """

    def validate(recipe: nn.Module, step: int) -> dict[str, float]:
        device = next(recipe.parameters()).device
        totals: dict[str, float] = {}
        for number in range(num_batches):
            batch = batches[number * num_ranks() + rank()]
            batch = {key: value.to(device) for key, value in batch.items()}
            for key, value in recipe(batch, step).items():
                totals[key] = totals.get(key, 0.0) + value.item() / num_batches
        return {"loss": sum(totals.values()), **totals}

    return validate


@contextmanager
def undisturbed(recipe: nn.Module, seed: int) -> Iterator[None]:
    """Evaluation mode with generators of its own; afterwards all is as before."""
    was_training, state = recipe.training, checkpoint.random_state()
    torch.manual_seed(seed)
    recipe.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        recipe.train(was_training)
        checkpoint.set_random_state(state)
