"""Several windows in one call, where that costs less than one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

AUDIO_BATCH = 8
"""Windows in one call: beyond this a window costs no less."""


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
