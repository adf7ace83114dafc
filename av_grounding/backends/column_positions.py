"""Positional embeddings of a vision transformer that follow the width inside an exported graph.

PyTorch's own interpolation fixes the size when a graph is traced, or stays an operator that
compilers treat each in its own way. Bicubic interpolation is separable: along the height, which a
graph knows, it is done here beforehand by PyTorch itself; along the width it is a product with a
matrix of weights that plain arithmetic makes from the number of columns.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CUBIC = -0.75
"""PyTorch's coefficient of the cubic convolution kernel."""
Columns = int | torch.SymInt
"""How many columns; a symbol while a graph is traced."""
REACH = 2
"""Cells on either side that a cubic kernel reaches to."""


class ColumnPositions(nn.Module):
    """The embedding of the class token and of (num_rows, w) cells for any w, 1 + num_rows * w.

    `table` (1, 1 + n * n, c) is what was learned for n x n cells. `excess` is added to the number
    of cells where the scale is computed (0.1 in DINO's own code); the learned grid itself is then
    taken as it is.
    """

    def __init__(self, table: Float[Tensor, "1 n c"], num_rows: int, excess: float = 0.0) -> None:
        super().__init__()
        size = round((table.shape[1] - 1) ** 0.5)
        self.size, self.excess = size, excess
        grid = table[:, 1:].transpose(1, 2).unflatten(2, (size, size))
        if excess:
            scale = ((num_rows + excess) / size, 1.0)
            rows = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        else:
            rows = F.interpolate(grid, size=(num_rows, size), mode="bicubic")
        self.register_buffer("class_token", table[:, :1])
        self.register_buffer("rows", _with_border(rows))
        has_learned_grid = bool(excess) and num_rows == size
        self.register_buffer("learned", _with_border(grid) if has_learned_grid else None)

    def forward(self, num_columns: Columns) -> Float[Tensor, "1 n c"]:
        columns = torch.arange(num_columns, dtype=torch.float32, device=self.rows.device)
        # The number of columns as a tensor: a graph can compute with it.
        count = columns[-1:] + 1.0
        step = self.size / (count + self.excess)
        rows = self.rows
        if self.learned is not None:
            is_learned = count == self.size
            step = torch.where(is_learned, 1.0, step)
            rows = torch.where(is_learned, self.learned, rows)
        weights = cubic_weights((columns + 0.5) * step - 0.5, self.size)
        grid = torch.matmul(rows, weights.to(rows.dtype))
        return torch.cat([self.class_token, grid.flatten(2).transpose(1, 2)], dim=1)


def cubic_weights(places: Float[Tensor, " w"], size: int) -> Float[Tensor, "m w"]:
    """How much each of `size` cells, with `REACH` more on either side, counts at each place.

    Places are in cells, 0 the centre of the first.
    """
    cells = torch.arange(-REACH, size + REACH, dtype=torch.float32, device=places.device)
    x = (places - cells[:, None]).abs()
    near = ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0
    far = ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC
    return torch.where(x <= 1.0, near, torch.where(x < REACH, far, 0.0))


def _with_border(grid: Tensor) -> Tensor:
    """The first and the last column again beyond the edge, where the kernel reaches over it."""
    return F.pad(grid, (REACH, REACH, 0, 0), mode="replicate")
