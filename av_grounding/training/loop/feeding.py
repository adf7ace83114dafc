"""Batches on their way from a data set to the device."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from av_grounding.training.loop.stopping import leave_signals_to_the_parent

Batch = dict[str, Tensor]


def stream(
    batches: Dataset, numbers: range, num_workers: int = 0, *, pin: bool = False
) -> Generator[Batch, None, None]:
    """`batches[number]` for all `numbers`, drawn ahead by worker processes, which `close` ends.

    An error in a worker comes as its own message, without the worker's traceback.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
        worker_init_fn=leave_signals_to_the_parent if num_workers else None,
        pin_memory=pin,
        # Its own generator: starting a loader must not draw from the one that is resumed.
        generator=torch.Generator(),
    )
    iterator = iter(loader)
    try:
        yield from iterator
    except Exception as error:
        if not str(error).startswith("Caught "):
            raise
        message = str(error).rstrip().rsplit("\n", 1)[-1]
        raise type(error)(message.split(": ", 1)[-1]) from error
    finally:
        if num_workers:
            # They ignore signals, and an error's traceback may hold the iterator: a worker that
            # is left would keep the process from ending. PyTorch has no public name for this.
            iterator._shutdown_workers()


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


def check_batch(batch: Batch, number: int) -> int:
    """How many samples a batch holds; ValueError for an empty one."""
    size = min((len(value) for value in batch.values() if value.ndim), default=0)
    if size == 0:
        raise ValueError(
            f"batch {number} is empty; expected at least one sample: see what the data's report "
            "says of unreadable clips"
        )
    return size
