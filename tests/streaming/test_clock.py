"""Stamps to samples: jitter, drift, gaps, overlaps, jumps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.streaming.clock import ChunkPlacement, SampleClock

RATE_HZ = 48_000
CHUNK = 960
START_NS = 1_700_000_000_123_456_789


def stamps(num_chunks, rng=None, jitter_s=0.0, drift_ppm=0.0, chunk=CHUNK):
    true_s = np.arange(num_chunks) * chunk / RATE_HZ * (1 + drift_ppm * 1e-6)
    if rng is not None:
        true_s = true_s + rng.uniform(-jitter_s, jitter_s, num_chunks)
    return [START_NS + round(second * 1e9) for second in true_s]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.001, 0.029))
def test_jitter_moves_no_sample_and_averages_out(seed, jitter_s):
    clock = SampleClock(RATE_HZ)
    for stamp in stamps(600, np.random.default_rng(seed), jitter_s):
        assert clock.place(stamp, CHUNK) == ChunkPlacement()
    assert clock.num_samples == 600 * CHUNK
    true_ns = START_NS + 11 * 10**9
    assert abs(clock.stamp_ns_at(11 * RATE_HZ) - true_ns) < jitter_s * 1e9 / 3


@pytest.mark.parametrize("drift_ppm", [-120.0, 0.0, 80.0])
def test_drift_is_found_and_is_no_gap(drift_ppm):
    clock = SampleClock(RATE_HZ)
    all_stamps = stamps(2_000, np.random.default_rng(1), 0.002, drift_ppm)
    for stamp in all_stamps:
        assert clock.place(stamp, CHUNK) == ChunkPlacement()
    assert clock.drift_ppm == pytest.approx(drift_ppm, abs=25.0)
    true_last = stamps(2_000, drift_ppm=drift_ppm)[-1]
    assert abs(clock.stamp_ns_at(1_999 * CHUNK) - true_last) < 1_500_000


def test_index_and_stamp_are_inverse():
    clock = SampleClock(RATE_HZ)
    for stamp in stamps(800, np.random.default_rng(2), 0.004, 60.0):
        clock.place(stamp, CHUNK)
    assert clock.drift_ppm != 0.0
    for seconds in (-5.0, 0.0, 0.1234567, 3.3, 16.0, 50.0):
        index = seconds * RATE_HZ
        assert clock.index_at(clock.stamp_ns_at(index)) == pytest.approx(index, abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 96_000))
def test_timeline_does_not_depend_on_the_cut(chunk):
    clock = SampleClock(RATE_HZ)
    for stamp in stamps(max(2, 200_000 // chunk), chunk=chunk)[:200]:
        assert clock.place(stamp, chunk) == ChunkPlacement()
    assert clock.index_at(START_NS + 10**9) == pytest.approx(RATE_HZ, abs=1e-2)


def test_a_gap_is_measured_and_the_timeline_goes_on():
    clock = SampleClock(RATE_HZ)
    all_stamps = stamps(100)
    for stamp in all_stamps[:50]:
        clock.place(stamp, CHUNK)
    assert clock.place(all_stamps[60], CHUNK) == ChunkPlacement(num_gap=10 * CHUNK)
    assert clock.place(all_stamps[61], CHUNK) == ChunkPlacement()
    assert clock.num_samples == 62 * CHUNK
    assert clock.stamp_ns_at(62 * CHUNK) == pytest.approx(all_stamps[62], abs=10)


def test_a_gap_in_long_chunks_is_found_too():
    clock = SampleClock(RATE_HZ)
    clock.place(START_NS, 2 * RATE_HZ)
    gap = clock.place(START_NS + 2_500_000_000, 2 * RATE_HZ).num_gap
    assert gap == RATE_HZ // 2


def test_an_overlap_leaves_out_what_came_twice():
    clock = SampleClock(RATE_HZ)
    for stamp in stamps(50):
        clock.place(stamp, CHUNK)
    second_ns = START_NS + 10**9
    overlapping = clock.place(second_ns - 100_000_000, RATE_HZ // 2)
    assert overlapping.num_overlap == 0  # within the tolerance of so long a chunk: jitter
    clock = SampleClock(RATE_HZ)
    clock.place(START_NS, RATE_HZ)
    assert clock.place(second_ns - 400_000_000, RATE_HZ) == ChunkPlacement(
        num_overlap=round(0.4 * RATE_HZ)
    )
    assert clock.num_samples == round(1.6 * RATE_HZ)


def test_chunks_sent_again_are_left_out_whole():
    clock = SampleClock(RATE_HZ)
    all_stamps = stamps(60)
    for stamp in all_stamps[:50]:
        clock.place(stamp, CHUNK)
    for stamp in all_stamps[40:46]:
        assert clock.place(stamp, CHUNK) == ChunkPlacement(num_overlap=CHUNK)
    assert clock.num_samples == 50 * CHUNK
    assert clock.place(all_stamps[50], CHUNK) == ChunkPlacement()


@pytest.mark.parametrize("jump_s", [-3_600.0, -1.5, 11.0, 1e6])
def test_a_jump_starts_over_and_does_not_advance(jump_s):
    clock = SampleClock(RATE_HZ)
    for stamp in stamps(200):
        clock.place(stamp, CHUNK)
    jumped = stamps(201)[-1] + round(jump_s * 1e9)
    assert clock.place(jumped, CHUNK) == ChunkPlacement(starts_over=True)
    assert clock.num_samples == 200 * CHUNK


def test_a_stamp_that_stands_still_loses_nothing():
    clock = SampleClock(RATE_HZ)
    for _ in range(300):
        assert clock.place(START_NS, CHUNK) == ChunkPlacement()
    assert clock.num_samples == 300 * CHUNK


def test_a_known_origin_shows_a_gap_before_the_first_chunk():
    clock = SampleClock(RATE_HZ, first_stamp_ns=START_NS)
    assert clock.place(START_NS + 500_000_000, CHUNK).num_gap == RATE_HZ // 2
