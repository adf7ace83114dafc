"""The exponential average of weights and statistics that ships."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


def ema_from_the_start(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """An update for `torch.optim.swa_utils.AveragedModel`.

    The decay rises from 2/11 by (1 + n) / (10 + n) until it is `decay`, so that the average spans
    about a tenth of the steps so far. With one decay throughout, 700 steps at 0.998 would leave a
    quarter of the initial weights and batch statistics in it.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor) -> None:
        number = int(num_averaged)
        now = min(decay, (1 + number) / (10 + number))
        get_ema_multi_avg_fn(now)(averaged, current, num_averaged)

    return update
