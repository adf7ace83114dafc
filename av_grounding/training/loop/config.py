"""Settings of the training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass

DECAYS = ("cosine", "linear")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class LoopConfig:
    """Optimisation and bookkeeping; a step is one update of the weights.

    ValueError for values that contradict each other or lie outside their range.
    """

    steps: int = 4000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    final_learning_rate: float = 1e-5
    decay: str = "cosine"
    """How the rate gets there after the warm-up: cosine or linear."""
    weight_decay: float = 0.02
    beta2: float = 0.98
    """Decay of Adam's second moments; that of the first ones is 0.9."""
    clip_norm: float = 5.0
    accumulate: int = 1
    """Batches per step and process. Each is contrasted within itself: gradients add up, negatives
    do not."""
    ema_decay: float = 0.998
    """Of the weights that ship, reached as the steps grow; 0 ships the trained weights."""
    precision: str = "auto"
    """Of the forward pass: fp32, bf16, or fp16, which needs a GPU. auto: bf16 where the processor
    computes in it, else fp32; a CPU that only imitates bf16 takes 8 to 24 times as long."""
    seed: int = 0
    num_workers: int = 1
    checkpoint_every: int = 500
    log_every: int = 25
    validate_every: int = 0
    """Steps between looks at the validation split, of which the best is kept; 0: never."""
    best_metric: str = "loss"
    """What the best is chosen by: the lowest of a name that ends in loss, else the highest."""
    tensorboard: bool = True

    def __post_init__(self) -> None:
        for name, least in (
            *(("steps", 0), ("accumulate", 1), ("checkpoint_every", 1), ("log_every", 1)),
            *(("warmup_steps", 0), ("validate_every", 0), ("num_workers", 0), ("seed", 0)),
            *(("learning_rate", 0.0), ("weight_decay", 0.0), ("clip_norm", 0.0)),
        ):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.decay not in DECAYS:
            raise ValueError(f"decay is {self.decay!r}; expected one of {', '.join(DECAYS)}")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay is {self.ema_decay}; expected 0 (none) to below 1")
        if not 0.0 <= self.beta2 < 1.0:
            raise ValueError(f"beta2 is {self.beta2}; expected 0 to below 1")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}"
            )

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then down to `final_learning_rate` by a cosine or a straight line."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        left = 1.0 - min(done, 1.0)
        if self.decay == "cosine":
            left = 0.5 * (1 - math.cos(math.pi * left))
        return self.final_learning_rate + left * (self.learning_rate - self.final_learning_rate)

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether a validation value beats the best so far."""
        if best is None:
            return math.isfinite(value)
        return value < best if self.best_metric.endswith("loss") else value > best
