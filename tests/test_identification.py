"""Sources told apart by what they look like, on features of known directions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.identification import (
    SourcesSpec,
    counting_features,
    find_seeds,
    num_heard,
    source_maps,
)

AXES = np.eye(6, dtype=np.float32)
WALL, BELL, DOG = AXES[0], AXES[1], AXES[2]


def scene(*objects, num_cells=40):
    """Cells of a wall, and of each object (look, similarity, number of cells) from the left."""
    features = np.tile(WALL[:, None], num_cells)
    similarity = np.zeros(num_cells, np.float32)
    start = 0
    for look, loudness, num in objects:
        features[:, start : start + num] = look[:, None]
        similarity[start : start + num] = loudness
        start += num
    return features, similarity


def test_as_many_maps_as_there_are_sources_the_loudest_first():
    features, similarity = scene((BELL, 0.7, 5), (DOG, 0.9, 4))
    maps = source_maps(features, similarity, SourcesSpec())
    assert maps.shape == (2, 40)
    assert maps[0].argmax() in range(5, 9)
    assert maps[1].argmax() in range(5)
    # Each is dark where the other one is.
    assert maps[0, :5].max() < 0.01
    assert maps[1, 5:9].max() < 0.01
    np.testing.assert_allclose(maps.max(axis=0)[:9], similarity[:9], atol=1e-2)


def test_two_parts_of_one_look_are_one_source():
    features, similarity = scene((BELL, 0.7, 3), (WALL, 0.0, 4), (BELL, 0.8, 3))
    maps = source_maps(features, similarity, SourcesSpec())
    assert maps.shape == (1, 40)
    assert maps[0, :3].min() > 0.6
    assert maps[0, 7:10].min() > 0.7


def test_looks_that_are_a_little_alike_are_merged_by_their_cosine():
    half_bell = (0.8 * BELL + 0.6 * AXES[3]).astype(np.float32)
    features, similarity = scene((BELL, 0.9, 4), (half_bell, 0.8, 4))
    # Nearer to the bell than to the wall: its region already.
    assert len(source_maps(features, similarity, SourcesSpec())) == 1


@pytest.mark.parametrize("num", [1, 2, 3])
def test_a_given_number_is_kept_as_far_as_there_is_something_left(num):
    features, similarity = scene((BELL, 0.7, 5), (DOG, 0.9, 4))
    spec = SourcesSpec(num_sources=num)
    maps = source_maps(features, similarity, spec)
    assert maps.shape == (num, 40)
    seeds, _ = find_seeds(features, similarity, spec)
    assert len(set(seeds)) == len(seeds) >= num


def test_the_rim_of_one_source_is_not_the_second_of_two():
    rim = (0.5 * BELL + 0.55 * WALL + 0.67 * AXES[3]).astype(np.float32)
    features, similarity = scene((BELL, 0.9, 5), (rim, 0.7, 2), (DOG, 0.6, 4))
    spec = SourcesSpec(num_sources=2, same_cosine=0.45, silent_cosine=0.9)
    seeds, _ = find_seeds(features, similarity, spec)
    assert 5 in seeds  # further from the bell than from the wall: a candidate by itself
    maps = source_maps(features, similarity, spec)
    assert [
        int(one.argmax()) in range(*place)
        for one, place in zip(maps, ((0, 5), (7, 11)), strict=True)
    ] == [True, True]
    assert len(source_maps(features, similarity, SourcesSpec(num_sources=3))) == 3


def test_two_of_one_look_are_parted_where_two_are_asked_for():
    features, similarity = scene((BELL, 0.7, 3), (WALL, 0.0, 4), (DOG, 0.8, 3))
    half = SourcesSpec(num_sources=2, same_cosine=-1.0)
    assert len(source_maps(features, similarity, half)) == 2


def test_silence_and_what_looks_like_it_is_no_source():
    features, similarity = scene((BELL, 0.05, 5))
    np.testing.assert_array_equal(
        source_maps(features, similarity, SourcesSpec()), similarity[None]
    )
    features, similarity = scene((WALL, 0.9, 5), (DOG, 0.8, 4))
    maps = source_maps(features, similarity, SourcesSpec())
    assert len(maps) == 1
    assert maps[0].argmax() in range(5, 9)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), num=st.integers(0, 4))
def test_maps_never_exceed_the_similarity_and_come_by_their_peaks(seed, num):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((6, 30)).astype(np.float32)
    similarity = rng.uniform(-1, 1, 30).astype(np.float32)
    maps = source_maps(features, similarity, SourcesSpec(num_sources=num))
    assert 1 <= len(maps) <= 4
    assert maps.dtype == np.float32
    assert (maps <= similarity + 1e-6).all()
    peaks = maps.max(axis=1)
    assert (np.diff(peaks) <= 0).all()
    np.testing.assert_array_equal(
        maps, source_maps(features.copy(), similarity.copy(), SourcesSpec(num_sources=num))
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_sources": 0}, "max_sources is 0; expected a whole number from 1 to 8"),
        ({"num_sources": 5}, "5 sources asked for; expected at most 4"),
        ({"same_cosine": 2.0}, "same_cosine is 2.0; expected a number from -1 to 1"),
        ({"mask_width": 0.0}, "mask_width is 0.0; expected a number from 1e-06"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SourcesSpec(**values)


def by_ear(*rows, **changes):
    return SourcesSpec(counting=rows, **changes)


def test_as_many_as_are_heard_where_nobody_says_how_many():
    # Of vectors of two: one source along the first axis, two between the axes.
    one, two = (1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 1.4, 0.0, 0.0, 0.0)
    alone, both = np.array([3.0, 0.1], np.float32), np.array([0.2, 0.2], np.float32)
    np.testing.assert_allclose(counting_features(both), [0.5**0.5] * 4 + [1.0])
    assert num_heard(alone, (one, two)) == 1
    assert num_heard(both, (one, two)) == 2
    spec = by_ear(one, two)
    assert spec.counted(both).num_sources == 2
    assert by_ear(one, two, num_sources=1).counted(both).num_sources == 1
    assert SourcesSpec().counted(both) == SourcesSpec()
    with pytest.raises(ValueError, match="rows of 5 numbers; expected 7 for vectors of 3"):
        spec.counted(np.ones(3, np.float32))


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (((0.0,) * 4,), r"counting has 1 rows of \[4\] numbers"),
        (((0.0,) * 3, (0.0,) * 5), r"counting has 2 rows of \[3, 5\] numbers"),
        (((0.0,) * 3,) * 5, "counting has 5 rows"),
        (((0.0, float("nan"), 1.0),), "counting holds what is no finite number"),
    ],
)
def test_weights_that_count_nothing_are_refused(rows, match):
    with pytest.raises(ValueError, match=match):
        SourcesSpec(counting=rows)
