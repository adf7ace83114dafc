"""What a device can do at best, measured, and the time that a network cannot go below on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from av_grounding.backends.cuda_graph import call_durations_ms

NUM_REPEATS = 20


@dataclass(frozen=True)
class Ceilings:
    """Bytes per second of a copy within memory, read and written; operations per second of a
    matrix product, of which a multiplication and an addition are two."""

    bytes_per_s: float
    flops_per_s: float


@dataclass(frozen=True)
class Demand:
    """What one call must at least move (its weights, input and output, once) and compute."""

    num_bytes: int
    num_flops: int

    def floor_ms(self, ceilings: Ceilings) -> float:
        """Moving and computing overlap, so the slower of both."""
        moving_s = self.num_bytes / ceilings.bytes_per_s
        computing_s = self.num_flops / ceilings.flops_per_s
        return 1e3 * max(moving_s, computing_s)


def measure_ceilings(
    device: torch.device,
    dtype: torch.dtype,
    *,
    num_copied_bytes: int = 1 << 30,
    matrix_side: int = 8192,
) -> Ceilings:
    """Medians over a copy much larger than any cache, and a large product in `dtype`."""
    source = torch.zeros(num_copied_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    left, right = (torch.randn(matrix_side, matrix_side, device=device).to(dtype) for _ in "ab")
    product = torch.empty_like(left)
    copy_ms = _median_ms(lambda: target.copy_(source), device)
    product_ms = _median_ms(lambda: torch.mm(left, right, out=product), device)
    return Ceilings(2e3 * num_copied_bytes / copy_ms, 2e3 * matrix_side**3 / product_ms)


def demand(module: nn.Module, inputs: Sequence[Tensor]) -> Demand:
    """Counted over one call of `module`; the weights as they are stored in it."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        output = module(*inputs)
    tensors = [*module.parameters(), *module.buffers(), *inputs, output]
    return Demand(
        sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        counter.get_total_flops(),
    )


def _median_ms(call, device: torch.device) -> float:
    call_durations_ms(call, device, 3)
    return float(np.median(call_durations_ms(call, device, NUM_REPEATS)))
