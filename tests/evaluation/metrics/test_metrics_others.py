"""AVSBench, AVSS, retrieval, disentanglement, recognition and separation by other means."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.evaluation.metrics import retrieval, segmentation, semantic
from av_grounding.evaluation.metrics.separation import (
    is_silent,
    scale_invariant_sdr,
    separation_scores,
)


def test_frame_iou_and_its_rule_for_empty_frames():
    truth = np.array([[True, True, False, False]])
    predicted = np.array([[True, False, True, False]])
    assert segmentation.frame_iou(predicted, truth) == pytest.approx(1 / 3, abs=1e-6)
    assert segmentation.frame_iou(truth, truth) == pytest.approx(1.0)
    nothing = np.zeros_like(truth)
    assert segmentation.frame_iou(predicted, nothing) == pytest.approx(0.5, abs=1e-6)
    assert segmentation.frame_iou(nothing, nothing) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_f_measure_equals_scikit_learn_at_every_threshold(seed):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    probabilities = rng.random((20, 15), dtype=np.float32)
    truth = rng.random((20, 15)) < 0.3
    curve = segmentation.f_measure_curve(probabilities, truth)
    for i in (0, 1, 60, 128, 200, 253):
        predicted = probabilities.astype(np.float64) >= segmentation.F_THRESHOLDS[i]
        expected = sklearn_metrics.fbeta_score(
            truth.ravel(), predicted.ravel(), beta=0.3**0.5, zero_division=0
        )
        assert curve[i] == pytest.approx(expected, abs=1e-12)
    assert segmentation.f_measure_curve(truth.astype(np.float32), truth).max() == 1.0


def test_f_of_videos_and_of_the_set_differ_as_they_should():
    curves = np.zeros((3, 255))
    curves[0, 10] = curves[1, 10] = 0.8
    curves[2, 200] = 0.6
    per_video = segmentation.f_measure_per_video(curves, ["a", "a", "b"])
    assert per_video == {"a": pytest.approx(0.8), "b": pytest.approx(0.6)}
    assert segmentation.f_measure_of_set(curves) == pytest.approx(1.6 / 3)


def test_semantic_scores_equal_scikit_learn_frame_by_frame():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truths, predictions = rng.integers(0, 4, (2, 5, 12, 10))
    truths[0][truths[0] == 3] = 0
    predictions[0][predictions[0] == 3] = 0
    frames = [semantic.frame_counts(p, t, 6) for p, t in zip(predictions, truths, strict=True)]
    scores = semantic.semantic_scores(frames)
    sums, counts = np.zeros(6), np.zeros(6)
    for p, t in zip(predictions, truths, strict=True):
        present = np.union1d(p, t)
        sums[present] += sklearn_metrics.jaccard_score(
            t.ravel(), p.ravel(), labels=present, average=None
        )
        counts[present] += 1
    assert counts.tolist() == [5, 5, 5, 4, 0, 0]
    expected = sums[:4] / counts[:4]
    np.testing.assert_allclose(scores.iou_per_class[:4], expected, atol=1e-12)
    assert np.isnan(scores.iou_per_class[4:]).all()
    assert scores.miou_present == pytest.approx(expected.mean())
    assert scores.miou == pytest.approx(expected.sum() / 6)
    perfect = semantic.semantic_scores([semantic.frame_counts(t, t, 4) for t in truths])
    assert perfect.miou == perfect.f == 1.0
    with pytest.raises(ValueError, match="expected 0 to 3"):
        semantic.frame_counts(np.full((2, 2), 4), np.zeros((2, 2), int), 4)


@given(hnp.arrays(np.float64, (6, 6), elements=st.floats(-5, 5)))
def test_recall_equals_ranking_and_grows_with_k(similarity):
    values = [retrieval.recall_at(similarity, k) for k in range(1, 7)]
    assert values == sorted(values)
    assert values[-1] == 1.0
    for k in (1, 3):
        expected = np.mean([sum(similarity[i] >= similarity[i, i]) <= k for i in range(6)])
        assert retrieval.recall_at(similarity, k) == pytest.approx(expected)


def test_recall_directions_and_ties():
    # Every image prefers clip 0; every clip prefers its own image.
    similarity = np.array([[3.0, 1.0, 1.0], [2.5, 2.0, 1.0], [2.6, 1.0, 2.0]])
    scores = retrieval.recalls(similarity)
    assert scores["i2a_r1"] == pytest.approx(1 / 3)
    assert scores["a2i_r1"] == 1.0
    assert retrieval.recall_at(np.zeros((20, 20)), 10) == 0.0
    partners = np.eye(3, dtype=bool)
    partners[1, 0] = True
    assert retrieval.recall_at(similarity, 1, partners=partners) == pytest.approx(2 / 3)


def test_disentanglement_by_hand_and_under_swapped_heads():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    is_second = np.arange(40) >= 20
    scores = rng.random((40, 2))
    scores[:20, 0] += 0.4
    scores[20:, 1] += 0.6
    value = retrieval.disentanglement(scores, is_second)
    scaled = (scores - scores.min(0)) / (scores.max(0) - scores.min(0))
    ap = sklearn_metrics.average_precision_score
    straight = ap(~is_second, scaled[:, 0]) + ap(is_second, scaled[:, 1])
    assert value.pred_dis == pytest.approx(straight / 2, abs=1e-3)
    quiet = (1 - scaled[20:, 0].mean()) + (1 - scaled[:20, 1].mean())
    assert value.act_dis == pytest.approx(quiet / 2, abs=1e-3)
    assert retrieval.disentanglement(scores[:, ::-1], is_second) == pytest.approx(value)
    perfect = retrieval.disentanglement(np.eye(2)[is_second.astype(int)], is_second)
    assert perfect == pytest.approx((1.0, 1.0), abs=1e-3)
    with pytest.raises(ValueError, match="one kind"):
        retrieval.disentanglement(scores, np.ones(40, bool))


def test_neighbours_equal_scikit_learn():
    neighbours = pytest.importorskip("sklearn.neighbors").KNeighborsClassifier
    rng = np.random.default_rng(0)
    features, others = rng.normal(size=(2, 40, 8))
    classes = [f"c{i % 4}" for i in range(40)]
    knn = neighbours(1, metric="cosine").fit(others, classes)
    across = retrieval.nearest_neighbour_accuracy(
        features, others, classes, classes, excludes_self=False
    )
    assert across == pytest.approx(np.mean(knn.predict(features) == np.array(classes)))
    # Without leaving itself out every sample would recognise itself.
    within = [
        retrieval.nearest_neighbour_accuracy(
            features, features, classes, classes, excludes_self=excludes
        )
        for excludes in (True, False)
    ]
    assert within[1] == 1.0
    assert within[0] < 0.6


def test_separation_equals_mir_eval():
    mir_eval = pytest.importorskip("mir_eval.separation")
    rng = np.random.default_rng(0)
    references = rng.normal(size=(2, 3000))
    references[0] = np.convolve(references[0], np.hanning(20), "same")
    estimates = references + 0.3 * references[::-1] + 0.1 * rng.normal(size=(2, 3000))
    with pytest.warns(FutureWarning):
        sdr, sir, sar, _ = mir_eval.bss_eval_sources(
            references, estimates, compute_permutation=False
        )
    scores = separation_scores(references, estimates)
    np.testing.assert_allclose(scores.sdr, sdr, atol=1e-6)
    np.testing.assert_allclose(scores.sir, sir, atol=1e-6)
    np.testing.assert_allclose(scores.sar, sar, atol=1e-6)


@settings(max_examples=10)
@given(st.floats(0.1, 10.0), st.integers(0, 7))
def test_separation_forgives_gain_and_delay(gain, delay):
    rng = np.random.default_rng(delay)
    references = rng.normal(size=(2, 600))
    estimates = references + 0.5 * references[::-1]
    plain = separation_scores(references, estimates, num_taps=16)
    louder = separation_scores(references, gain * estimates, num_taps=16)
    np.testing.assert_allclose(louder.sdr, plain.sdr, atol=1e-6)
    delayed = np.pad(references, ((0, 0), (delay, 0)))[:, :600]
    exact = separation_scores(references, delayed, num_taps=16)
    assert exact.sdr.min() > (100 if delay == 0 else 15)
    assert plain.sdr.max() < 8


def test_answers_scored_together_score_as_each_alone():
    rng = np.random.default_rng(0)
    references = rng.normal(size=(3, 400))
    answers = references + rng.normal(size=(2, 2, 3, 400))
    together = separation_scores(references, answers, num_taps=16)
    si_sdr = scale_invariant_sdr(references, answers)
    assert si_sdr.shape == together.sdr.shape == (2, 2, 3)
    for place in np.ndindex(2, 2):
        alone = separation_scores(references, answers[place], num_taps=16)
        for metric in alone._fields:
            found = getattr(together, metric)[place]
            np.testing.assert_allclose(found, getattr(alone, metric), atol=1e-9)
        np.testing.assert_allclose(
            si_sdr[place], scale_invariant_sdr(references, answers[place]), atol=1e-9
        )


def test_separation_without_an_error_is_infinite():
    reference = np.array([[1.0, 0.0, 0.0, 0.0]])
    assert scale_invariant_sdr(reference, 2.0 * reference) == [np.inf]


def test_separation_refuses_what_has_no_ratio():
    noise = np.random.default_rng(0).normal(size=(2, 100))
    with pytest.raises(ValueError, match="zeros alone"):
        separation_scores(np.stack([noise[0], np.zeros(100)]), noise, 4)
    with pytest.raises(ValueError, match="one shape"):
        separation_scores(noise, noise[:, :50], 4)
    with pytest.raises(ValueError, match="not finite"):
        separation_scores(noise, np.where(noise > 2, np.nan, noise), 4)
    assert is_silent(np.full(100, 1e-6))
    assert not is_silent(noise[0])


def test_recall_in_galleries_is_that_of_smaller_sets():
    rng = np.random.default_rng(0)
    similarity = np.eye(300) + 0.4 * rng.standard_normal((300, 300))
    whole, small = (
        retrieval.recall_at(similarity, 1), retrieval.recall_in_galleries(similarity, 30)
    )  # fmt: skip
    assert whole + 0.1 < small < 1.0
    assert retrieval.recall_in_galleries(similarity, 300, num=1) == whole
    assert retrieval.recall_in_galleries(similarity, 30) == small
    with pytest.raises(ValueError, match="galleries of 301 from 300 pairs"):
        retrieval.recall_in_galleries(similarity, 301)
