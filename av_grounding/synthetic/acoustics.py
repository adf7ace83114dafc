"""Levels, mixing, room reverberation and background noise for the synthetic world."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from scipy.signal import fftconvolve

SAMPLE_RATE_HZ = 16_000
ACTIVE_LEVEL_DBFS = -20.0
_FRAME = SAMPLE_RATE_HZ // 50
_ACTIVE_RANGE_DB = 30.0
_PEAK = 0.99


def _frame_rms(waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, " n"]:
    """RMS of consecutive 20 ms frames; the last one counts its missing samples as silence."""
    padded = np.pad(waveform, (0, -len(waveform) % _FRAME))
    return np.sqrt(np.mean(np.square(padded.reshape(-1, _FRAME)), axis=1))


def active_rms(waveform: Float32[np.ndarray, " s"]) -> float:
    """RMS over the 20 ms frames within 30 dB of the loudest one; 0 for silence.

    Pauses do not count, so that a sparse sound and a dense one of one level are equally loud.
    """
    if len(waveform) == 0:
        return 0.0
    rms = _frame_rms(waveform)
    loud = rms[rms >= rms.max() * 10 ** (-_ACTIVE_RANGE_DB / 20)]
    return float(np.sqrt(np.mean(np.square(loud, dtype=np.float64))))


def active_spans(waveform: Float32[np.ndarray, " s"], floor_db: float) -> tuple[int, int]:
    """First and last-plus-one sample of what is louder than the peak plus `floor_db`."""
    level = np.abs(waveform)
    loud = np.flatnonzero(level > level.max() * 10 ** (floor_db / 20))
    return (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, len(waveform))


def normalize_level(waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, " s"]:
    """Scaled to an active level of -20 dBFS, or to a peak of 0.99 where that would clip."""
    rms = active_rms(waveform)
    if rms == 0.0:
        return np.zeros_like(waveform, dtype=np.float32)
    gain = min(10 ** (ACTIVE_LEVEL_DBFS / 20) / rms, _PEAK / float(np.abs(waveform).max()))
    return (waveform * gain).astype(np.float32)


class Mixture(NamedTuple):
    """A sum and its two parts as they stand in it: `mixture == first + second`."""

    mixture: Float32[np.ndarray, " s"]
    first: Float32[np.ndarray, " s"]
    second: Float32[np.ndarray, " s"]


def mix(
    first: Float32[np.ndarray, " s"], second: Float32[np.ndarray, " t"], ratio_db: float
) -> Mixture:
    """Sum two sounds with active_rms(first) / active_rms(second) = `ratio_db`.

    The louder one keeps its level and the other is attenuated; all three are scaled down
    together where the mixture would exceed a peak of 0.99. A silent part stays silent. Raises
    ValueError where the lengths differ.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"got {len(first)} and {len(second)} samples, expected equal lengths; pad or crop"
        )
    rms_first, rms_second = active_rms(first), active_rms(second)
    gain = 1.0
    if rms_first > 0.0 and rms_second > 0.0:
        gain = 10 ** (ratio_db / 20) * rms_second / rms_first
    gain_first, gain_second = (gain, 1.0) if gain <= 1.0 else (1.0, 1.0 / gain)
    peak = float(np.abs(gain_first * first + gain_second * second).max(initial=0.0))
    limit = min(1.0, _PEAK / peak) if peak > 0.0 else 1.0
    scaled_first = (first * (gain_first * limit)).astype(np.float32)
    scaled_second = (second * (gain_second * limit)).astype(np.float32)
    return Mixture(scaled_first + scaled_second, scaled_first, scaled_second)


def room_impulse_response(seed: int, rt60_s: float | None = None) -> Float32[np.ndarray, " s"]:
    """A room: the direct sound (1 at sample 0), 3..8 early reflections, decaying diffuse noise.

    `rt60_s` is the time in which the tail falls by 60 dB; None draws 0.05..0.4 s from the seed.
    """
    rng = np.random.default_rng((seed, 0x52))
    drawn_s = float(rng.uniform(0.05, 0.4))
    rt60_s = drawn_s if rt60_s is None else rt60_s
    if not 0.0 < rt60_s <= 10.0:
        raise ValueError(f"got rt60_s {rt60_s}, expected seconds in (0, 10]; a room has 0.05..0.4")
    num_samples = max(2, round(rt60_s * SAMPLE_RATE_HZ))
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    decay = 10 ** (-3.0 * time_s / rt60_s)
    tail = rng.standard_normal(num_samples) * decay
    tail *= time_s > 0.004
    energy = float(np.sum(np.square(tail)))
    direct_to_reverberant_db = rng.uniform(3.0, 12.0)
    if energy > 0.0:
        tail *= np.sqrt(10 ** (-direct_to_reverberant_db / 10) / energy)
    num_reflections = int(rng.integers(3, 9))
    delays = rng.uniform(0.001, min(0.03, 0.5 * rt60_s), num_reflections) * SAMPLE_RATE_HZ
    gains = rng.uniform(0.1, 0.5, num_reflections) * rng.choice((-1.0, 1.0), num_reflections)
    index = np.clip(delays.astype(int), 1, num_samples - 1)
    np.add.at(tail, index, gains * decay[index])
    tail[0] = 1.0
    return tail.astype(np.float32)


def reverberate(
    waveform: Float32[np.ndarray, " s"], seed: int, rt60_s: float | None = None
) -> Float32[np.ndarray, " s"]:
    """The sound in a room drawn from `seed`: same length, same active level, no delay.

    What rings past the end is cut; a peak over 0.99 is scaled down.
    """
    response = room_impulse_response(seed, rt60_s)
    wet = fftconvolve(waveform, response)[: len(waveform)].astype(np.float32)
    dry_rms, wet_rms = active_rms(waveform), active_rms(wet)
    if dry_rms == 0.0 or wet_rms == 0.0:
        return np.zeros_like(waveform)
    gain = min(dry_rms / wet_rms, _PEAK / float(np.abs(wet).max()))
    return (wet * gain).astype(np.float32)


def colored_noise(
    num_samples: int, exponent: float, rng: np.random.Generator
) -> Float32[np.ndarray, " s"]:
    """Gaussian noise of unit RMS with power falling as 1 / f^exponent (0 white, 1 pink)."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    bins = np.arange(len(spectrum), dtype=np.float64)
    # Below about 30 Hz the law is held constant: energy nobody hears would eat the level.
    corner = max(1.0, 30.0 * num_samples / SAMPLE_RATE_HZ)
    noise = np.fft.irfft(spectrum * np.maximum(bins, corner) ** (-exponent / 2), num_samples)
    return (noise / np.sqrt(np.mean(np.square(noise)))).astype(np.float32)


def add_noise(
    waveform: Float32[np.ndarray, " s"], snr_db: float, seed: int
) -> Float32[np.ndarray, " s"]:
    """Background noise, between white and brownish by `seed`, `snr_db` below the active level.

    A peak over 0.99 is scaled down. Silence stays silence: it has no level to relate to.
    """
    rms = active_rms(waveform)
    if rms == 0.0:
        return waveform.astype(np.float32, copy=True)
    rng = np.random.default_rng((seed, 0x4E))
    noise = colored_noise(len(waveform), rng.uniform(0.0, 1.6), rng)
    noisy = waveform + noise * (rms * 10 ** (-snr_db / 20))
    return (noisy * min(1.0, _PEAK / float(np.abs(noisy).max()))).astype(np.float32)
