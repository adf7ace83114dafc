"""Localisation against scikit-learn, torchmetrics, brute force, and the table of the field."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_grounding.evaluation.boxes import consensus_mask, parse_boxes, union_mask
from av_grounding.evaluation.metrics import extended, multi_source
from av_grounding.evaluation.metrics.localisation import (
    SWEEP,
    best_of_sweep,
    consensus_iou,
    consensus_iou_curve,
    interactive_ious,
    success_auc,
    success_rate,
)
from av_grounding.evaluation.metrics.maps import binarise, ceiling_map, centred_disc, whole_image
from av_grounding.evaluation.metrics.ranking import average_precision

TRUTHS = hnp.arrays(np.float32, (4, 5), elements=st.sampled_from([0.0, 0.5, 1.0])).filter(
    lambda truth: truth.any()
)
MASKS = hnp.arrays(np.bool_, (4, 5))


def test_iou_equals_torchmetrics():
    torch = pytest.importorskip("torch")
    jaccard = pytest.importorskip("torchmetrics.functional").jaccard_index
    rng = np.random.default_rng(0)
    for _ in range(5):
        predicted, truth = rng.random((2, 30, 40)) < 0.4
        expected = jaccard(torch.tensor(predicted), torch.tensor(truth), task="binary")
        value = consensus_iou(predicted, truth.astype(np.float32))
        assert value == pytest.approx(float(expected), abs=1e-6)


def test_consensus_counts_half_agreed_pixels_by_half():
    truth = np.array([[1.0, 0.5, 0.0, 0.0]], np.float32)
    predicted = np.array([[True, True, True, False]])
    assert consensus_iou(predicted, truth) == pytest.approx(1.5 / (1.5 + 1))
    assert consensus_iou(np.array([[False, True, False, False]]), truth) == pytest.approx(
        0.5 / 1.5
    )


@given(TRUTHS, MASKS)
def test_consensus_iou_is_bounded_and_one_for_the_truth(truth, predicted):
    assert 0.0 <= consensus_iou(predicted, truth) <= 1.0
    assert consensus_iou(truth > 0, truth) == pytest.approx(1.0)
    assert consensus_iou(truth == 0, truth) == 0.0


def test_nothing_to_overlap_with_is_refused():
    with pytest.raises(ValueError, match="empty truth"):
        consensus_iou(np.ones((2, 2), bool), np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="one shape"):
        consensus_iou(np.ones((2, 2), bool), np.ones((2, 3), np.float32))


@given(hnp.arrays(np.float32, (4, 5), elements=st.integers(0, 20).map(lambda i: i / 20)), TRUTHS)
def test_curve_is_the_iou_at_every_threshold(values, truth):
    curve = consensus_iou_curve(values, truth)
    expected = [consensus_iou(values >= np.float32(t), truth) for t in SWEEP]
    np.testing.assert_allclose(curve, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_scikit_learn(seed):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    ious = np.random.default_rng(seed).random(40)
    thresholds = [0.05 * i for i in range(21)]
    rates = [np.sum(ious >= 0.05 * i) / 40 for i in range(21)]
    assert success_auc(ious) == pytest.approx(sklearn_metrics.auc(thresholds, rates), abs=1e-12)
    assert success_auc(np.ones(3)) == 1.0
    assert success_auc(np.zeros(3)) == pytest.approx(0.025)
    assert success_rate([0.5, 0.49, 0.9]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no IoU"):
        success_rate([])


def test_sweep_takes_the_threshold_with_the_best_auc():
    curves = np.array([[0.1, 0.6, 0.9], [0.2, 0.7, 0.1]])
    best, auc = best_of_sweep(curves)
    assert best == 1
    assert auc == pytest.approx(success_auc([0.6, 0.7]))


def test_interactive_needs_every_sound_of_an_image():
    worst = interactive_ious([0.9, 0.4, 0.6, 0.7], ["b", "b", "a", "a"])
    assert worst == {"a": 0.6, "b": 0.4}
    assert success_rate(list(worst.values())) == 0.5
    with pytest.raises(ValueError, match="two or more"):
        interactive_ious([0.9, 0.4, 0.6], ["a", "a", "b"])


def test_degenerate_rows_of_a_set_of_boxes_are_what_their_areas_say():
    """The rows that the field's table gives for its sets, on boxes of known areas.

    With half of the pixels, a truth of area g is met with IoU min(g, ½)/max(g, ½): the ceiling
    at 0.5 is the share of areas from ¼ on, at 0.3 from 0.15 on. The whole image reaches g.
    """
    rng = np.random.default_rng(3)
    sides = np.sqrt(rng.uniform(0.02, 0.9, 60))
    corners = rng.uniform(0, 1, (60, 2)) * (1 - sides[:, None])
    boxes = [(x, y, x + side, y + side) for (x, y), side in zip(corners, sides, strict=True)]
    truths = [union_mask([box], 96, 96) for box in boxes]
    areas = np.array([truth.mean() for truth in truths])
    ceiling = [consensus_iou(binarise(ceiling_map(t), "median_ge"), t) for t in truths]
    np.testing.assert_allclose(ceiling, np.minimum(areas, 0.5) / np.maximum(areas, 0.5), rtol=1e-6)
    assert success_rate(ceiling) == pytest.approx(np.mean(areas >= 0.25))
    assert success_rate(ceiling, 0.3) == pytest.approx(np.mean(areas >= 0.15))
    whole = [consensus_iou(whole_image(96, 96), t) for t in truths]
    np.testing.assert_allclose(whole, areas, rtol=1e-6)
    disc = centred_disc(96, 96)
    inside = np.array([np.logical_and(disc, t > 0).sum() for t in truths])
    expected = inside / (disc.sum() + [t.sum() for t in truths] - inside)
    np.testing.assert_allclose([consensus_iou(disc, t) for t in truths], expected, rtol=1e-6)
    assert success_rate(ceiling) >= success_rate(expected)


def test_boxes_are_parsed_by_their_format_and_malformed_ones_listed():
    values = [[0.1, 0.2, 0.5, 0.6], [0.1, 0.2, -2.9e16, 0.3], [0.5, 0.5, 0.5, 0.9], [0.1], None]
    parsed = parse_boxes(values, "xyxy")
    assert parsed.boxes == ((0.1, 0.2, 0.5, 0.6),)
    assert len(parsed.malformed) == 4
    assert "-2.9e+16" in parsed.malformed[0]
    # The same numbers as widths reach further: the trap of the MUSIC boxes.
    (box,) = parse_boxes([[0.5, 0.6, 0.2, 0.3]], "xywh").boxes
    assert box == pytest.approx((0.5, 0.6, 0.7, 0.9))
    assert parse_boxes([[0.5, 0.6, 0.2, 0.3]], "xyxy").boxes == ()
    assert parse_boxes([[-0.01, 0, 256, 128]], "xyxy", (256, 256)).boxes == ((0, 0, 1, 0.5),)


def test_masks_follow_the_rounding_of_the_field():
    mask = union_mask([(0.25, 0.0, 0.5, 0.5), (0.4, 0.25, 0.6, 1.0)], 224, 224)
    assert mask[:112, 56:112].all()
    assert mask[56:, int(224 * 0.4) : int(224 * 0.6)].all()
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert not mask[:, 150:].any()
    agreed = consensus_mask([(0, 0, 0.5, 1), (0.25, 0, 0.75, 1), (0.25, 0, 0.5, 1)], 4, 8)
    np.testing.assert_array_equal(agreed[0], [0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 0.0, 0.0])


def brute_force_extended(ious, confidences, sounding):
    """Definitions, sample by sample."""

    def at(threshold):
        true = false = missed = 0
        for iou, confidence, is_sounding in zip(ious, confidences, sounding, strict=True):
            if confidence >= threshold:
                true += is_sounding and iou >= 0.5
                false += not (is_sounding and iou >= 0.5)
            else:
                missed += is_sounding
        return (
            true / (true + false) if true + false else 1.0,
            true / (true + missed) if true + missed else 1.0,
        )

    ranked = sorted(confidences)
    curve = [at(t) for t in ranked[:-1][:: -max(1, len(ranked) // 200)]]
    ap = sum(
        max(p for p, _ in curve[i:]) * (curve[i + 1][1] - curve[i][1])
        for i in range(len(curve) - 1)
    )
    points = [at(t) for t in ranked[:: max(1, len(ranked) // 10)]]
    f1 = max(2 * p * r / (p + r) if p + r else 0.0 for p, r in points)
    return ap, f1


@pytest.mark.parametrize(("seed", "num"), [(0, 12), (1, 57), (2, 450)])
def test_extended_scores_equal_their_definition(seed, num):
    rng = np.random.default_rng(seed)
    ious, sounding = rng.random(num), rng.random(num) < 0.5
    confidences = (rng.random(num) + 0.3 * sounding).round(2)
    scores = extended.extended_scores(ious, confidences, sounding)
    ap, f1 = brute_force_extended(ious, confidences, sounding)
    assert scores.ap == pytest.approx(ap, abs=1e-12)
    assert scores.max_f1 == pytest.approx(f1, abs=1e-12)
    assert scores.loc_acc == pytest.approx(np.mean(ious[sounding] >= 0.5))


def test_a_perfect_detector_loses_the_first_step_of_recall_alone():
    sounding = np.arange(400) < 200
    confidences = np.linspace(1, 0, 400)
    scores = extended.extended_scores(np.ones(400), confidences, sounding)
    assert scores.max_f1 == 1.0
    assert scores.ap == pytest.approx(1.0, abs=0.02)
    assert scores.ap < 1.0
    with pytest.raises(ValueError, match="no sounding"):
        extended.extended_scores(np.ones(2), np.ones(2), np.zeros(2, bool))
    with pytest.raises(ValueError, match="not finite"):
        extended.extended_scores(np.ones(2), np.array([1, np.nan]), np.ones(2, bool))


def test_confidence_is_the_mean_of_the_largest_quarter():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert extended.top_quarter_confidence(values) == pytest.approx((12 + 13 + 14 + 15) / 4)


@given(hnp.arrays(np.float64, (3, 3), elements=st.floats(0, 1)))
def test_hungarian_equals_scipy_and_beats_greedy(scores):
    assignment = pytest.importorskip("scipy.optimize").linear_sum_assignment

    def total(matching):
        answers = multi_source.match(scores, matching)
        assert sorted(answers) == [0, 1, 2]
        return sum(scores[i, j] for j, i in enumerate(answers))

    rows, columns = assignment(scores, maximize=True)
    assert total("hungarian") == pytest.approx(scores[rows, columns].sum())
    assert total("hungarian") >= total("greedy") - 1e-12
    assert multi_source.match(scores, "class_given") == [0, 1, 2]


def test_greedy_lets_the_first_map_choose():
    scores = np.array([[0.6, 0.5], [0.9, 0.0]])
    assert multi_source.match(scores, "greedy") == [0, 1]
    assert multi_source.match(scores, "hungarian") == [1, 0]


@pytest.mark.parametrize("matching", ["class_given", "greedy", "hungarian"])
def test_missing_maps_answer_for_nothing(matching):
    answers = multi_source.match(np.array([[0.2, 0.9, 0.1]]), matching)
    assert answers.count(None) == 2
    assert answers[0 if matching == "class_given" else 1] == 0
    more = multi_source.match(np.eye(3)[:, :2], matching)
    assert more == [0, 1]


def test_swapped_arguments_reward_a_random_half_map():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = union_mask([(0.1, 0.1, 0.4, 0.4)], 100, 100) > 0
    half = binarise(rng.random((100, 100), dtype=np.float32), "median_ge")
    swapped = multi_source.swapped_average_precision(half, truth)
    assert swapped == pytest.approx(0.5, abs=0.01)
    assert swapped == pytest.approx(
        sklearn_metrics.average_precision_score(half.ravel(), truth.ravel().astype(float))
    )
    plain = multi_source.binarised_average_precision(half, truth)
    assert plain == pytest.approx(
        sklearn_metrics.average_precision_score(truth.ravel(), half.ravel().astype(float))
    )
    assert plain < 0.15
    assert multi_source.swapped_average_precision(np.zeros_like(half), truth) == 0.0


def test_binarising_loses_what_the_ranking_knew():
    truth = np.zeros((10, 10), bool)
    truth[:2] = True
    values = ceiling_map(truth.astype(np.float32))
    assert average_precision(values, truth) == 1.0
    half = binarise(values, "median_ge")
    assert multi_source.binarised_average_precision(half, truth) == pytest.approx(20 / 50)


def test_dsol_scores_by_hand():
    values = np.array([[1.0, 0.3], [0.15, 0.0]], np.float32)
    truth = np.array([[True, True], [False, False]])
    for fraction, iou in ((0.1, 2 / 3), (0.2, 1.0), (0.5, 0.5)):
        predicted = binarise(values, "fraction_of_max", fraction)
        assert consensus_iou(predicted, truth.astype(np.float32)) == pytest.approx(iou)
    assert multi_source.silent_area(values) == 0.5


def test_f1_at_a_threshold_by_hand():
    ious, sounding = np.array([0.9, 0.9, 0.1, 0.9, 0.0]), np.array([1, 1, 1, 1, 0], bool)
    confidences = np.array([0.8, 0.4, 0.7, 0.5, 0.6])
    # Declared: samples 0, 2, 3, 4, of which 0 and 3 are hits; sample 1 is missed.
    precision, recall = 2 / 4, 2 / 3
    expected = 2 * precision * recall / (precision + recall)
    assert extended.f1_at(0.5, ious, confidences, sounding) == pytest.approx(expected)
    assert extended.f1_at(0.75, ious, confidences, sounding) == pytest.approx(0.4)
    assert extended.f1_at(0.65, np.zeros(5), confidences, sounding) == 0.0
