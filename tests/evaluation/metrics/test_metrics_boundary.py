import numpy as np
import pytest

from av_grounding.evaluation.metrics.boundary import (
    best_boundary_f,
    boundary_f,
    proposal_recall,
)


def square(top, left, size=60, side=224):
    mask = np.zeros((side, side), bool)
    mask[top : top + size, left : left + size] = True
    return mask


def test_outlines_within_two_pixels_at_224_are_the_same():
    truth = square(50, 50)
    assert boundary_f(truth, truth) == 1.0
    assert boundary_f(square(52, 50), truth) == 1.0
    # Three off: the two sides along the shift still agree, but for their far ends.
    assert 0.4 < boundary_f(square(53, 50), truth) < 0.6
    assert boundary_f(square(150, 150), truth) == 0.0
    # The tolerance grows with the picture.
    assert boundary_f(square(104, 100, 120, 448), square(100, 100, 120, 448)) == 1.0


def test_by_hand_precision_and_recall():
    # A predicted square around a smaller true one, 20 pixels away everywhere but for one more
    # square on the truth itself: all of the truth is found, a part of the prediction is right.
    truth = square(80, 80, 40)
    predicted = truth | (square(20, 20, 10))
    inner, outer = 4 * 39, 4 * 9
    precision = inner / (inner + outer)
    assert boundary_f(predicted, truth) == pytest.approx(2 * precision / (1 + precision))


def test_the_edge_of_the_picture_is_no_outline():
    nothing, everything = np.zeros((64, 64), bool), np.ones((64, 64), bool)
    assert boundary_f(everything, nothing) == 1.0  # neither has an outline
    assert boundary_f(square(20, 20, 10, 64), nothing) == 0.0
    half = np.zeros((64, 64), bool)
    half[:, :32] = True
    assert boundary_f(half, half) == 1.0


def test_one_threshold_serves_all_maps():
    truth = square(50, 50)
    maps = [np.where(truth, 0.8, 0.1), np.where(truth, 0.6, 0.3)]
    best = best_boundary_f(maps, [truth, truth])
    assert best.value == 1.0
    assert 0.3 <= best.threshold < 0.6
    clashing = [np.where(truth, 0.8, 0.5), np.where(truth, 0.4, 0.1)]
    assert best_boundary_f(clashing, [truth, truth]).value == pytest.approx(0.5)
    with pytest.raises(ValueError, match="got 0 maps and 0 masks"):
        best_boundary_f([], [])


def test_recall_counts_true_masks_that_one_of_the_first_proposals_matches():
    truths = np.stack([square(10, 10), square(120, 120), np.zeros((224, 224), bool)])
    masks = np.stack([square(10, 40), square(120, 120), square(10, 10)])
    found = proposal_recall([(masks, truths)], [1, 2, 3])
    assert found[1]["recall"] == 0.0
    assert found[1]["mean_best_iou"] == pytest.approx(0.5 * (1 / 3))
    assert found[2]["recall"] == 0.5
    assert found[3] == {"recall": 1.0, "mean_best_iou": 1.0}
    with pytest.raises(ValueError, match="no true mask"):
        proposal_recall([(masks, truths[2:])], [1])
