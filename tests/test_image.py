"""ResizeTransform of images on the model's grid and of heatmaps on the image."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.image import (
    MAX_ASPECT,
    ResizeTransform,
    _averaged,
    check_image,
    cut_out,
    peak_cell,
    resize_heatmap,
)

SIDES = st.integers(1, 5_000)


@given(SIDES, SIDES, st.integers(16, 512), st.sampled_from([4, 8, 14, 16, 32]))
def test_input_sides_fit_the_patch_and_the_field_of_view_is_whole(height, width, short, patch):
    placement = ResizeTransform.fit(height, width, short, patch)
    sides = (placement.input_height, placement.input_width)
    assert all(side % patch == 0 and side > 0 for side in sides)
    assert max(patch, short - patch) <= min(sides) <= max(patch, short + patch)
    assert max(sides) <= MAX_ASPECT * min(sides)
    assert (height <= width) == (sides[0] <= sides[1]) or sides[0] == sides[1]
    grid = (sides[0] // patch, sides[1] // patch)
    assert placement.to_image_xy(-0.5, -0.5, grid) == pytest.approx((-0.5, -0.5))
    far = placement.to_image_xy(grid[1] - 0.5, grid[0] - 0.5, grid)
    assert far == pytest.approx((width - 0.5, height - 0.5))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (224, 304)), ((1080, 1920), (224, 400)), ((1920, 1080), (400, 224))],
)
def test_aspect_ratio_is_kept_to_the_patch(size, expected):
    placement = ResizeTransform.fit(*size, 224, 16)
    assert (placement.input_height, placement.input_width) == expected


@given(
    SIDES,
    SIDES,
    st.integers(1, 64),
    st.integers(1, 64),
    st.floats(-0.5, 63.5),
    st.floats(-0.5, 63.5),
)
def test_cell_coordinates_round_trip(height, width, rows, columns, x, y):
    placement = ResizeTransform.fit(height, width, 128, 16)
    there = placement.to_image_xy(x, y, (rows, columns))
    assert placement.to_cell_xy(*there, (rows, columns)) == pytest.approx((x, y), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(30, 700), st.integers(30, 700), st.integers(0, 10**6))
def test_a_bright_object_is_found_where_it_is(height, width, seed):
    placement = ResizeTransform.fit(height, width, 96, 8)
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.25, 0.75, 2) * (height, width)
    rows, columns = np.mgrid[:height, :width]
    radius = min(height, width) / 5
    inside = np.hypot(rows - centre[0], columns - centre[1]) < radius
    image = np.repeat((inside * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    small = placement.apply(image)[:, :, 1].astype(np.float64)
    grid_rows, grid_columns = np.mgrid[: small.shape[0], : small.shape[1]]
    y_cell = (small * grid_rows).sum() / small.sum()
    x_cell = (small * grid_columns).sum() / small.sum()
    x_px, y_px = placement.to_image_xy(x_cell, y_cell, small.shape)
    expected = (np.argwhere(inside).mean(axis=0)).tolist()
    assert (y_px, x_px) == pytest.approx(expected, abs=0.02 * max(height, width) + 0.5)


def test_heatmap_peak_returns_to_the_image():
    heatmap = np.zeros((14, 19), np.float32)
    heatmap[3, 11] = 1.0
    placement = ResizeTransform.fit(480, 640, 224, 16)
    large = resize_heatmap(heatmap, 480, 640)
    row, column = np.unravel_index(int(large.argmax()), large.shape)
    expected = placement.to_image_xy(11, 3, heatmap.shape)
    assert (column, row) == pytest.approx(expected, abs=1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 200), st.integers(1, 200))
def test_resized_heatmap_stays_in_range_and_keeps_constants(rows, columns, height, width):
    heatmap = np.random.default_rng(rows).uniform(0.2, 0.9, (rows, columns)).astype(np.float32)
    large = resize_heatmap(heatmap, height, width)
    assert large.shape == (height, width)
    assert large.dtype == np.float32
    assert heatmap.min() <= large.min() <= large.max() <= heatmap.max()
    constant = np.full_like(heatmap, 0.3)
    assert (resize_heatmap(constant, height, width) == np.float32(0.3)).all()


def test_resize_has_half_pixel_centres():
    ramp = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_allclose(resize_heatmap(ramp, 1, 4)[0], [0.0, 0.25, 0.75, 1.0], atol=1e-6)


@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (1080, 1920), (481, 641), (300, 97)])
def test_shrinking_is_close_to_plain_area_averaging(size):
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(
        rng.integers(0, 255, (*size, 3), dtype=np.uint8), (0, 0), min(size) / 60
    )
    placement = ResizeTransform.fit(*size, 224, 8)
    input_size = (placement.input_width, placement.input_height)
    expected = cv2.resize(image, input_size, interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(placement.apply(image) - expected).mean() < 0.1 * expected.std()


def test_shrinking_averages_instead_of_aliasing():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[::2] = 200
    small = ResizeTransform.fit(400, 400, 40, 8).apply(stripes)
    assert np.abs(small.astype(int) - 100).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 5_000), (4_320, 7_680), (3, 2)])
def test_extreme_sizes_are_placed(size):
    image = np.full((*size, 3), 77, np.uint8)
    placement = ResizeTransform.fit(*size, 64, 16)
    small = placement.apply(image)
    assert small.shape == (placement.input_height, placement.input_width, 3)
    assert (small == 77).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_rgb_image_is_refused(image):
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8 RGB"):
        check_image(image)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"ResizeTransform\.fit"):
        ResizeTransform.fit(480, 640, 64, 16).apply(np.zeros((640, 480, 3), np.uint8))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 18),
    st.integers(1, 18),
    st.integers(1, 90),
    st.integers(1, 40),
    st.integers(1, 256),
    st.integers(0, 10**6),
)
def test_means_of_whole_factors_are_opencvs_to_the_bit(rows, columns, height, width, range_, seed):
    # Few grey levels give many means that lie halfway between two.
    rng = np.random.default_rng(seed)
    size = (rows * height, columns * width, 3)
    image = rng.integers(256 - range_, 256, size, dtype=np.uint8)
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    assert np.array_equal(_averaged(image, rows, columns), expected)


def test_a_camera_frame_is_resized_as_by_opencv_alone():
    image = np.random.default_rng(3).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    halved = cv2.resize(image, (320, 160), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(halved, (208, 160), interpolation=cv2.INTER_AREA)
    assert np.array_equal(ResizeTransform.fit(480, 640, 160, 16).apply(image), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (12, 20)])
def test_a_single_largest_value_is_the_peak(shape):
    values = np.random.default_rng(1).random(shape, np.float32)
    assert peak_cell(values) == np.unravel_index(values.argmax(), shape)


def test_of_a_region_the_peak_lies_inside():
    values = np.zeros((12, 20), np.float32)
    values[2, 3:18] = 0.75  # a rod,
    values[2:9, 3:10] = 0.75  # with a square below its left end
    values[10:, 12:] = 0.75  # and another region, which comes later
    assert peak_cell(values) == (5, 6)
    values[11, 15] = 0.8
    assert peak_cell(values) == (11, 15)
    assert peak_cell(np.ones((5, 5), np.float32)) == (2, 2)


def test_what_a_mask_marks_is_cut_out_on_grey():
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    mask = np.zeros((5, 7), bool)
    mask[1, 2] = mask[3, 5] = True
    thing = cut_out(image, mask)
    assert thing.shape == (3, 4, 3)
    assert (thing[0, 0] == image[1, 2]).all()
    assert (thing[2, 3] == image[3, 5]).all()
    assert (thing == 127).all(axis=2).sum() == 3 * 4 - 2
    with pytest.raises(ValueError, match="the mask marks nothing"):
        cut_out(image, np.zeros((5, 7), bool))
