"""The optimiser of every run."""

from __future__ import annotations

import torch
from torch import nn

from av_grounding.training.loop.config import LoopConfig


def make_optimizer(recipe: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW; biases, norms and scalars are not decayed.

    A recipe may slow a parameter down with `rate_of(name)`, a factor on the learning rate.
    """
    rate_of = getattr(recipe, "rate_of", lambda name: 1.0)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in recipe.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((rate_of(name), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "rate": rate,
                "weight_decay": config.weight_decay if is_matrix else 0.0,
            }
            for (rate, is_matrix), parameters in sorted(
                groups.items(), key=lambda group: group[0], reverse=True
            )
        ],
        lr=config.learning_rate,
        betas=(0.9, config.beta2),
    )
