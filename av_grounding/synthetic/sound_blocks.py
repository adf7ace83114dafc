"""Oscillators, noises, envelopes and resonances from which the classes' sounds are built.

Everything is at 16 kHz in float64; `n` is a number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

from av_grounding.synthetic.acoustics import SAMPLE_RATE_HZ

# Lengths differ within one call: a clip is added to a longer total.
Signal = Float[np.ndarray, "_"]
Numbers = Sequence[float | int] | np.ndarray


def samples(duration_s: float) -> int:
    return max(2, round(duration_s * SAMPLE_RATE_HZ))


def phase_of(frequency_hz: Signal | float, n: int) -> Signal:
    """Phase in radians of an oscillator with this (possibly changing) frequency."""
    step = np.broadcast_to(np.asarray(frequency_hz, np.float64), (n,))
    return np.cumsum(step) * (2.0 * np.pi / SAMPLE_RATE_HZ)


def pulses(phase: Signal, sharpness: float) -> Signal:
    """A smooth pulse per cycle, as of a glottis or an exhaust; sharper is brighter."""
    train = np.exp(sharpness * (np.cos(phase) - 1.0))
    return train - train.mean()


def chord(frequencies_hz: Numbers, n: int, num_harmonics: int, tilt: float) -> Signal:
    """Steady harmonic tones, harmonic k with amplitude k^-tilt."""
    total = np.zeros(n)
    for frequency_hz in frequencies_hz:
        phase = phase_of(frequency_hz, n)
        for harmonic in range(1, num_harmonics + 1):
            if harmonic * frequency_hz < 0.47 * SAMPLE_RATE_HZ:
                total += np.sin(harmonic * phase) * harmonic**-tilt
    return total


def partials(
    frequencies_hz: np.ndarray, decays_s: np.ndarray, amplitudes: np.ndarray, n: int
) -> Signal:
    """A struck body: sinusoids that fall by 1/e in their decay times.

    z^(block i + j) = z^(block i) z^j turns the sum over partials into one small matrix product.
    """
    keep = frequencies_hz < 0.47 * SAMPLE_RATE_HZ
    exponents = (2j * np.pi * frequencies_hz - 1.0 / decays_s)[keep] / SAMPLE_RATE_HZ
    block = 128
    coarse = np.exp(np.outer(np.arange(0, n, block), exponents)) * amplitudes[keep]
    fine = np.exp(np.outer(exponents, np.arange(block)))
    return (coarse @ fine).imag.ravel()[:n]


def pluck(frequency_hz: float, n: int, damping: float, rng: np.random.Generator) -> Signal:
    """A plucked string after Karplus and Strong (1983).

    Period after period the string's shape passes the two-point average; in the Fourier domain
    of one period that is a power, so all periods are computed at once.
    """
    period = max(4, round(SAMPLE_RATE_HZ / frequency_hz))
    shape = np.fft.rfft(rng.uniform(-1.0, 1.0, period))
    shape[0] = 0.0
    turn = np.arange(len(shape)) * np.pi / period
    average = (1.0 - damping) * np.cos(turn)
    num_periods = -(-n // period)
    shapes = shape * np.power(average, np.arange(num_periods)[:, None])
    return np.fft.irfft(shapes, period, axis=1).ravel()[:n]


def band_noise(n: int, low_hz: float, high_hz: float, rng: np.random.Generator) -> Signal:
    """Noise of unit RMS between two frequencies, with edges that fall by 12 dB an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.fft.rfftfreq(n, 1.0 / SAMPLE_RATE_HZ)
    gain = 1.0 / np.sqrt(1.0 + (low_hz / np.maximum(frequency, 1.0)) ** 4)
    gain /= np.sqrt(1.0 + (frequency / high_hz) ** 4)
    noise = np.fft.irfft(spectrum * gain, n)
    return noise / (noise.std() + 1e-12)


def resonate(
    source: Signal,
    centers_hz: Numbers,
    widths_hz: Numbers,
    gains: Numbers,
) -> Signal:
    """Parallel two-pole resonances (formants), each with `gain` at its centre."""
    total = np.zeros(len(source))
    for center_hz, width_hz, gain in zip(centers_hz, widths_hz, gains, strict=True):
        radius = np.exp(-np.pi * width_hz / SAMPLE_RATE_HZ)
        angle = 2.0 * np.pi * min(center_hz, 0.47 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
        numerator = [gain * (1.0 - radius), 0.0, -gain * (1.0 - radius)]
        total += lfilter(numerator, [1.0, -2.0 * radius * np.cos(angle), radius**2], source)
    return total


def envelope(n: int, attack_s: float, release_s: float) -> Signal:
    """0 to 1 and back, with raised-cosine ends."""
    time = np.arange(n)
    rise = np.clip(time / max(1.0, attack_s * SAMPLE_RATE_HZ), 0.0, 1.0)
    fall = np.clip((n - 1 - time) / max(1.0, release_s * SAMPLE_RATE_HZ), 0.0, 1.0)
    return 0.25 * (1.0 - np.cos(np.pi * rise)) * (1.0 - np.cos(np.pi * fall))


def curve(n: int, values: Numbers, times: Numbers | None = None) -> Signal:
    """A line through the values at equal, or the given relative, times in 0..1."""
    knots = np.linspace(0.0, 1.0, len(values)) if times is None else times
    return np.interp(np.linspace(0.0, 1.0, n), knots, values)


def wander(n: int, rate_hz: float, depth: float, rng: np.random.Generator) -> Signal:
    """1 plus a slow random drift of about `depth`."""
    num_knots = max(2, int(n / SAMPLE_RATE_HZ * rate_hz) + 2)
    values = rng.uniform(-depth, depth, num_knots)
    return 1.0 + np.interp(np.linspace(0.0, num_knots - 1.0, n), np.arange(num_knots), values)


def onsets(
    n: int, period_s: float, jitter: float, rng: np.random.Generator, first_s: float = 0.12
) -> list[int]:
    """Samples at which events start: about every `period_s`, the first within `first_s`."""
    num_events = int(n / SAMPLE_RATE_HZ / (period_s * (1.0 - jitter))) + 2
    gaps = period_s * rng.uniform(1.0 - jitter, 1.0 + jitter, num_events)
    start_s = rng.uniform(0.0, min(first_s, period_s)) + np.concatenate(([0.0], np.cumsum(gaps)))
    return [start for start in (start_s * SAMPLE_RATE_HZ).astype(int).tolist() if start < n]


def add_at(total: Signal, start: int, clip: Signal) -> None:
    """Add a clip in place, cut where the total ends."""
    room = max(0, len(total) - start)
    total[start : start + len(clip)] += clip[:room]
