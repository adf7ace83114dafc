"""The training loop: one for every recipe. A recipe is the loss; this is everything else.

Each step's batch depends on the seed and the step alone, so a run that is stopped and resumed
continues as if it had never stopped.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

logger = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class LoopConfig:
    """Optimisation and bookkeeping. `bfloat16` autocasts the forward pass where it is faster."""

    steps: int = 4000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    final_learning_rate: float = 1e-5
    weight_decay: float = 0.02
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    bfloat16: bool = True
    seed: int = 0
    num_workers: int = 1
    checkpoint_every: int = 500
    log_every: int = 25

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine down to `final_learning_rate`."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + 0.5 * span * (1 + math.cos(math.pi * min(done, 1.0)))


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written."""


def train(
    recipe: nn.Module,
    batches: Dataset,
    config: LoopConfig,
    directory: Path,
    *,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> nn.Module:
    """Train `recipe` on `batches[step]` for `config.steps`; returns the recipe with EMA weights.

    `directory` gets checkpoint.pt (everything needed to go on) and log.jsonl. A checkpoint found
    there is resumed. SIGTERM or Ctrl-C writes a checkpoint and raises Interrupted. Raises
    FloatingPointError if the loss stops being finite, with the batch saved beside the checkpoint.
    """
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    optimizer = make_optimizer(recipe, config)
    average = AveragedModel(
        recipe, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True
    )
    start = restore(directory / CHECKPOINT, recipe, average, optimizer)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, config.steps),
        num_workers=config.num_workers,
        prefetch_factor=4 if config.num_workers else None,
        # Its own generator: starting a loader must not draw from the one that is resumed.
        generator=torch.Generator(),
    )
    stop = StopOnSignal()
    recipe.train()
    began = time.monotonic()
    with open(directory / "log.jsonl", "a", encoding="utf-8") as log, stop:
        for step, batch in enumerate(loader, start):
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * config.learning_rate_at(step)
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                terms = recipe(batch, step)
            loss = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(loss):
                saved = directory / "not_finite_batch.pt"
                torch.save(batch, saved)
                raise FloatingPointError(
                    f"the loss is {loss.item()} at step {step}: {describe(terms)}; the batch is "
                    f"in {saved}; lower the learning rate"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(recipe.parameters(), config.clip_norm)
            optimizer.step()
            average.update_parameters(recipe)
            if step % config.log_every == 0 or step + 1 == config.steps:
                row = {"step": step, "loss": loss.item(), "grad_norm": norm.item()}
                row |= {key: value.item() for key, value in terms.items()}
                row["seconds"] = round(time.monotonic() - began, 2)
                log.write(json.dumps(row) + "\n")
                log.flush()
                if on_step:
                    on_step(step, row)
            done = step + 1
            if done % config.checkpoint_every == 0 or done == config.steps or stop.requested:
                save(directory / CHECKPOINT, recipe, average, optimizer, done)
            if stop.requested and done < config.steps:
                raise Interrupted(
                    f"stopped at step {done} of {config.steps}: resume with the same command"
                )
    return average.module


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
        betas=(0.9, 0.98),
    )


def save(path: Path, recipe: nn.Module, average: nn.Module, optimizer: Any, step: int) -> None:
    state = {
        "recipe": recipe.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "step": step,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def restore(path: Path, recipe: nn.Module, average: nn.Module, optimizer: Any) -> int:
    """Load a checkpoint if there is one; returns the step to go on from."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    recipe.load_state_dict(state["recipe"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    logger.info("resumed %s at step %d", path, state["step"])
    return state["step"]


def describe(terms: dict[str, Tensor]) -> str:
    return ", ".join(f"{key} {value.item():.4g}" for key, value in terms.items())


class StopOnSignal:
    """Turns SIGTERM and SIGINT into a flag for the duration of the loop (main thread only)."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopOnSignal:
        self.previous = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self.previous[number] = signal.signal(number, self.request)
            except ValueError:
                logger.debug("not in the main thread: signals are left alone")
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def request(self, *_: object) -> None:
        self.requested = True
