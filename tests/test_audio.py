"""Conversions, repairs and resampling of samples."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding import audio

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)


@pytest.mark.parametrize(
    ("dtype", "raw", "expected"),
    [
        (np.int16, [-32768, 0, 16384], [-1.0, 0.0, 0.5]),
        (np.int8, [-128, 64], [-1.0, 0.5]),
        (np.int32, [-(2**31), 2**30], [-1.0, 0.5]),
        (np.uint8, [0, 128, 192], [-1.0, 0.0, 0.5]),
        (np.uint16, [0, 32768], [-1.0, 0.0]),
        (np.float64, [-0.25, 0.75], [-0.25, 0.75]),
        (np.float16, [-0.25, 0.75], [-0.25, 0.75]),
    ],
)
def test_every_sample_type_becomes_float32_in_full_scale(dtype, raw, expected):
    samples = audio.to_float32(np.array(raw, dtype))
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected, atol=1e-7)


def test_channels_are_averaged():
    stereo = np.array([[0.5, -0.5], [1.0, 0.0], [0.25, 0.75]], np.float32)
    np.testing.assert_allclose(audio.to_mono(stereo), [0.0, 0.5, 0.5])
    surround = np.tile(np.arange(6, dtype=np.float32) / 10, (7, 1))
    np.testing.assert_allclose(audio.to_mono(surround), np.full(7, 0.25), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 48_000), (3, 4, 5), (4, 0), ()])
def test_shapes_that_are_not_audio_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(samples,\) or \(samples, channels\)"):
        audio.to_mono(np.zeros(shape, np.float32))


@pytest.mark.parametrize("dtype", [np.complex64, np.bool_, "U1"])
def test_types_that_are_not_samples_are_refused(dtype):
    with pytest.raises(ValueError, match="integer or floating-point"):
        audio.to_float32(np.zeros(3, dtype))


def test_faulty_samples_are_repaired_and_counted_and_the_input_is_left_alone():
    raw = np.array([0.1, np.nan, np.inf, -np.inf, 1.5, -7.0, 1.0, -1.0], np.float32)
    before = raw.copy()
    clean, num_nonfinite, num_clipped = audio.sanitize(raw)
    np.testing.assert_array_equal(clean, np.array([0.1, 0, 0, 0, 1, -1, 1, -1], np.float32))
    assert (num_nonfinite, num_clipped) == (3, 2)
    np.testing.assert_array_equal(raw, before)


def test_one_broken_channel_does_not_silence_the_other():
    samples = np.array([[0.5, np.nan], [0.5, 3.0]])
    clean, num_nonfinite, num_clipped = audio.to_clean_mono(samples)
    np.testing.assert_allclose(clean, [0.25, 0.75])
    assert (num_nonfinite, num_clipped) == (1, 1)


def test_doubles_beyond_float32_count_as_infinite():
    clean, num_nonfinite, _ = audio.to_clean_mono(np.array([1e300, 0.5]))
    np.testing.assert_allclose(clean, [0.0, 0.5])
    assert num_nonfinite == 1


def test_level_of_known_signals():
    time_s = np.arange(16_000) / 16_000
    assert audio.dbfs(np.sin(2 * np.pi * 100 * time_s)) == pytest.approx(-3.0103, abs=1e-3)
    assert audio.dbfs(np.full(10, 0.1, np.float32)) == pytest.approx(-20.0, abs=1e-4)
    assert audio.dbfs(np.zeros(10, np.float32)) == audio.MIN_DBFS
    assert audio.dbfs(np.zeros(0, np.float32)) == audio.MIN_DBFS


@given(st.integers(0, 10**12), st.sampled_from(RATES_HZ))
def test_duration_in_nanoseconds_is_exact(num_samples, rate_hz):
    error = audio.samples_to_ns(num_samples, rate_hz) * rate_hz - num_samples * 10**9
    assert abs(2 * error) <= rate_hz


@given(st.integers(0, 10**8), st.sampled_from(RATES_HZ))
def test_seconds_and_samples_are_inverse(num_samples, rate_hz):
    seconds = audio.samples_to_seconds(num_samples, rate_hz)
    assert audio.seconds_to_samples(seconds, rate_hz) == num_samples


@pytest.mark.parametrize("rate_hz", [0, -16_000, 16, 10**7])
def test_impossible_sample_rates_are_refused(rate_hz):
    with pytest.raises(ValueError, match="samples per second, not kHz"):
        audio.StatefulResampler(rate_hz, 16_000)


@settings(max_examples=25, deadline=None)
@given(
    rate_hz=st.sampled_from(RATES_HZ),
    sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=30),
    num_single=st.integers(0, 700),
)
def test_resampled_stream_does_not_depend_on_the_cut(rate_hz, sizes, num_single):
    rng = np.random.default_rng(rate_hz)
    waveform = (0.5 * rng.uniform(-1, 1, num_single + sum(sizes))).astype(np.float32)
    whole = audio.resample(waveform, rate_hz, 16_000)
    resampler = audio.StatefulResampler(rate_hz, 16_000)
    pieces, position = [], 0
    for size in [1] * num_single + sizes:
        # One buffer for all chunks, as a driver has: nothing may refer to it later.
        buffer = waveform[position : position + size].copy()
        pieces.append(resampler.push(buffer).copy())
        buffer[:] = 9.0
        position += size
        received = sum(piece.size for piece in pieces)
        assert received >= position * 16_000 / rate_hz - resampler.delay_samples
    pieces.append(resampler.flush())
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    assert whole.size == round(waveform.size * 16_000 / rate_hz)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_resampled_stream_equals_the_one_shot_resampler(rate_hz):
    time_s = np.arange(2 * rate_hz) / rate_hz
    waveform = 0.3 * np.sin(2 * np.pi * 440 * time_s) + 0.3 * np.sin(2 * np.pi * 2_900 * time_s)
    waveform = waveform.astype(np.float32)
    resampler = audio.StatefulResampler(rate_hz, 16_000)
    pieces = [resampler.push(waveform[i : i + 1_024]) for i in range(0, waveform.size, 1_024)]
    streamed = np.concatenate([*pieces, resampler.flush()])
    expected = soxr.resample(waveform, rate_hz, 16_000)
    noise = np.sum((streamed - expected) ** 2) + 1e-20
    assert 10 * np.log10(np.sum(expected**2) / noise) > 90.0


def test_a_flushed_resampler_starts_anew():
    waveform = np.random.default_rng(0).uniform(-1, 1, 3_000).astype(np.float32)
    resampler = audio.StatefulResampler(44_100, 16_000)
    first = np.concatenate([resampler.push(waveform), resampler.flush()])
    second = np.concatenate([resampler.push(waveform), resampler.flush()])
    np.testing.assert_array_equal(first, second)
