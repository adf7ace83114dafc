"""Tokens on the time axis, and the linearity identity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.streaming.aggregator import TokenAggregator, context_weights
from av_grounding.streaming.pooling import pool, recency_weights, salience, salient_weights
from av_grounding.types import HeadSpec, ModelSpec
from tests.helpers.tiny_backend import TinyBackend


def make_spec(num_tokens=10, window_s=1.0, hop_s=0.2, context_s=0.2, token_spacing_s=0.0):
    return ModelSpec(
        heads=(HeadSpec("sound"), HeadSpec("speech", "utterance")),
        sample_rate_hz=16_000,
        window_s=window_s,
        hop_s=hop_s,
        num_tokens=num_tokens,
        short_side_px=32,
        patch_px=8,
        context_s=context_s,
        token_spacing_s=token_spacing_s,
    )


def test_context_weights_are_a_trapezoid():
    weights = context_weights(make_spec(10, context_s=0.3), 0.1)
    expected = 0.1 + 0.9 * np.array([0.05, 0.15, 0.25, 0.3, 0.3, 0.3, 0.3, 0.25, 0.15, 0.05]) / 0.3
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    np.testing.assert_array_equal(context_weights(make_spec(4, context_s=0.0), 0.1), np.ones(4))


def test_tokens_that_do_not_fill_the_window_keep_their_places():
    # As HuBERT's: 10 s hold 55 tokens of 180 ms, and 100 ms are left over at the end.
    spec = make_spec(num_tokens=55, window_s=10.0, context_s=0.0, token_spacing_s=0.18)
    assert spec.token_stride_s == 0.18
    aggregator = TokenAggregator(spec, 1, history_s=20.0)
    tokens = np.zeros((2, 1, 55), np.float32)
    tokens[:, :, 50] = 1.0  # centred at 9.09 s of the window
    aggregator.add_window(tokens, 160_000)
    slots = aggregator.read()
    np.testing.assert_array_equal(np.flatnonzero(slots.vectors[0, :, 0]), [50])
    assert slots.centres[50] / 16_000 == pytest.approx(9.09)
    aggregator.add_window(np.roll(tokens, -10, axis=2), 160_000 + 10 * 2880)
    again = aggregator.read()
    assert aggregator.end == 65
    np.testing.assert_array_equal(np.flatnonzero(again.vectors[0, :, 0]), [50])


@settings(max_examples=40, deadline=None)
@given(
    hop=st.integers(500, 16_000),
    num_tokens=st.integers(3, 30),
    num_windows=st.integers(1, 12),
    seed=st.integers(0, 10**6),
)
def test_slots_hold_the_weighted_mean_of_their_tokens(hop, num_tokens, num_windows, seed):
    spec = make_spec(num_tokens)
    rng = np.random.default_rng(seed)
    aggregator = TokenAggregator(spec, 3, history_s=2.0)
    weights = context_weights(spec, 0.1)
    stride = 16_000 / num_tokens
    tokens_of, weights_of = {}, {}
    for window in range(1, num_windows + 1):
        tokens = rng.standard_normal((2, 3, num_tokens)).astype(np.float32)
        aggregator.add_window(tokens, window * hop)
        for i in range(num_tokens):
            centre = window * hop - 16_000 + (i + 0.5) * stride
            slot = int(np.floor(centre / stride + 1e-6))
            if slot >= 0:
                tokens_of.setdefault(slot, []).append(tokens[:, :, i])
                weights_of.setdefault(slot, []).append(weights[i])
    slots = aggregator.read()
    assert aggregator.end == max(tokens_of, default=-1) + 1
    first = aggregator.end - slots.trust.size
    assert slots.trust.size == min(aggregator.end, 2 * num_tokens)
    for i in range(slots.trust.size):
        if first + i not in tokens_of:
            assert slots.trust[i] == 0.0
            continue
        mean = np.average(tokens_of[first + i], axis=0, weights=weights_of[first + i])
        np.testing.assert_allclose(slots.vectors[:, i], mean, atol=1e-5)
        assert slots.trust[i] == pytest.approx(min(1.0, sum(weights_of[first + i])), rel=1e-5)
        assert slots.centres[i] == pytest.approx((first + i + 0.5) * stride)


def test_padding_before_the_first_sample_makes_no_slots():
    aggregator = TokenAggregator(make_spec(), 3, history_s=2.0)
    aggregator.add_window(np.ones((2, 3, 10), np.float32), 3_200)
    slots = aggregator.read()
    assert slots.trust.size == 2
    assert slots.bounds.tolist() == [0.0, 1_600.0, 3_200.0]


def test_reset_forgets():
    aggregator = TokenAggregator(make_spec(), 3, history_s=2.0)
    aggregator.add_window(np.ones((2, 3, 10), np.float32), 16_000)
    aggregator.reset()
    assert aggregator.read().trust.size == 0
    aggregator.add_window(np.full((2, 3, 10), 3.0, np.float32), 3_200)
    np.testing.assert_allclose(aggregator.read().vectors, 3.0)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), num_tokens=st.integers(1, 40), grid=st.integers(1, 12))
def test_pooled_vector_gives_the_time_mean_of_the_volume(seed, num_tokens, grid):
    rng = np.random.default_rng(seed)
    backend = TinyBackend(seed=seed)
    image = rng.integers(0, 256, (8 * grid, 16 * grid, 3), dtype=np.uint8)
    image_tokens = backend.encode_image(image)
    vectors = rng.standard_normal((2, num_tokens, 6)).astype(np.float32)
    weights = rng.uniform(0.0, 1.0, num_tokens).astype(np.float32) + np.float32(1e-3)
    volume = backend.similarity(image_tokens, vectors)
    for head in range(2):
        pooled = np.zeros((2, 1, 6), np.float32)
        pooled[head, 0] = pool(vectors[head], weights).vectors[0]
        identity = backend.similarity(image_tokens, pooled)[head, 0]
        mean = np.average(volume[head], axis=0, weights=weights)
        np.testing.assert_allclose(identity, mean, atol=1e-5)


def test_nothing_to_pool_is_none():
    assert pool(np.ones((3, 4), np.float32), np.zeros(3, np.float32)) is None


def test_recency_decays_with_its_time_constant():
    weights = recency_weights(np.array([0.0, 500.0, 1_000.0]), 1_000.0, 500.0)
    np.testing.assert_allclose(weights, np.exp([-2.0, -1.0, 0.0]), rtol=1e-6)


def test_salience_finds_the_token_with_a_peak():
    maps = np.full((4, 48), 0.7, np.float32)
    maps[1, 19] = 5.0
    maps[2] = np.linspace(-1, 1, 48)
    peaks = salience(maps)
    np.testing.assert_allclose(peaks, [0.0, 4.3 * 47 / 48, 1.0, 0.0], atol=1e-5)
    weights = salient_weights(maps, np.ones(4, np.float32), 3.0, 2.0)
    np.testing.assert_allclose(weights / weights.max(), (peaks / peaks.max()) ** 2, atol=1e-6)


def test_without_salience_or_a_peak_the_weights_stay():
    rng = np.random.default_rng(0)
    weights = np.array([0.2, 1.0], np.float32)
    maps = rng.standard_normal((2, 9)).astype(np.float32)
    for similarity, power in ((maps, 0.0), (np.ones_like(maps), 2.0)):
        kept = salient_weights(similarity, weights, 1.0, power)
        np.testing.assert_array_equal(kept, weights)


def test_salience_of_an_excluded_token_counts_for_nothing():
    maps = np.zeros((2, 9), np.float32)
    maps[0, 0], maps[1, 4] = 1e9, 1.0
    weights = salient_weights(maps, np.array([0.0, 1.0], np.float32), 1.0, 8.0)
    np.testing.assert_allclose(weights, [0.0, 1.0])
