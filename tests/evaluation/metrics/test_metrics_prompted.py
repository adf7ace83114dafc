"""Metrics against scikit-learn, against brute force, and against their own definitions."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from av_grounding.evaluation.metrics.pointing import gated_share, peak_hit, peak_leak
from av_grounding.evaluation.metrics.prompted import mean_iou, pooled_average_precision
from av_grounding.evaluation.metrics.ranking import average_precision

SHAPE = (6, 8)
# A coarse lattice makes ties common, which is where implementations differ.
MAPS = hnp.arrays(np.float32, SHAPE, elements=st.integers(0, 16).map(lambda i: i / 16))
MASKS = hnp.arrays(np.bool_, SHAPE)


def random_maps(seed, num, classes=("bell", "dog", "drum"), shape=(12, 16)):
    rng = np.random.default_rng(seed)
    maps = [rng.random(shape, dtype=np.float32).round(2) for _ in range(num)]
    masks = [rng.random(shape) < 0.2 for _ in range(num)]
    return maps, masks, [classes[i % len(classes)] for i in range(num)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("decimals", [1, 2, 7])
def test_average_precision_equals_scikit_learn(seed, decimals):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=400).astype(np.float32).round(decimals)
    target = rng.random(400) < rng.uniform(0.02, 0.9)
    target[0] = True
    expected = sklearn_metrics.average_precision_score(target, scores)
    assert average_precision(scores, target) == pytest.approx(expected, abs=1e-12)


def test_pooled_average_precision_equals_scikit_learn_per_class():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    maps, masks, classes = random_maps(3, 9)
    score = pooled_average_precision(maps, masks, classes)
    for name in set(classes):
        members = [i for i, other in enumerate(classes) if other == name]
        expected = sklearn_metrics.average_precision_score(
            np.stack([masks[i] for i in members]).ravel(),
            np.stack([maps[i] for i in members]).ravel(),
        )
        assert score.per_class[name] == pytest.approx(expected, abs=1e-12)
    assert score.mean == pytest.approx(np.mean(list(score.per_class.values())))


def test_average_precision_golden():
    # By hand: positives at ranks 1, 3 and 4 give (1/1 + 2/3 + 3/4) / 3.
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    target = np.array([True, False, True, True, False])
    assert average_precision(scores, target) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3, abs=1e-12)


@given(MAPS, MASKS)
def test_average_precision_properties(heatmap, mask):
    assume(mask.any())
    value = average_precision(heatmap, mask)
    assert 0.0 < value <= 1.0
    # Any strictly increasing function keeps the ranking, and so the value.
    assert average_precision(np.exp(3 * heatmap) - 7, mask) == pytest.approx(value, abs=1e-12)
    assert average_precision(mask.astype(np.float32), mask) == 1.0
    constant = average_precision(np.full(SHAPE, 0.25, np.float32), mask)
    assert constant == pytest.approx(mask.mean(), abs=1e-12)


def test_average_precision_refuses_what_has_no_answer():
    with pytest.raises(ValueError, match="without a positive"):
        average_precision(np.zeros(4), np.zeros(4, bool))
    with pytest.raises(ValueError, match="NaN"):
        average_precision(np.array([0.1, np.nan]), np.array([True, False]))


def test_pooling_compares_maps_of_one_class():
    # Each map ranks its own pixels perfectly; pooled, the second map's background outranks the
    # first map's object.
    mask = np.array([[True, False]])
    maps = [np.array([[0.2, 0.1]], np.float32), np.array([[0.9, 0.5]], np.float32)]
    pooled = pooled_average_precision(maps, [mask, mask], ["dog", "dog"]).mean
    assert pooled == pytest.approx((1 + 2 / 3) / 2)
    apart = pooled_average_precision(maps, [mask, mask], ["dog", "bell"])
    assert apart.per_class == {"dog": 1.0, "bell": 1.0}


def test_pooling_takes_images_of_different_size_and_skips_absent_classes():
    maps = [np.eye(3, dtype=np.float32), np.eye(5, dtype=np.float32), np.eye(4, dtype=np.float32)]
    masks = [np.eye(3, dtype=bool), np.eye(5, dtype=bool), np.zeros((4, 4), bool)]
    score = pooled_average_precision(maps, masks, ["a", "a", "never seen"])
    assert score == (1.0, {"a": 1.0})
    with pytest.raises(ValueError, match="one mask and one class"):
        pooled_average_precision(maps, masks[:2], ["a", "a", "b"])
    with pytest.raises(ValueError, match="resize the map"):
        pooled_average_precision(maps[:1], masks[1:2], ["a"])


def brute_force_iou(scores, target, threshold):
    predicted = scores > threshold
    return (predicted & target).sum() / (predicted | target).sum()


@pytest.mark.parametrize("seed", range(5))
def test_mean_iou_equals_brute_force(seed):
    maps, masks, classes = random_maps(seed, 9)
    for i, name in enumerate(classes):  # classes on different scales tell the two forms apart
        maps[i] = maps[i] * {"bell": 1.0, "dog": 0.3, "drum": 2.0}[name] + 0.3 * masks[i]
    pooled = {
        name: (
            np.stack([m for m, c in zip(maps, classes, strict=True) if c == name]),
            np.stack([m for m, c in zip(masks, classes, strict=True) if c == name]),
        )
        for name in sorted(set(classes))
    }
    per_class = {
        name: max(brute_force_iou(s, g, t) for t in np.linspace(s.min(), s.max(), 20))
        for name, (s, g) in pooled.items()
    }
    own = mean_iou(maps, masks, classes)
    assert own.per_class == pytest.approx(per_class, abs=1e-12)
    assert own.mean == pytest.approx(np.mean(list(per_class.values())))

    sweep = np.linspace(np.min(maps), np.max(maps), 20)
    shared = max(np.mean([brute_force_iou(s, g, t) for s, g in pooled.values()]) for t in sweep)
    assert mean_iou(maps, masks, classes, "oracle20_shared").mean == pytest.approx(
        shared, abs=1e-12
    )
    assert own.mean != pytest.approx(shared)


@given(MAPS, MASKS)
def test_mean_iou_properties(heatmap, mask):
    assume(mask.any() and not mask.all())
    value = mean_iou([heatmap], [mask], ["dog"]).mean
    assert 0.0 <= value <= 1.0
    assert mean_iou([4 * heatmap - 1], [mask], ["dog"]).mean == pytest.approx(value)
    assert mean_iou([mask.astype(np.float32)], [mask], ["dog"]).mean == 1.0
    # A constant map exceeds none of its thresholds.
    assert mean_iou([np.ones(SHAPE, np.float32)], [mask], ["dog"]).mean == 0.0


def test_mean_iou_names_its_protocols():
    with pytest.raises(ValueError, match="oracle20_per_class"):
        mean_iou([np.eye(2)], [np.eye(2, dtype=bool)], ["dog"], "median")


@given(MAPS, MASKS)
def test_peak_hit_is_the_expectation_over_ties(heatmap, mask):
    assume(heatmap.max() > heatmap.min())
    peaks = np.argwhere(heatmap == heatmap.max())
    expected = np.mean([mask[row, column] for row, column in peaks])
    assert peak_hit(heatmap, mask) == pytest.approx(expected)
    assert peak_hit(heatmap, mask) + peak_hit(heatmap, ~mask) == pytest.approx(1.0)


def test_peak_of_a_single_largest_pixel():
    heatmap = np.zeros((4, 5), np.float32)
    heatmap[2, 3] = 0.1
    mask = np.zeros((4, 5), bool)
    assert peak_hit(heatmap, mask) == 0.0
    mask[2, 3] = True
    assert peak_hit(heatmap, mask) == 1.0
    assert peak_hit(np.full((4, 5), 0.7, np.float32), ~mask) == 0.0


def test_leak_counts_the_other_object_alone():
    own = np.array([[True, True, False, False]])
    other = np.array([[False, True, True, False]])
    leaks = [peak_leak(np.eye(4, dtype=np.float32)[[i]], own, other) for i in range(4)]
    assert leaks == [0.0, 0.0, 1.0, 0.0]


def test_gated_share_is_strict():
    maps = [np.full((2, 2), value, np.float32) for value in (0.0, 0.49, 0.5, 0.9)]
    maps[0][1, 1] = 0.7
    assert gated_share(maps) == 0.25
    assert gated_share(maps, threshold=0.8) == 0.75
    with pytest.raises(ValueError, match="no maps"):
        gated_share([])
