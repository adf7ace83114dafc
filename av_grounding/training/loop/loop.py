"""The training loop: one for every recipe. A recipe is the loss; this is everything else.

Batch number m of a data set depends on the data's seed and on m alone. Of a step's batches, each
process takes its own (with one process and no accumulation, step n trains on batch n), so a run
that is stopped and resumed continues as if it had never stopped.
"""

from __future__ import annotations

import logging
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from av_grounding.training.loop import checkpoint, distributed, feeding, stopping
from av_grounding.training.loop.averaging import ema_from_the_start
from av_grounding.training.loop.checkpoint import BEST, CHECKPOINT
from av_grounding.training.loop.config import LoopConfig
from av_grounding.training.loop.feeding import Batch
from av_grounding.training.loop.metrics_log import MetricsLog
from av_grounding.training.loop.optimizer import make_optimizer
from av_grounding.training.loop.run_folder import differences
from av_grounding.training.loop.stopping import Interrupted, NotFinite
from av_grounding.training.loop.validation import Validate, undisturbed

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["BEST", "CHECKPOINT", "Interrupted", "LoopConfig", "NotFinite", "train"]
logger = logging.getLogger(__name__)

OnStep = Callable[[int, dict[str, float]], None]
# These may change on a resume: they do not touch what is learnt.
FREE_SETTINGS = {"num_workers", "log_every", "checkpoint_every", "tensorboard"}
# fp16 overflows now and then, and its scaler answers; this many in a row are no accident.
MAX_OVERFLOWS = 20


def train(
    recipe: nn.Module,
    batches: Dataset,
    config: LoopConfig,
    directory: Path,
    *,
    on_step: OnStep | None = None,
    validate: Validate | None = None,
) -> nn.Module:
    """Train `recipe` on `batches` for `config.steps`; returns it with the weights that ship.

    Those are the averaged weights (`ema_decay`), and with `validate` and `validate_every` the
    best of them. `directory` gets checkpoint.pt, best.pt, log.jsonl, validation.jsonl and
    tensorboard/; a checkpoint found there is resumed, and must have the same settings
    (ValueError). SIGTERM or Ctrl-C writes a checkpoint and raises Interrupted. Raises NotFinite
    with the batch saved, OutOfMemory, and OSError when the disk is full. Under torchrun every
    process calls it, and all share `directory`.
    """
    return Loop(recipe, config, directory, validate).run(batches, on_step)


class Loop:
    """The state of a run between its steps."""

    def __init__(
        self,
        recipe: nn.Module,
        config: LoopConfig,
        directory: Path,
        validate: Validate | None = None,
    ) -> None:
        self.config, self.directory = config, directory
        self.validate = validate if config.validate_every else None
        self.accelerator = make_accelerator(config.precision)
        directory.mkdir(parents=True, exist_ok=True)
        seed_everything(config.seed + distributed.rank())
        recipe = recipe.to(self.accelerator.device)
        if distributed.num_ranks() > 1 and self.accelerator.device.type == "cuda":
            # Statistics of the whole batch; on a CPU they stay each process's own.
            recipe = nn.SyncBatchNorm.convert_sync_batchnorm(recipe)
        self.average = None
        if config.ema_decay:
            update = ema_from_the_start(config.ema_decay)
            self.average = AveragedModel(recipe, multi_avg_fn=update, use_buffers=True)
        optimizer = make_optimizer(recipe, config)
        self.wrapped, self.optimizer = self.accelerator.prepare(recipe, optimizer)
        self.recipe = self.accelerator.unwrap_model(self.wrapped)
        self.step = self.num_batches = self.num_overflows = 0
        self.best: dict[str, Any] | None = None

    def run(self, batches: Dataset, on_step: OnStep | None) -> nn.Module:
        self.restore()
        config, is_main = self.config, self.accelerator.is_main_process
        ranks = distributed.num_ranks()
        num_left = (config.steps - self.step) * config.accumulate * ranks
        numbers = range(self.num_batches + distributed.rank(), self.num_batches + num_left, ranks)
        stream = feeding.stream(
            batches, numbers, config.num_workers, pin=self.accelerator.device.type == "cuda"
        )
        self.wrapped.train()
        journal = (
            MetricsLog(self.directory, self.step, config.steps, tensorboard=config.tensorboard)
            if is_main
            else nullcontext()
        )
        with journal, closing(stream), stopping.StopOnSignal() as stop:
            while self.step < config.steps:
                step = self.step
                terms, norm, num_samples = self.update(stream)
                self.step += 1
                is_last = self.step == config.steps
                if is_main:
                    journal.count(num_samples * distributed.num_ranks())
                    if step % config.log_every == 0 or is_last:
                        row = {"loss": sum(terms.values()), "grad_norm": norm}
                        row["learning_rate"] = config.learning_rate_at(step)
                        row = journal.step(step, row | terms)
                        if on_step:
                            on_step(step, row)
                if self.validate and (self.step % config.validate_every == 0 or is_last):
                    metrics = self.look_at_validation()
                    if is_main:
                        journal.validation(step, metrics)
                stopped_by = self.agree_to_stop(stop.number)
                if self.step % config.checkpoint_every == 0 or is_last or stopped_by:
                    self.save()
                if stopped_by and not is_last:
                    raise Interrupted(
                        f"stopped at step {self.step} of {config.steps}: resume with the same "
                        "command",
                        0 if stopped_by == signal.SIGTERM else stopping.EXIT_CTRL_C,
                    )
        return self.shipped()

    def update(self, stream: Iterator[Batch]) -> tuple[dict[str, float], float, int]:
        """One step: terms of the loss (means over its batches), gradient norm, own samples."""
        config, totals, num_samples = self.config, {}, 0
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * config.learning_rate_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        for number in range(config.accumulate):
            batch = feeding.to_device(next(stream), self.accelerator.device)
            size = feeding.check_batch(batch, self.num_batches)
            is_last = number + 1 == config.accumulate
            waiting = nullcontext() if is_last else self.accelerator.no_sync(self.wrapped)
            with waiting, stopping.explaining_memory(size, self.accelerator.device):
                terms = self.wrapped(batch, self.step)
                loss = torch.stack(list(terms.values())).sum()
                self.check_finite(loss, terms, batch, "loss")
                self.accelerator.backward(loss / config.accumulate)
            for key, value in terms.items():
                totals[key] = totals.get(key, 0.0) + value.item() / config.accumulate
            self.num_batches += distributed.num_ranks()
            num_samples += size
        norm = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), config.clip_norm)
        if self.accelerator.scaler is None:
            self.check_finite(norm, terms, batch, "gradient's norm")
        self.optimizer.step()
        self.num_overflows = (
            self.num_overflows + 1 if self.accelerator.optimizer_step_was_skipped else 0
        )
        if self.num_overflows > MAX_OVERFLOWS:
            self.check_finite(norm, terms, batch, "gradient's norm")
        if self.average is not None:
            self.average.update_parameters(self.recipe)
        return totals, float(norm), num_samples

    def check_finite(self, value: Tensor, terms: Batch, batch: Batch, what: str) -> None:
        """Stop, on all ranks alike, with the batch on disk, when a value is NaN or infinite."""
        num_bad = (~torch.isfinite(value.detach())).float()
        if not self.total(num_bad):
            return
        suffix = f"_{distributed.rank()}" if distributed.num_ranks() > 1 else ""
        path = self.directory / f"not_finite_batch{suffix}.pt"
        checkpoint.write(path, {key: value.cpu() for key, value in batch.items()})
        described = ", ".join(f"{key} {value.item():.4g}" for key, value in terms.items())
        raise NotFinite(
            f"the {what} is {value.item()} at step {self.step} ({described}); the batch is in "
            f"{path}; lower the learning rate"
        )

    def agree_to_stop(self, number: int) -> int:
        """The signal that any rank got, on all ranks."""
        if distributed.num_ranks() == 1:
            return number
        flags = torch.tensor(
            [number == signal.SIGTERM, number == signal.SIGINT],
            dtype=torch.float32,
            device=self.accelerator.device,
        )
        terminated, interrupted = (self.total(flag) for flag in flags)
        return signal.SIGTERM if terminated else signal.SIGINT if interrupted else 0

    def total(self, value: Tensor) -> float:
        """Sum over ranks."""
        return self.accelerator.reduce(value.float().clone(), "sum").item()

    def look_at_validation(self) -> dict[str, float]:
        """Metrics of the weights that would ship, which are kept where they are the best."""
        module = self.recipe if self.average is None else self.average.module
        with undisturbed(module, self.config.seed), self.accelerator.autocast():
            metrics = self.validate(module, self.step)
        metrics = {
            key: self.total(torch.tensor(value, device=self.accelerator.device))
            / distributed.num_ranks()
            for key, value in metrics.items()
        }
        name = self.config.best_metric
        if name not in metrics:
            raise ValueError(
                f"loop.best_metric is {name!r}; expected one of {', '.join(sorted(metrics))}"
            )
        if self.config.is_better(metrics[name], self.best and self.best["value"]):
            self.best = {"step": self.step, "value": metrics[name]}
            if self.accelerator.is_main_process:
                state = {"format": checkpoint.FORMAT, "recipe": module.state_dict(), **self.best}
                checkpoint.write(self.directory / BEST, state)
        return metrics

    def settings(self) -> dict[str, Any]:
        kept = {k: v for k, v in asdict(self.config).items() if k not in FREE_SETTINGS}
        return kept | {"processes": distributed.num_ranks()}

    def save(self) -> None:
        from accelerate.utils import gather_object

        states = gather_object([checkpoint.random_state()])
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = {
                "format": checkpoint.FORMAT,
                "settings": self.settings(),
                "step": self.step,
                "num_batches": self.num_batches,
                "recipe": self.recipe.state_dict(),
                "average": self.average.state_dict() if self.average is not None else None,
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "num_overflows": self.num_overflows,
                "best": self.best,
                "random": states,
            }
            checkpoint.write(self.directory / CHECKPOINT, state)
        self.accelerator.wait_for_everyone()

    def restore(self) -> None:
        """Load the directory's checkpoint if there is one."""
        path = self.directory / CHECKPOINT
        if not path.exists():
            return
        state = checkpoint.read(path)
        changed = differences(state["settings"], self.settings())
        if changed:
            raise ValueError(
                f"{path} was begun with other settings ({'; '.join(changed)}): use them again or "
                "another directory"
            )
        self.recipe.load_state_dict(state["recipe"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.num_batches = state["step"], state["num_batches"]
        self.num_overflows, self.best = state["num_overflows"], state["best"]
        checkpoint.set_random_state(state["random"][distributed.rank()])
        logger.info("resumed %s at step %d", path, self.step)

    def shipped(self) -> nn.Module:
        """The recipe with the weights that ship, without what mixed precision put around it."""
        recipe = self.accelerator.unwrap_model(self.wrapped, keep_fp32_wrapper=False)
        module = recipe if self.average is None else self.average.module
        if self.validate and self.best:
            module.load_state_dict(checkpoint.read(self.directory / BEST)["recipe"])
        return module


def make_accelerator(precision: str) -> Accelerator:
    """Devices, processes and precision, through Hugging Face accelerate."""
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import DistributedDataParallelKwargs
    except ImportError as error:
        raise ImportError(
            "training needs accelerate: pip install 'av_grounding[train]'"
        ) from error
    # Its state is global, and two stages of a run may differ in precision.
    AcceleratorState._reset_state()
    # A stage may leave parameters alone, such as the pretext the aligners.
    found = DistributedDataParallelKwargs(find_unused_parameters=True)
    if precision == "auto":
        precision = "bf16" if has_bf16() else "fp32"
    mixed = "no" if precision == "fp32" else precision
    # Under torchrun without GPUs it must be told so, or it takes the processes for strangers.
    is_cpu = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
    return Accelerator(cpu=is_cpu, mixed_precision=mixed, kwargs_handlers=[found])


def has_bf16() -> bool:
    """Whether the processor that training runs on has instructions for bf16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    told = getattr(torch.cpu, "get_capabilities", dict)()
    return any(value is True for name, value in told.items() if name.endswith("bf16"))


def seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
