"""The procedural sounds: repeatable, varied, level, present in every second, told apart."""

import numpy as np
import pytest

from av_grounding.synthetic.acoustics import active_rms
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.sound_blocks import onsets, partials, pluck, resonate
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ, synthesize_sound


def mel_filters(num_bands: int, num_bins: int) -> np.ndarray:
    def mel(hz):
        return 2595.0 * np.log10(1.0 + hz / 700.0)

    edges = 700.0 * (10 ** (np.linspace(mel(60.0), mel(7800.0), num_bands + 2) / 2595.0) - 1.0)
    frequency = np.linspace(0.0, SAMPLE_RATE_HZ / 2, num_bins)
    rise = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rise, fall), 0.0, None)


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """(frames, 40) of 32 ms windows every 10 ms."""
    windows = np.lib.stride_tricks.sliding_window_view(waveform, 512)[::160] * np.hanning(512)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    return np.log(power @ mel_filters(40, power.shape[1]).T + 1e-4)


def features(waveform: np.ndarray) -> np.ndarray:
    """Mean and spread over time of the log-mel bands, and how the level moves."""
    bands = log_mel(waveform)
    steps = np.abs(np.diff(bands, axis=0)).mean(axis=0)
    return np.concatenate((bands.mean(axis=0), bands.std(axis=0), steps))


@pytest.mark.parametrize("name", CLASSES)
def test_repeatable_varied_and_level(name):
    first = synthesize_sound(name, 7, 2.5)
    assert first.dtype == np.float32
    assert first.shape == (40_000,)
    np.testing.assert_array_equal(first, synthesize_sound(name, 7, 2.5))
    other = synthesize_sound(name, 8, 2.5)
    assert np.corrcoef(first, other)[0, 1] < 0.5
    for waveform in (first, other):
        assert np.abs(waveform).max() <= 0.991
        # Only a clip that would exceed the peak lies below the level.
        level_db = 20 * np.log10(active_rms(waveform))
        assert level_db == pytest.approx(-20.0, abs=0.05) or np.abs(waveform).max() > 0.98
        assert level_db > -26.0


@pytest.mark.parametrize("name", CLASSES)
def test_every_second_holds_some(name):
    for seed in range(8):
        waveform = synthesize_sound(name, seed, 4.0)
        whole = np.sqrt(np.mean(np.square(waveform)))
        for start in range(0, 3 * SAMPLE_RATE_HZ + 1, SAMPLE_RATE_HZ // 4):
            excerpt = waveform[start : start + SAMPLE_RATE_HZ]
            assert np.sqrt(np.mean(np.square(excerpt))) > 0.4 * whole


def test_classes_are_told_apart_by_a_nearest_centroid():
    known = np.stack(
        [[features(synthesize_sound(name, s, 2.0)) for s in range(16)] for name in CLASSES]
    )
    scale = known.reshape(-1, known.shape[-1]).std(axis=0)
    centroids = known.mean(axis=1) / scale
    hits = []
    for truth, name in enumerate(CLASSES):
        for seed in range(1000, 1012):
            # A one-second excerpt of an individual that no centroid has seen.
            excerpt = synthesize_sound(name, seed, 2.5)[12_000:28_000]
            distance = np.square(features(excerpt) / scale - centroids).sum(axis=1)
            hits.append(np.argmin(distance) == truth)
    assert np.mean(hits) >= 0.9


def dominant_hz(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum)) * SAMPLE_RATE_HZ / len(waveform)


@pytest.mark.parametrize(
    ("name", "low_hz", "high_hz"),
    [("kettle", 1900, 3700), ("bird", 1800, 7000), ("boat", 60, 700), ("phone", 850, 1950)],
)
def test_pitch_lies_where_the_thing_sounds(name, low_hz, high_hz):
    for seed in range(6):
        assert low_hz < dominant_hz(synthesize_sound(name, seed, 3.0)) < high_hz


def test_clock_ticks_two_to_five_times_a_second():
    for seed in range(6):
        level = np.abs(synthesize_sound("clock", seed, 4.0)).reshape(-1, 320).max(axis=1)
        ticks = np.sum((level[1:] > 0.3 * level.max()) & (level[:-1] <= 0.3 * level.max()))
        assert 7 <= ticks <= 21


@pytest.mark.parametrize("duration_s", [0.02, 0.5, 10.0])
def test_any_duration(duration_s):
    for name in CLASSES:
        waveform = synthesize_sound(name, 3, duration_s)
        assert len(waveform) == round(duration_s * SAMPLE_RATE_HZ)
        assert np.isfinite(waveform).all()


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="did you mean 'dog'"):
        synthesize_sound("dogg", 0, 1.0)
    with pytest.raises(ValueError, match="seed -1"):
        synthesize_sound("dog", -1, 1.0)
    with pytest.raises(ValueError, match="duration_s 0"):
        synthesize_sound("dog", 0, 0.0)


def test_partials_equal_the_sum_written_out():
    frequency, decay, weight = np.array([440.0, 903.0]), np.array([0.2, 0.1]), np.array([1.0, 0.5])
    time = np.arange(1000)[:, None] / SAMPLE_RATE_HZ
    expected = weight * np.sin(2 * np.pi * frequency * time) * np.exp(-time / decay)
    np.testing.assert_allclose(
        partials(frequency, decay, weight, 1000), expected.sum(axis=1), atol=1e-9
    )


def test_pluck_has_the_pitch_and_decays():
    string = pluck(200.0, SAMPLE_RATE_HZ, 0.01, np.random.default_rng(0))
    period = SAMPLE_RATE_HZ // 200
    # Neighbouring periods of a string are almost alike, distant ones are not equally loud.
    assert np.corrcoef(string[period : 5 * period], string[: 4 * period])[0, 1] > 0.9
    assert string[-2000:].std() < 0.35 * string[:2000].std()


def test_resonance_has_its_gain_at_its_centre():
    impulse = np.zeros(16_000)
    impulse[0] = 1.0
    response = np.abs(np.fft.rfft(resonate(impulse, (1000.0,), (100.0,), (0.7,))))
    assert np.argmax(response) == pytest.approx(1000, abs=10)
    assert response.max() == pytest.approx(0.7, rel=0.03)
    assert response[1050] == pytest.approx(0.7 / np.sqrt(2), rel=0.05)


def test_onsets_start_early_and_keep_their_rate():
    for seed in range(20):
        starts = onsets(80_000, 0.5, 0.2, np.random.default_rng(seed))
        assert 0 <= starts[0] <= 0.12 * SAMPLE_RATE_HZ
        gaps_s = np.diff(starts) / SAMPLE_RATE_HZ
        assert ((gaps_s > 0.39) & (gaps_s < 0.61)).all()
        assert starts[-1] > 80_000 - 0.6 * SAMPLE_RATE_HZ
