"""What pays for a model of a given size: how many CPU threads, how many windows in one call."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32

SMALL_NUM_PARAMETERS = 20_000_000
AUDIO_BATCH = 8
"""Windows in one call: beyond this a window costs no less."""


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


def encode_in_batches(
    encode: Callable[[np.ndarray], np.ndarray],
    waveforms: Float32[np.ndarray, "n s"],
    size: int,
) -> Float32[np.ndarray, "n k c t"]:
    """Tokens of all windows, by calls of `size` windows each, the last filled up with silence.

    Compilers make code for each number of windows: one that never changes is compiled once.
    """
    tokens = []
    for begin in range(0, len(waveforms), size):
        windows = waveforms[begin : begin + size]
        batch = np.pad(windows, ((0, size - len(windows)), (0, 0)))
        tokens.append(encode(batch)[: len(windows)])
    return np.concatenate(tokens)
