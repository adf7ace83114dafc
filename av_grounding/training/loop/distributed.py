"""Several processes that train one recipe: who this is, and tensors of all of them.

How a recipe contrasts with the negatives of all ranks, and still is the same code in one process:

    cells, tokens = gather_with_gradient(cells), gather_with_gradient(tokens)   # (b, …) -> (B, …)
    labels = gather_with_gradient(batch["sound_labels"])                        # masks as well
    … the loss of the whole batch of B = num_ranks() * b, as if it had been one process …

Gather what the encoders return, right after the encoders, and everything that the loss needs per
clip; compute the rest on gathered tensors. Then loss and gradients equal those of one process
with the whole batch. A (b, b) mask of one rank's own pairs cannot be gathered: build masks of
pairs from per-clip labels that were. Large batches need not compute all pairs everywhere: a rank
may take the rows `own_rows(b)` of the score matrix, as long as the mean over ranks of what they
return is the loss of the whole batch.

The loop averages gradients over ranks (DistributedDataParallel), and the backward of the gather
sums over ranks; together that is the gradient of the mean over ranks of the returned losses.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def num_ranks() -> int:
    """Processes that train together; 1 without torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 without torchrun."""
    return dist.get_rank() if num_ranks() > 1 else 0


@contextmanager
def main_process_first() -> Iterator[None]:
    """The block runs in the first process, then in the others: what it builds is built once."""
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    from accelerate import PartialState

    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        yield


def own_rows(num_local: int) -> slice:
    """Where this rank's clips are in a gathered tensor."""
    return slice(rank() * num_local, (rank() + 1) * num_local)


def gather_with_gradient(tensor: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "B ..."]:
    """Every rank's tensor, in the order of the ranks along the first axis; gradients flow back.

    All ranks must call it in the same order with the same shape and type. Returns the tensor
    itself in one process. Raises ValueError where the ranks' shapes differ.
    """
    if num_ranks() == 1:
        return tensor
    check_shapes(tensor)
    if tensor.is_floating_point():
        return _Gather.apply(tensor)
    return _all_gather(tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor).to(
        tensor.dtype
    )


def check_shapes(tensor: Tensor) -> None:
    """ValueError unless all ranks hold the same shape: some backends would return garbage."""
    own = torch.zeros(8, dtype=torch.int64, device=tensor.device)
    own[: tensor.ndim + 1] = torch.tensor([tensor.ndim, *tensor.shape], device=tensor.device)
    shapes = _all_gather(own[None])
    if (shapes != own).any():
        found = sorted({tuple(row[1 : 1 + row[0]]) for row in shapes.tolist()})
        raise ValueError(
            f"ranks hold tensors of shapes {', '.join(map(str, found))}; expected one shape: give "
            "all ranks the same batch size"
        )


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, tensor: Tensor) -> Tensor:
        ctx.rows = own_rows(len(tensor))
        return _all_gather(tensor)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        # Every rank's loss depends on every rank's clips.
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.rows]


def _all_gather(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().contiguous()
    parts = [torch.empty_like(tensor) for _ in range(num_ranks())]
    dist.all_gather(parts, tensor)
    return torch.cat(parts)
