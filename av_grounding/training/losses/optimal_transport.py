"""L_ori of paper 004 (eq. 7): maps of different objects are to be each other's complements.

Axes: `b` clips, `m` maps of a clip (its foreground objects, then the background), `n` cells.
"""

from __future__ import annotations

from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PAIRS = ("printed", "isolating")


def cell_centres(height: int, width: int, device: torch.device) -> Float[Tensor, "n 2"]:
    """Centres of a grid's cells, both axes in [0, 1], row by row."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.cartesian_prod(y, x)


def complement_distance(
    first: Float[Tensor, "p n"],
    second: Float[Tensor, "p n"],
    centres: Float[Tensor, "n 2"],
    *,
    regularisation: float = 0.05,
    num_iterations: int = 100,
) -> Float[Tensor, " p"]:
    """D_W(S_n, 1 − S_m) of p pairs of maps: the cost of the entropic plan of optimal transport.

    Every cell carries the same mass. Moving it costs the difference of the values and the way:
    C_ij = |S_n(i) − (1 − S_m(j))| + ‖x_i − x_j‖ (004 section 6; the paper states neither masses
    nor weights). Symmetric in both maps. Sinkhorn's iterations run in the log domain in fp32, and
    no gradient flows through them: at the optimum it is the plan itself (envelope theorem).
    """
    from ot.batch import solve_batch

    with torch.autocast(first.device.type, enabled=False):
        values = (first.float()[:, :, None] - (1.0 - second.float())[:, None]).abs()
        cost = values + torch.cdist(centres, centres)
        # All iterations for every pair: stopping when the batch has converged on average would
        # make a clip's loss depend on the others.
        solved = solve_batch(
            cost, reg=regularisation, max_iter=num_iterations, tol=0.0, method="log_sinkhorn",
            grad="envelope",
        )  # fmt: skip
        return solved.value_linear


def isolation(
    maps: Float[Tensor, "b m n"],
    valid: Bool[Tensor, "b m"],
    centres: Float[Tensor, "n 2"],
    pairs: str = "printed",
    *,
    regularisation: float = 0.05,
    num_iterations: int = 100,
) -> Float[Tensor, ""]:
    """L_ori: a sum over a clip's valid maps, the last its background's; mean over the clips.

    `printed` is the equation's sum over ordered pairs. There every foreground map is pulled to the
    complement of the background, that is to the union of all objects, and two maps of the union
    cost less than two of an object each: a complement is the cheaper, the more it covers.
    `isolating` takes each map against the sum of all others, as far as they are positive. That is
    least where the maps share out the picture, and the same as `printed` for two maps.
    """
    if pairs not in PAIRS:
        raise ValueError(f"pairs is {pairs!r}; expected one of {', '.join(PAIRS)}")
    num_clips, num_maps = valid.shape
    firsts, seconds = [], []
    if pairs == "printed":
        for n, m in combinations(range(num_maps), 2):
            rows = valid[:, n] & valid[:, m]
            firsts.append(maps[rows, n])
            seconds.append(maps[rows, m])
    else:
        for n in range(num_maps):
            others = [m for m in range(num_maps) if m != n]
            rows = valid[:, n] & valid[:, others].any(dim=1)
            hidden = ~valid[rows][:, others, None]
            firsts.append(maps[rows, n])
            left = maps[rows][:, others].masked_fill(hidden, 0.0)
            seconds.append(left.clamp_min(0.0).sum(dim=1))
    first, second = torch.cat(firsts), torch.cat(seconds)
    if not len(first):
        return maps.sum() * 0.0
    distances = complement_distance(
        first, second, centres, regularisation=regularisation, num_iterations=num_iterations
    )
    # The distance is symmetric: both orders of a pair cost the same, and one is computed.
    return (2.0 if pairs == "printed" else 1.0) * distances.sum() / num_clips
