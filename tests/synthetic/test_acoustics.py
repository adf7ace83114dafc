"""Levels, mixing, rooms and noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.synthetic.acoustics import (
    SAMPLE_RATE_HZ,
    active_rms,
    active_spans,
    add_noise,
    colored_noise,
    mix,
    normalize_level,
    reverberate,
    room_impulse_response,
)


def burst(seed: int, amplitude: float = 0.1, num_samples: int = 16_000) -> np.ndarray:
    """Noise in the middle third, silence around it."""
    noise = np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32)
    noise[: num_samples // 3] = 0.0
    noise[2 * num_samples // 3 :] = 0.0
    return amplitude * noise


def db(ratio: float) -> float:
    return 20 * np.log10(ratio)


def test_active_rms_leaves_pauses_out():
    tone = 0.5 * np.sin(np.arange(32_000) * 0.3).astype(np.float32)
    assert active_rms(tone) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    tone[16_000:] = 0.0
    assert active_rms(tone) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    tone[16_000:] = 0.5 * 10 ** (-35 / 20)
    assert active_rms(tone) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    assert active_rms(np.zeros(1000, np.float32)) == 0.0
    assert active_rms(np.zeros(0, np.float32)) == 0.0


def test_normalize_level_reaches_minus_20_dbfs_or_the_peak():
    assert db(active_rms(normalize_level(burst(0, 3.0)))) == pytest.approx(-20.0, abs=0.01)
    click = np.zeros(16_000, np.float32)
    click[100] = 0.01
    assert np.abs(normalize_level(click)).max() == pytest.approx(0.99, abs=1e-4)
    assert not normalize_level(np.zeros(100, np.float32)).any()


def test_active_spans_finds_the_ends():
    waveform = np.zeros(1000, np.float32)
    waveform[200:700] = 1.0
    waveform[50] = 0.001
    assert active_spans(waveform, -45.0) == (200, 700)
    assert active_spans(waveform, -70.0) == (50, 700)


@settings(max_examples=40, deadline=None)
@given(
    ratio_db=st.floats(-25, 25),
    amplitude=st.floats(1e-3, 0.9),
    seed=st.integers(0, 1000),
)
def test_mix_has_the_ratio_and_is_the_sum_of_its_parts(ratio_db, amplitude, seed):
    first, second = burst(seed), burst(seed + 1, amplitude)
    mixture, part_first, part_second = mix(first, second, ratio_db)
    assert db(active_rms(part_first) / active_rms(part_second)) == pytest.approx(ratio_db, abs=0.1)
    np.testing.assert_array_equal(mixture, part_first + part_second)
    assert np.abs(mixture).max() <= 0.9901
    for part, source in ((part_first, first), (part_second, second)):
        assert np.corrcoef(part, source)[0, 1] > 0.9999


def test_mix_keeps_the_louder_one_and_bears_silence():
    first, silence = burst(1, 0.05), np.zeros(16_000, np.float32)
    np.testing.assert_allclose(mix(first, burst(2, 0.05), 6.0).first, first, atol=1e-6)
    np.testing.assert_allclose(mix(burst(2, 0.05), first, -6.0).second, first, atol=1e-6)
    np.testing.assert_array_equal(mix(first, silence, 5.0).mixture, first)
    np.testing.assert_array_equal(mix(silence, first, 5.0).mixture, first)
    assert not mix(silence, silence, 0.0).mixture.any()
    with pytest.raises(ValueError, match="equal lengths"):
        mix(first, first[:-1], 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_reverberation_keeps_length_and_level_and_is_causal(seed):
    dry = burst(seed)
    wet = reverberate(dry, seed)
    assert wet.shape == dry.shape
    assert wet.dtype == np.float32
    start, stop = 16_000 // 3, 2 * 16_000 // 3
    assert np.abs(wet[:start]).max() < 1e-6
    # The room rings on where the dry sound has ended, and falls off.
    assert np.abs(wet[stop + 50 : stop + 400]).max() > 1e-4
    assert wet[-400:].std() < 0.5 * wet[stop : stop + 400].std()
    assert db(active_rms(wet) / active_rms(dry)) == pytest.approx(0.0, abs=0.05)
    # What comes later changes nothing earlier, but for the common gain.
    cut = dry.copy()
    cut[8000:] = 0.0
    early = reverberate(cut, seed)[:8000]
    assert np.corrcoef(early, wet[:8000])[0, 1] > 0.99999
    np.testing.assert_array_equal(wet, reverberate(dry, seed))
    assert not np.allclose(wet, reverberate(dry, seed + 100), atol=1e-3)


def test_silence_stays_silence():
    silence = np.zeros(1000, np.float32)
    assert not reverberate(silence, 0).any()
    assert not add_noise(silence, 10.0, 0).any()


@pytest.mark.parametrize("rt60_s", [0.15, 0.4])
def test_room_decays_by_60_db_in_its_time(rt60_s):
    decays = []
    for seed in range(30):
        response = room_impulse_response(seed, rt60_s).astype(np.float64)
        assert response[0] == 1.0
        late = response[round(0.035 * SAMPLE_RATE_HZ) :]
        half = len(late) // 2
        fall_db = 10 * np.log10(np.square(late[:half]).mean() / np.square(late[half:]).mean())
        decays.append(60.0 * (half / SAMPLE_RATE_HZ) / fall_db)
    assert np.mean(decays) == pytest.approx(rt60_s, rel=0.1)
    with pytest.raises(ValueError, match="rt60_s"):
        room_impulse_response(0, 0.0)


@pytest.mark.parametrize("snr_db", [0.0, 12.0, 30.0])
def test_noise_has_its_level(snr_db):
    clean = burst(3)
    for seed in range(4):
        noise = add_noise(clean, snr_db, seed) - clean
        rms = np.sqrt(np.mean(np.square(noise, dtype=np.float64)))
        assert db(active_rms(clean) / rms) == pytest.approx(snr_db, abs=0.2)
    assert not np.array_equal(add_noise(clean, snr_db, 0), add_noise(clean, snr_db, 1))
    np.testing.assert_array_equal(add_noise(clean, snr_db, 0), add_noise(clean, snr_db, 0))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_has_its_colour(exponent):
    noise = colored_noise(160_000, exponent, np.random.default_rng(0))
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    power = np.square(np.abs(np.fft.rfft(noise)))
    low, high = power[2_000:4_000].mean(), power[32_000:64_000].mean()
    assert 10 * np.log10(low / high) == pytest.approx(exponent * 10 * np.log10(16), abs=1.0)
