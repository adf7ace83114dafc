import json
import multiprocessing
import os
import resource
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from av_grounding.training.loop import checkpoint, curves
from av_grounding.training.loop.loop import (
    BEST,
    CHECKPOINT,
    Interrupted,
    LoopConfig,
    NotFinite,
    has_bf16,
    make_accelerator,
    train,
)
from av_grounding.training.loop.stopping import OutOfMemory, StopOnSignal
from av_grounding.training.loop.validation import loss_on, undisturbed


class Regression(nn.Module):
    """A recipe with noise from all global generators, so that resuming must restore them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, batch, step):
        x = batch["x"]
        if self.training:
            import random

            import numpy as np

            x = x + 0.1 * torch.randn_like(x) + 0.1 * np.random.randn() + 0.1 * random.random()
        error = self.layer(self.norm(x))[:, 0] - batch["y"]
        return {"square": error.square().mean(), "slope": 0.01 * self.layer.weight.abs().sum()}


class Batches(Dataset):
    def __init__(self, poison_at=None, size=16, fault=None):
        self.poison_at, self.size, self.fault = poison_at, size, fault

    def __len__(self):
        return 10**9

    def __getitem__(self, number):
        if number == self.poison_at and self.fault is not None:
            raise self.fault
        x = torch.randn(self.size, 3, generator=torch.Generator().manual_seed(number))
        y = x @ torch.tensor([1.0, -2.0, 0.5])
        return {"x": x, "y": y * (float("nan") if number == self.poison_at else 1.0)}


def config(**changes):
    defaults = {
        "steps": 4,
        "num_workers": 0,
        "checkpoint_every": 2,
        "log_every": 1,
        "precision": "fp32",
        "tensorboard": False,
    }
    return LoopConfig(**defaults | changes)


def fresh():
    torch.manual_seed(7)
    return Regression()


def stop_after(step, number=signal.SIGTERM):
    def on_step(now, row):
        if now == step:
            os.kill(os.getpid(), number)

    return on_step


def assert_same_weights(a, b):
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


def test_a_run_that_fails_leaves_no_worker_behind(tmp_path):
    def fail(now, row):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no") as kept:
        train(fresh(), Batches(), config(num_workers=1), tmp_path, on_step=fail)
    # Also while somebody still holds the error and, with it, the loop's frame.
    assert not multiprocessing.active_children()
    assert kept.traceback


VARIANTS = {
    "plain": {},
    "no average": {"ema_decay": 0.0},
    "accumulated, workers": {"accumulate": 2, "num_workers": 1},
    "bf16, validated": {"precision": "bf16", "validate_every": 1},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_stopped_and_resumed_equals_straight_bit_for_bit(tmp_path, changes):
    settings = config(**changes, checkpoint_every=100)
    validate = loss_on(Batches(), 1)
    straight = train(fresh(), Batches(), settings, tmp_path / "straight", validate=validate)
    with pytest.raises(Interrupted, match="step 2 of 4"):
        train(
            fresh(), Batches(), settings, tmp_path / "two",
            on_step=stop_after(1), validate=validate,
        )  # fmt: skip
    torch.manual_seed(99)
    resumed = train(Regression(), Batches(), settings, tmp_path / "two", validate=validate)
    assert_same_weights(straight, resumed)
    saved = [checkpoint.read(tmp_path / d / CHECKPOINT) for d in ("straight", "two")]
    assert saved[0]["step"] == saved[1]["step"] == 4
    for part in ("recipe", "average"):
        if saved[0][part] is not None:
            assert torch.equal(*(s[part][next(iter(s[part]))] for s in saved))
    assert torch.equal(saved[0]["random"][0]["torch"], saved[1]["random"][0]["torch"])
    assert saved[0]["random"][0]["python"] == saved[1]["random"][0]["python"]
    assert saved[0]["num_batches"] == saved[1]["num_batches"] == 4 * settings.accumulate
    rows = [json.loads(line) for line in (tmp_path / "two/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_and_says_its_exit_code(tmp_path, number, code):
    with pytest.raises(Interrupted) as stopped:
        train(fresh(), Batches(), config(), tmp_path, on_step=stop_after(0, number))
    assert stopped.value.exit_code == code
    assert checkpoint.read(tmp_path / CHECKPOINT)["step"] == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_ctrl_c_does_not_wait():
    with StopOnSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_training_lowers_the_loss_and_logs_every_step(tmp_path):
    settings = config(steps=60, learning_rate=0.1, warmup_steps=1, tensorboard=True)
    train(fresh(), Batches(), settings, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(60))
    assert rows[-1]["loss"] < 0.3 * rows[0]["loss"]
    for row in rows:
        assert row["loss"] == pytest.approx(row["square"] + row["slope"], rel=1e-5)
        assert row["samples_per_s"] > 0
    assert rows[-1]["eta_s"] == 0 < rows[0]["eta_s"]
    assert rows[30]["learning_rate"] == pytest.approx(settings.learning_rate_at(30))
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) >= {"loss", "terms/square", "terms/slope", "grad_norm"}
    values = [event.value for event in board.Scalars("loss")]
    assert values == pytest.approx([row["loss"] for row in rows], rel=1e-5)
    assert curves.read_log(tmp_path / "log.jsonl").keys() - curves.NOT_TERMS == {
        *("square", "slope")
    }


def test_accumulated_batches_weigh_as_one_of_their_sum(tmp_path):
    """Without noise and norms, two batches of 8 give the update of one of 16."""

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, batch, step):
            return {"square": (self.layer(batch["x"])[:, 0] - batch["y"]).square().mean()}

    class Pairs(Batches):
        def __getitem__(self, number):
            parts = [Batches(size=8)[2 * number + i] for i in range(2)]
            return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def weights(batches, accumulate):
        torch.manual_seed(3)
        settings = config(steps=2, accumulate=accumulate, ema_decay=0.0, clip_norm=0.5)
        return train(Plain(), batches, settings, tmp_path / str(accumulate)).layer.weight

    torch.testing.assert_close(weights(Batches(size=8), 2), weights(Pairs(), 1))


def test_the_best_weights_on_validation_ship(tmp_path):
    seen = {}

    def validate(recipe, step):
        assert not recipe.training
        torch.rand(5), [p.data for p in recipe.parameters()]
        seen[step] = {name: value.clone() for name, value in recipe.state_dict().items()}
        return {"loss": abs(step - 3.0), "recall": -abs(step - 1.0)}

    settings = config(steps=5, validate_every=1)
    shipped = train(fresh(), Batches(), settings, tmp_path / "a", validate=validate)
    assert list(seen) == [1, 2, 3, 4, 5]
    assert torch.equal(shipped.state_dict()["layer.weight"], seen[3]["layer.weight"])
    assert not torch.equal(seen[5]["layer.weight"], seen[3]["layer.weight"])
    best = checkpoint.read(tmp_path / "a" / BEST)
    assert (best["step"], best["value"]) == (3, 0.0)
    rows = (tmp_path / "a" / "validation.jsonl").read_text().splitlines()
    assert [json.loads(row)["loss"] for row in rows] == [2.0, 1.0, 0.0, 1.0, 2.0]
    # A metric that is not a loss is better when higher, and looking does not touch the training.
    by_recall = replace(settings, best_metric="recall")
    shipped = train(fresh(), Batches(), by_recall, tmp_path / "b", validate=validate)
    assert torch.equal(shipped.state_dict()["layer.weight"], seen[1]["layer.weight"])
    unseen = train(fresh(), Batches(), config(steps=5), tmp_path / "c")
    assert torch.equal(unseen.state_dict()["layer.weight"], seen[5]["layer.weight"])
    with pytest.raises(ValueError, match="best_metric is 'iou'; expected one of loss, recall"):
        train(
            fresh(), Batches(), replace(settings, best_metric="iou"), tmp_path / "d",
            validate=validate,
        )  # fmt: skip


def test_validation_loss_is_the_mean_over_its_batches():
    recipe = fresh().train()
    before = torch.get_rng_state()
    with undisturbed(recipe, 0):
        metrics = loss_on(Batches(), 3)(recipe, 0)
        expected = [
            sum(value.item() for value in recipe(Batches()[n], 0).values()) for n in range(3)
        ]
    assert metrics["loss"] == pytest.approx(sum(expected) / 3)
    assert metrics["loss"] == pytest.approx(metrics["square"] + metrics["slope"])
    assert recipe.training
    assert torch.equal(before, torch.get_rng_state())


def test_a_loss_that_is_not_finite_stops_with_its_batch_saved(tmp_path):
    with pytest.raises(NotFinite, match=r"loss is nan at step 2 \(square nan"):
        train(fresh(), Batches(poison_at=2), config(), tmp_path)
    batch = torch.load(tmp_path / "not_finite_batch.pt", weights_only=True)
    assert torch.isnan(batch["y"]).all()
    assert torch.equal(batch["x"], Batches()[2]["x"])


def test_a_gradient_that_is_not_finite_stops_before_it_is_applied(tmp_path):
    class Root(Regression):
        def forward(self, batch, step):
            # Finite at zero, with an infinite slope.
            zero = (self.layer.weight - self.layer.weight.detach()).abs().sum()
            return super().forward(batch, step) | {"root": zero.sqrt()}

    recipe = Root()
    before = recipe.layer.weight.detach().clone()
    with pytest.raises(NotFinite, match="gradient's norm is nan at step 0"):
        train(recipe, Batches(), config(), tmp_path)
    assert torch.equal(recipe.layer.weight.detach(), before)


def test_out_of_memory_says_what_to_lower(tmp_path):
    class Greedy(Regression):
        def forward(self, batch, step):
            return {"huge": torch.empty(2**50).sum()}

    with pytest.raises(OutOfMemory, match=r"16 samples .* lower data\.batch_size"):
        train(Greedy(), Batches(), config(), tmp_path)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_batch_is_one_line_also_from_a_worker(tmp_path, num_workers):
    batches = Batches(poison_at=1, fault=ValueError("dog.wav: cut short: record it again"))
    with pytest.raises(ValueError, match=r"^dog\.wav: cut short: record it again$"):
        train(fresh(), batches, config(num_workers=num_workers), tmp_path)


def test_an_empty_batch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch 0 is empty"):
        train(fresh(), Batches(size=0), config(), tmp_path)


def test_a_resume_with_other_settings_lists_the_differences(tmp_path):
    train(fresh(), Batches(), config(), tmp_path)
    other = config(steps=9, learning_rate=0.5, log_every=2, num_workers=1)
    with pytest.raises(ValueError, match=r"learning_rate: 0\.001 then, 0\.5 now; steps: 4") as no:
        train(fresh(), Batches(), other, tmp_path)
    assert "log_every" not in str(no.value)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    with pytest.raises(Interrupted):
        train(fresh(), Batches(), config(), tmp_path, on_step=stop_after(0))
    before = (tmp_path / CHECKPOINT).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match=r"checkpoint\.pt before is intact: free some space"):
            train(fresh(), Batches(), config(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert list(tmp_path.glob("*.partial")) == []
    resumed = train(fresh(), Batches(), config(), tmp_path)
    assert_same_weights(resumed, train(fresh(), Batches(), config(), tmp_path / "straight"))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", "old"])
def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / CHECKPOINT
    if content == "old":
        torch.save({"step": 3}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint.*delete"):
        train(fresh(), Batches(), config(), tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was_here"),)

    torch.save({"format": checkpoint.FORMAT, "step": Evil()}, tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match="no readable checkpoint"):
        train(fresh(), Batches(), config(), tmp_path)
    assert not (tmp_path / "was_here").exists()


def test_no_steps_leave_the_recipe_as_it_is(tmp_path):
    recipe = fresh()
    assert_same_weights(train(recipe, Batches(), config(steps=0), tmp_path), fresh())


def test_learning_rate_warms_up_then_falls():
    schedule = config(steps=100, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [schedule.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert schedule.learning_rate_at(100) == pytest.approx(0.1)
    straight = replace(schedule, decay="linear")
    assert [straight.learning_rate_at(step) for step in (10, 55, 100)] == pytest.approx(
        [1.0, 0.55, 0.1]
    )


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False, "num_sockets": 1}, False),
        ({"avx2": True, "avx512_bf16": True}, True),
    ],
)
def test_bf16_is_taken_where_the_cpu_computes_in_it(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bf16() is expected
    mixed = make_accelerator("auto").mixed_precision
    assert mixed == ("bf16" if expected else "no")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 0}, "accumulate is 0; expected at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"ema_decay": 1.0}, r"ema_decay is 1\.0"),
        ({"decay": "step"}, "decay is 'step'; expected one of cosine, linear"),
        ({"precision": "half"}, "precision is 'half'; expected one of auto, fp32, bf16, fp16"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)
