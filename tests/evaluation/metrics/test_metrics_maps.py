"""Maps against PyTorch's and OpenCV's interpolation; thresholds against sorting; the ceiling."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_grounding.evaluation.metrics.localisation import consensus_iou
from av_grounding.evaluation.metrics.maps import (
    binarise,
    ceiling_map,
    centred_disc,
    min_max,
    upsample,
)

MAPS = hnp.arrays(np.float32, (4, 6), elements=st.integers(0, 16).map(lambda i: i / 16))
SIZES = [((14, 14), (224, 224)), ((7, 9), (61, 40)), ((1, 3), (5, 8)), ((12, 12), (5, 6))]


@pytest.mark.parametrize(("grid", "size"), SIZES)
def test_upsampling_equals_pytorch_and_opencv(grid, size):
    import cv2
    import torch

    values = np.random.default_rng(0).normal(size=grid).astype(np.float32)
    as_torch = torch.from_numpy(values)[None, None]
    modes = {
        "bilinear": {"mode": "bilinear", "align_corners": False},
        "bilinear_aligned": {"mode": "bilinear", "align_corners": True},
        "bicubic_aligned": {"mode": "bicubic", "align_corners": True},
    }
    for method, options in modes.items():
        expected = torch.nn.functional.interpolate(as_torch, size=size, **options)[0, 0].numpy()
        np.testing.assert_allclose(upsample(values, *size, method), expected, atol=2e-5)
    linear = cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(upsample(values, *size, "bilinear"), linear, atol=2e-5)


def test_a_map_of_the_right_size_stays_itself():
    values = np.random.default_rng(1).random((5, 7), dtype=np.float32)
    for method in ("bilinear", "bilinear_aligned", "bicubic_aligned"):
        np.testing.assert_allclose(upsample(values, 5, 7, method), values, atol=1e-6)
    with pytest.raises(ValueError, match="non-empty"):
        upsample(values, 0, 9, "bilinear")


@given(MAPS)
def test_thresholds_are_order_statistics(values):
    ranked = np.sort(values.ravel())
    np.testing.assert_array_equal(binarise(values, "median_gt"), values > ranked[12])
    np.testing.assert_array_equal(binarise(values, "median_ge"), values >= ranked[12])
    assert binarise(values, "median_gt").sum() <= 12 <= binarise(values, "median_ge").sum()
    for area in (1, 5, 24):
        chosen = binarise(values, "top_area", num_truth=area)
        np.testing.assert_array_equal(chosen, values > ranked[24 - area])
        assert chosen.sum() < area
    assert not binarise(values, "top_area", num_truth=0).any()
    np.testing.assert_array_equal(binarise(values, "absolute", 0.5), values >= 0.5)
    np.testing.assert_array_equal(
        binarise(values, "fraction_of_max", 0.2), values > 0.2 * values.max()
    )


@given(MAPS)
def test_median_and_area_rules_look_at_ranks_alone(values):
    for kind in ("median_gt", "median_ge", "top_area"):
        np.testing.assert_array_equal(
            binarise(values, kind, num_truth=5), binarise(np.exp(2 * values), kind, num_truth=5)
        )


@given(MAPS)
def test_min_max_fills_the_unit_range(values):
    scaled = min_max(values)
    assert scaled.dtype == np.float32
    if values.min() == values.max():
        assert not scaled.any()
    else:
        assert (scaled.min(), scaled.max()) == (0.0, 1.0)
        np.testing.assert_array_equal(
            np.argsort(scaled, axis=None, kind="stable"),
            np.argsort(values, axis=None, kind="stable"),
        )


def test_disc_is_half_of_the_image_around_its_centre():
    disc = centred_disc(30, 40)
    assert disc.sum() == 600
    assert disc[15, 20]
    assert not disc[0, 0]
    assert not disc[29, 39]
    with pytest.raises(ValueError, match="read-only"):
        disc[0, 0] = True


@given(
    hnp.arrays(np.float32, (4, 6), elements=st.sampled_from([0.0, 0.5, 1.0])),
    MAPS,
    st.sampled_from(["median_gt", "median_ge"]),
)
def test_no_map_beats_the_ceiling(truth, values, kind):
    if not truth.any():
        return
    # Ties would let a map choose another number of pixels than the rule means.
    values = values + np.arange(24, dtype=np.float32).reshape(4, 6) * 1e-4
    best = consensus_iou(binarise(ceiling_map(truth), kind), truth)
    assert consensus_iou(binarise(values, kind), truth) <= best + 1e-12


def test_ceiling_map_is_the_truth_where_the_rule_allows_it():
    truth = np.zeros((8, 8), np.float32)
    truth[2:5, 3:7] = 1.0
    best = ceiling_map(truth)
    assert np.unique(best).size == 64
    for kind, amount in (("absolute", 0.5), ("fraction_of_max", 0.1), ("absolute", 0.3)):
        np.testing.assert_array_equal(binarise(best, kind, amount), truth > 0)
