"""L_ori of paper 004: costs that are known, its sign, its gradient, and what it rewards."""

import numpy as np
import ot
import pytest
import torch

from av_grounding.training.losses.optimal_transport import (
    PAIRS,
    cell_centres,
    complement_distance,
    isolation,
)

CENTRES = cell_centres(8, 8, torch.device("cpu"))


def bump(y, x):
    """A smooth object at a place in [0, 1], 1 in its middle."""
    away = (CENTRES - torch.tensor([y, x])).square().sum(dim=1)
    return torch.exp(-away / 0.02)


LEFT, RIGHT = bump(0.5, 0.2), bump(0.5, 0.8)
UNION = torch.maximum(LEFT, RIGHT)


def ori(first, second, background, pairs):
    maps = torch.stack([first, second, background])[None]
    valid = torch.ones(1, 3, dtype=torch.bool)
    return isolation(maps, valid, CENTRES, pairs, regularisation=0.01).item()


def test_equal_maps_cost_what_entropy_costs():
    flat = torch.full((1, 64), 0.5)
    # Complements of one another: what is left is the blur of the plan, 0.045 at 0.05.
    assert complement_distance(flat, flat, CENTRES).item() == pytest.approx(0.045, abs=1e-3)
    same = complement_distance(LEFT[None], 1.0 - LEFT[None], CENTRES).item()
    assert same == pytest.approx(0.035, abs=1e-3)


def test_the_distance_is_that_of_the_plan_of_another_solver():
    cost = (LEFT[:, None] - (1.0 - RIGHT)[None]).abs() + torch.cdist(CENTRES, CENTRES)
    mass = np.full(64, 1 / 64)
    plan = ot.sinkhorn(mass, mass, cost.double().numpy(), 0.05, method="sinkhorn_log")
    expected = float((plan * cost.double().numpy()).sum())
    found = complement_distance(LEFT[None], RIGHT[None], CENTRES).item()
    # After 100 iterations; the other goes on until it has converged.
    assert found == pytest.approx(expected, rel=1e-3)
    assert complement_distance(RIGHT[None], LEFT[None], CENTRES).item() == pytest.approx(
        found, rel=1e-4
    )


def test_the_gradient_is_the_plans_and_a_step_against_it_lowers_the_distance():
    first = LEFT[None].clone().requires_grad_()
    before = complement_distance(first, LEFT[None], CENTRES)
    before.sum().backward()
    assert torch.isfinite(first.grad).all()
    after = complement_distance(first.detach() - 2.0 * first.grad, LEFT[None], CENTRES)
    assert after.item() < before.item()


def test_a_clips_distance_does_not_depend_on_the_batch():
    alone = complement_distance(LEFT[None], RIGHT[None], CENTRES)
    together = complement_distance(
        torch.stack([UNION, LEFT]), torch.stack([UNION, RIGHT]), CENTRES
    )
    torch.testing.assert_close(together[1:], alone, rtol=1e-5, atol=1e-6)


def test_half_precision_around_it_changes_nothing():
    expected = complement_distance(LEFT[None], RIGHT[None], CENTRES)
    with torch.autocast("cpu", torch.bfloat16):
        found = complement_distance(LEFT[None], RIGHT[None], CENTRES)
    torch.testing.assert_close(found, expected)


def test_the_printed_sum_rewards_both_maps_on_the_union_and_isolating_maps_apart():
    background = 1.0 - UNION
    apart = ori(LEFT, RIGHT, background, "printed")
    assert ori(UNION, UNION, background, "printed") < apart
    assert apart < ori(LEFT, LEFT, background, "printed")
    apart = ori(LEFT, RIGHT, background, "isolating")
    assert apart < 0.01
    assert ori(UNION, UNION, background, "isolating") > 0.2
    assert ori(LEFT, LEFT, background, "isolating") > 0.2


def test_two_maps_cost_the_same_either_way():
    maps = torch.stack([LEFT, 0.9 - 0.8 * UNION])[None]
    valid = torch.ones(1, 2, dtype=torch.bool)
    printed, isolating = (isolation(maps, valid, CENTRES, pairs) for pairs in PAIRS)
    # Within what 100 iterations leave.
    torch.testing.assert_close(printed, isolating, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("pairs", ["printed", "isolating"])
def test_maps_that_are_not_valid_count_for_nothing(pairs):
    maps = torch.stack([torch.stack([LEFT, RIGHT, 1.0 - UNION])] * 2)
    valid = torch.tensor([[True, False, True], [True, True, False]])
    other = maps.clone()
    other[0, 1], other[1, 2] = float("nan"), 7.0
    first, second = (isolation(m, valid, CENTRES, pairs, num_iterations=20) for m in (maps, other))
    torch.testing.assert_close(first, second)
    nothing = isolation(maps, torch.zeros(2, 3, dtype=torch.bool), CENTRES, pairs)
    assert nothing.item() == 0.0


def test_pairs_have_names():
    with pytest.raises(ValueError, match="pairs is 'all'; expected one of printed, isolating"):
        isolation(torch.zeros(1, 2, 64), torch.ones(1, 2, dtype=torch.bool), CENTRES, "all")
