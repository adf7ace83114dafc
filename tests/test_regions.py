import numpy as np
import pytest

from av_grounding.regions import (
    Regions,
    boxes_of,
    class_map,
    packed,
    painted,
    relative_scores,
    sound_map,
    unpacked,
)

MASKS = np.zeros((3, 4, 6), bool)
MASKS[0, :2], MASKS[1, 1:3, :3], MASKS[2, 1, 1] = True, True, True


def test_the_largest_value_that_covers_a_pixel_is_painted():
    picture = painted(MASKS, np.array([0.2, -0.5, 0.7]), -1.0)
    assert picture[0].tolist() == pytest.approx([0.2] * 6)
    assert picture[1].tolist() == pytest.approx([0.2, 0.7, 0.2, 0.2, 0.2, 0.2])
    assert picture[2].tolist() == pytest.approx([-0.5] * 3 + [-1.0] * 3)
    assert (picture[3] == -1.0).all()


def test_equation_4_is_relative_to_the_regions_and_not_to_pixels():
    # cos .2 beside .6: painted over -1 and normalised by pixels, the silent one would have .75.
    picture = sound_map(MASKS[:2], np.array([0.6, 0.2]))
    assert picture[0, 0] == 1.0
    assert picture[2, 0] == 0.0
    assert picture[3, 0] == 0.0
    np.testing.assert_allclose(relative_scores(np.array([1.0, 3.0, 2.0])), [0.0, 1.0, 0.5])
    # A single region, or equal ones, are as loud as can be.
    assert relative_scores(np.array([-0.3])).tolist() == [1.0]
    assert relative_scores(np.array([0.4, 0.4])).tolist() == [1.0, 1.0]


def test_equation_5_names_the_best_region_over_the_threshold():
    scores = np.array([0.95, 1.0, 0.0])
    picture = class_map(MASKS, scores, np.array([4, 7, 2]), threshold=0.9)
    assert picture[0].tolist() == [5] * 6
    assert picture[1].tolist() == [8, 8, 8, 5, 5, 5]  # the third scores 0: nothing
    assert picture[3].tolist() == [0] * 6
    # Exactly at the threshold is not above it; of equals the first counts.
    at = class_map(MASKS, np.array([0.0, 0.9, 1.0]), np.array([4, 7, 2]), threshold=0.9)
    assert at[2].tolist() == [0] * 6
    assert at[1, 1] == 3
    equal = class_map(MASKS, np.ones(3), np.array([4, 7, 2]))
    assert equal[1, 1] == 5


def test_boxes_are_shares_of_the_picture():
    boxes = boxes_of(np.concatenate([MASKS, np.zeros((1, 4, 6), bool)]))
    np.testing.assert_allclose(
        boxes,
        [[0, 0, 1, 0.5], [0, 0.25, 0.5, 0.75], [1 / 6, 0.25, 2 / 6, 0.5], [0, 0, 0, 0]],
        atol=1e-6,
    )


def test_packed_masks_come_back():
    masks = np.random.default_rng(0).random((5, 2, 7, 13)) > 0.5
    assert packed(masks).shape == (5, 2, 7, 2)
    np.testing.assert_array_equal(unpacked(packed(masks), 13), masks)


def test_scores_are_probabilities():
    regions = Regions(MASKS, np.array([0.0, 100.0, -100.0], np.float32), np.ones(3, np.float32))
    np.testing.assert_allclose(regions.scores, [0.5, 1.0, 0.0], atol=1e-6)
