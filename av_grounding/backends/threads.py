"""How many CPU threads a model runs on, in processes that do nothing else with PyTorch."""

from __future__ import annotations

import os

import torch

SMALL_NUM_PARAMETERS = 20_000_000


def is_small(num_parameters: int) -> bool:
    return num_parameters < SMALL_NUM_PARAMETERS


def use_one_thread(num_parameters: int) -> bool:
    """Let PyTorch run on one thread if the model is small; whether that is so.

    Several threads cost a small model more in waiting for each other than they save, above all
    beside a camera and a microphone. OMP_NUM_THREADS goes before this.
    """
    if not is_small(num_parameters) or os.environ.get("OMP_NUM_THREADS"):
        return False
    torch.set_num_threads(1)
    return True
