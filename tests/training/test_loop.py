import json
import os
import signal

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from av_grounding.training.loop import CHECKPOINT, Interrupted, LoopConfig, train


class Regression(nn.Module):
    """A recipe with noise from torch's generator, so that resuming must restore it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, batch, step):
        x = self.norm(batch["x"] + 0.1 * torch.randn_like(batch["x"]))
        return {"square": (self.layer(x)[:, 0] - batch["y"]).square().mean()}


class Batches(Dataset):
    def __init__(self, poison_at=None):
        self.poison_at = poison_at

    def __len__(self):
        return 10**9

    def __getitem__(self, step):
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        y = x @ torch.tensor([1.0, -2.0, 0.5])
        return {"x": x, "y": y * (float("nan") if step == self.poison_at else 1.0)}


def config(**changes):
    defaults = {
        "steps": 4,
        "num_workers": 0,
        "checkpoint_every": 2,
        "log_every": 1,
        "bfloat16": False,
    }
    return LoopConfig(**defaults | changes)


def fresh():
    torch.manual_seed(7)
    return Regression()


def test_stopped_and_resumed_equals_straight_bit_for_bit(tmp_path):
    straight = train(fresh(), Batches(), config(), tmp_path / "straight")

    def stop_after_two(step, row):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="step 2 of 4"):
        train(fresh(), Batches(), config(), tmp_path / "two", on_step=stop_after_two)
    torch.manual_seed(99)
    resumed = train(Regression(), Batches(), config(), tmp_path / "two")
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    saved = [torch.load(tmp_path / d / CHECKPOINT, weights_only=True) for d in ("straight", "two")]
    assert saved[0]["step"] == saved[1]["step"] == 4
    assert torch.equal(saved[0]["recipe"]["layer.weight"], saved[1]["recipe"]["layer.weight"])


def test_training_lowers_the_loss_and_logs_every_step(tmp_path):
    train(fresh(), Batches(), config(steps=60, learning_rate=0.1, warmup_steps=1), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(60))
    assert rows[-1]["loss"] < 0.2 * rows[0]["loss"]


def test_a_loss_that_is_not_finite_stops_with_its_batch_saved(tmp_path):
    with pytest.raises(FloatingPointError, match="at step 2"):
        train(fresh(), Batches(poison_at=2), config(), tmp_path)
    batch = torch.load(tmp_path / "not_finite_batch.pt", weights_only=True)
    assert torch.isnan(batch["y"]).all()


def test_learning_rate_warms_up_then_falls():
    schedule = config(steps=100, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [schedule.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert schedule.learning_rate_at(100) == pytest.approx(0.1)
