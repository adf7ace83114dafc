"""What the loop, the command line and the bundles ask of a recipe."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Recipe(nn.Module):
    """A paper's training. `self.model` ships; whatever else it owns is used only in training.

    `forward(batch, step)` gives the weighted terms whose sum is the loss. What it draws at random
    it draws from torch's default generator, which the loop's checkpoints hold. Under several
    ranks it gathers what its loss contrasts (see `training.distributed`).
    """

    model: nn.Module

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Float[Tensor, ""]]:
        raise NotImplementedError(f"{type(self).__name__} defines no terms")

    def rate_of(self, name: str) -> float:
        """Factor on the learning rate of the parameter `name`."""
        return 1.0

    def warm_up(self) -> Recipe:
        """A copy for the stage before, which trains only what is new to pretrained backbones.

        `load_state_dict` brings its weights back.
        """
        raise NotImplementedError(f"{type(self).__name__} has no warm-up")
