"""Spatially pooled similarity of every clip with every image, in blocks.

Written naively, a batch of B pairs needs the volume of B² K T H W numbers (000 eq. 2 over all
pairs): 10 GB at B = 64 for 28 x 28 cells and 56 tokens. Here one block of it exists at a time, in
both passes. What is left is the result, B² T numbers, and for the maximum as many indices.

The gradient of a maximum is sparse: every (clip, image, token) touches one cell. So the backward
pass of hard pooling gathers at the stored indices and never sees the volume again; soft pooling
computes its blocks a second time.

Axes: `i` clips, `j` images, `k` heads, `t` audio tokens, `n` cells, `c` channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# On a CPU a block should stay in the cache; an accelerator wants enough work per launch.
BLOCK_VALUES = {"cpu": 2**19, "cuda": 2**26}
MIN_GATHERED_VALUES = 2**22


def head_max_peaks(
    audio: Float[Tensor, "i k c t"],
    image: Float[Tensor, "j k c n"],
    sharpness: float = math.inf,
    *,
    dtype: torch.dtype | None = None,
    block_values: int | None = None,
    compiled: bool = False,
) -> Float[Tensor, "i j t"]:
    """Maximum over heads, then spatial pooling: the peaks of S_M (000 eq. 3, 5; 001 eq. 2).

    Equal to `objectives.head_max_peaks` without its volume. `sharpness` as in
    `objectives.pool_space`; `dtype` is what the products are computed in, at least float32 by
    default, also under autocast: unbounded products do not bear bfloat16's three digits.
    `block_values` bounds the numbers of the volume that exist at a time (default: by the
    device); `compiled` fuses each block with torch.compile, which pays on an accelerator. Where
    values tie, the first takes the gradient.
    """
    if not sharpness > 0.0:
        raise ValueError(f"sharpness is {sharpness}; expected more than 0, infinity for a maximum")
    block_values = block_values or BLOCK_VALUES.get(audio.device.type, BLOCK_VALUES["cpu"])
    if block_values < 1:
        raise ValueError(f"block_values is {block_values}; expected at least 1")
    exact = torch.promote_types(torch.promote_types(audio.dtype, image.dtype), torch.float32)
    with torch.autocast(audio.device.type, enabled=False):
        return _AllPairs.apply(
            audio.to(exact), image.to(exact), sharpness, dtype or exact, block_values, compiled
        )


def head_peaks(
    audio: Float[Tensor, "i k c t"],
    image: Float[Tensor, "j k c n"],
    head: int,
    sharpness: float = math.inf,
    **options: object,
) -> Float[Tensor, "i j t"]:
    """The peaks of S_N, one head's own similarities (000 eq. 4, 6)."""
    one = slice(head, head + 1)
    return head_max_peaks(audio[:, one], image[:, one], sharpness, **options)


class _AllPairs(torch.autograd.Function):
    """Rows are (i, t), columns (j, n); see `head_max_peaks`."""

    @staticmethod
    def forward(ctx, audio, image, sharpness, dtype, block_values, compiled):
        num_tokens, num_images = audio.shape[3], len(image)
        rows, columns = _rows(audio, dtype), _rows(image, dtype)
        hard = math.isinf(sharpness)
        pool = _function(_hard_block if hard else _soft_block, compiled)
        peaks = audio.new_empty(rows.shape[1], num_images)
        winners = (
            torch.empty(peaks.shape, dtype=torch.int32, device=peaks.device)
            if hard and any(ctx.needs_input_grad[:2])
            else None
        )
        for at, images, cells in _blocks(rows, columns, image.shape[3], block_values):
            volume = rows[:, at] @ cells
            volume = volume.unflatten(2, (-1, image.shape[3]))
            if winners is not None:
                peaks[at, images], winners[at, images] = pool(volume)
            else:
                peaks[at, images] = pool(volume, sharpness) if not hard else volume.amax((0, 3))
        ctx.save_for_backward(audio, image, peaks if not hard else winners)
        ctx.sharpness, ctx.dtype = sharpness, dtype
        ctx.block_values, ctx.compiled = block_values, compiled
        return peaks.unflatten(0, (-1, num_tokens)).transpose(1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        audio, image, saved = ctx.saved_tensors
        gradient = gradient.transpose(1, 2).flatten(0, 1)  # (i t, j)
        if math.isinf(ctx.sharpness):
            rows, columns = _rows(audio, audio.dtype), _rows(image, image.dtype)
            d_rows, d_columns = _scatter(gradient, saved, rows, columns, image.shape[3])
        else:
            rows, columns = _rows(audio, ctx.dtype), _rows(image, ctx.dtype)
            d_rows, d_columns = _recompute(
                gradient, saved, rows, columns, image.shape[3], ctx.sharpness, ctx.block_values,
                _function(_soft_gradient_block, ctx.compiled),
            )  # fmt: skip
        d_audio = d_rows.unflatten(1, (-1, audio.shape[3])).permute(1, 0, 3, 2)
        d_image = d_columns.unflatten(1, (-1, image.shape[3])).permute(1, 0, 3, 2)
        return d_audio, d_image, None, None, None, None


def _rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(b, k, c, m) to (k, b m, c)."""
    return x.permute(1, 0, 3, 2).flatten(1, 2).to(dtype).contiguous()


def _blocks(
    rows: Tensor, columns: Tensor, num_cells: int, block_values: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Slices of rows and of images, and the images' cells (k, c, j n).

    Blocks hold whole images, so that pooling sees all cells of each.
    """
    num_heads, num_rows, _ = rows.shape
    num_images = columns.shape[1] // num_cells
    side = math.isqrt(max(block_values // num_heads, 1))
    images_each = min(max(4 * side // num_cells, 1), num_images)
    rows_each = min(max(block_values // (num_heads * images_each * num_cells), 1), num_rows)
    for first in range(0, num_images, images_each):
        images = slice(first, min(first + images_each, num_images))
        cells = columns[:, first * num_cells : images.stop * num_cells].mT.contiguous()
        for start in range(0, num_rows, rows_each):
            yield slice(start, min(start + rows_each, num_rows)), images, cells


def _hard_block(volume):
    """Peaks of a block (k, r, j, n), and which (k, n) each came from, as k * N + n."""
    largest, cell = _at_least_float32(volume).max(dim=3)
    peaks, head = largest.max(dim=0)
    cell = cell.gather(0, head[None])[0]
    return peaks, (head * volume.shape[3] + cell).to(torch.int32)


def _soft_block(volume, sharpness):
    """Softmax-weighted mean over the cells of a block (k, r, j, n) after its head maximum."""
    best = _at_least_float32(_over_heads(volume))
    weight = _weights(best, sharpness)
    return (best * weight).sum(-1) / weight.sum(-1)


def _soft_gradient_block(volume, gradient, peaks, sharpness):
    """What a block's values receive: d pool / d s_n = p_n (1 + sharpness (s_n - pool)).

    `volume` is overwritten: comparing in place is many times faster than through booleans.
    """
    largest = _over_heads(volume)
    best = _at_least_float32(largest)
    weight = _weights(best, sharpness)
    scale = gradient / weight.sum(-1)
    weight *= (best - peaks[..., None]).mul_(sharpness).add_(1.0)
    weight *= scale[..., None]
    if len(volume) == 1:
        return weight[None]
    shares = torch.empty(volume.shape, dtype=weight.dtype, device=weight.device)
    for head in range(len(volume) - 1):
        torch.mul(weight, volume[head].eq_(largest), out=shares[head])
        weight -= shares[head]
    shares[-1] = weight
    return shares


def _over_heads(volume):
    largest = volume[0]
    for other in volume[1:]:
        largest = torch.maximum(largest, other)
    return largest


def _at_least_float32(values):
    return values.float() if values.dtype.itemsize < 4 else values


def _weights(best, sharpness):
    return ((best - best.amax(-1, keepdim=True)) * sharpness).exp_()


def _recompute(
    gradient: Tensor,
    peaks: Tensor,
    rows: Tensor,
    columns: Tensor,
    num_cells: int,
    sharpness: float,
    block_values: int,
    gradient_block: Callable,
) -> tuple[Tensor, Tensor]:
    """Gradients of soft pooling for rows and columns, block by block."""
    d_rows, d_columns = (torch.zeros_like(x, dtype=peaks.dtype) for x in (rows, columns))
    for at, images, cells in _blocks(rows, columns, num_cells, block_values):
        volume = (rows[:, at] @ cells).unflatten(2, (-1, num_cells))
        d_volume = gradient_block(volume, gradient[at, images], peaks[at, images], sharpness)
        d_volume = d_volume.flatten(2).to(rows.dtype)
        d_rows[:, at] += d_volume @ cells.mT
        d_columns[:, images.start * num_cells : images.stop * num_cells] += (
            d_volume.mT @ rows[:, at]
        )
    return d_rows, d_columns


def _scatter(
    gradient: Tensor, winners: Tensor, rows: Tensor, columns: Tensor, num_cells: int
) -> tuple[Tensor, Tensor]:
    """Gradients of hard pooling: every (row, image) sends its own to the one cell that won.

    The sum over a row's images is an embedding bag over the cells; its own gradient with respect
    to the cells, driven by the row's vector, is the sum that a cell receives. So both are kernels
    that never write out the gathered vectors.
    """
    num_heads, num_rows, _ = rows.shape
    num_images = gradient.shape[1]
    d_rows, d_columns = torch.empty_like(rows), torch.zeros_like(columns)
    first_cell = torch.arange(num_images, device=rows.device) * num_cells
    # The bags' backward gathers one vector for each of its members: no more than the cells hold.
    num_gathered = max(MIN_GATHERED_VALUES, columns[0].numel())
    rows_each = max(num_gathered // (num_images * columns.shape[2]), 1)
    for start in range(0, num_rows, rows_each):
        at = slice(start, min(start + rows_each, num_rows))
        won = winners[at].long()
        bags = won % num_cells + first_cell
        for head in range(num_heads):
            sent = gradient[at]
            if num_heads > 1:
                sent = sent * (won // num_cells == head)
            with torch.enable_grad():
                cells = columns[head].detach().requires_grad_()
                sums = F.embedding_bag(bags, cells, mode="sum", per_sample_weights=sent)
            d_rows[head, at] = sums.detach()
            d_columns[head] += torch.autograd.grad(sums, cells, rows[head, at])[0]
    return d_rows, d_columns


@lru_cache
def _compile(function: Callable) -> Callable:
    return torch.compile(function, dynamic=True)


def _function(function: Callable, compiled: bool) -> Callable:
    return _compile(function) if compiled else function
