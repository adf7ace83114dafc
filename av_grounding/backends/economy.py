"""What pays for a model of a given size: how many CPU threads, how many windows in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from threadpoolctl import ThreadpoolController

from av_grounding.types import Backend

SMALL_NUM_PARAMETERS = 20_000_000
AUDIO_BATCH = 8
"""Windows in one call: beyond this a window costs no less."""


def is_small(num_parameters: int) -> bool:
    return num_parameters < SMALL_NUM_PARAMETERS


def settle_threads(backend: Backend) -> None:
    """Take one CPU thread where the model is small, in a process of our own.

    Several threads cost a small model more in waiting for each other than they save, above all
    beside a camera and a microphone. OMP_NUM_THREADS goes before this. NumPy's matrix products
    take one thread whatever the model: they last less than a millisecond, and OpenBLAS lets its
    other threads spin for 50 ms of processor time after each, in case there is another one.
    """
    if is_small(backend.num_parameters) and not os.environ.get("OMP_NUM_THREADS"):
        backend.use_threads(1)
    for library in ThreadpoolController().lib_controllers:
        if library.user_api == "blas" and "torch" not in library.filepath:
            library.set_num_threads(1)


def num_cpu_threads() -> int:
    """OMP_NUM_THREADS, or the processor's cores that this process may run on."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdigit() and int(named) > 0:
        return int(named)
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    # Two threads of one core share its arithmetic: a second one saves nothing.
    return len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})


def _siblings(cpu: int) -> str:
    """Which logical processors share a core with this one."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text()
    except OSError:
        return str(cpu)


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
