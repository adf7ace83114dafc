"""The average that ships: soon free of where it began, and the plain one in the long run."""

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from av_grounding.training.loop.averaging import ema_from_the_start


def averaged_after(decay, values):
    """The average of a batch norm whose weight and running mean take these values in turn."""
    norm = torch.nn.BatchNorm1d(1)
    average = AveragedModel(norm, multi_avg_fn=ema_from_the_start(decay), use_buffers=True)
    for value in values:
        with torch.no_grad():
            norm.weight.fill_(value)
            norm.running_mean.fill_(value)
        average.update_parameters(norm)
    return average.module.weight.item(), average.module.running_mean.item()


def test_a_short_run_forgets_where_it_began():
    """With 0.998 from the first step on, 0.9 of the start would be left."""
    assert averaged_after(0.998, [0.0] + 50 * [1.0]) == pytest.approx((1.0, 1.0), abs=1e-6)


def test_it_spans_about_a_tenth_of_the_steps():
    weight, statistics = averaged_after(0.998, 900 * [0.0] + 100 * [1.0])
    assert weight == statistics == pytest.approx(1.0 - 0.9**9, abs=0.01)


def test_in_the_long_run_the_decay_is_the_stated_one():
    weight, _ = averaged_after(0.5, 100 * [0.0] + 3 * [1.0])
    assert weight == pytest.approx(1.0 - 0.5**3)
