"""Waveforms with known properties for the streaming tests, mono float32 at 16 kHz by default."""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

RATE_HZ = 16_000


def vowel(duration_s: float, rate_hz: int = RATE_HZ, pitch_hz: float = 120.0) -> np.ndarray:
    """A sung vowel: glottal pulses through three formants. webrtcvad takes it for speech."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    phase = pitch_hz * (time_s + 0.01 * np.sin(2 * np.pi * 3.0 * time_s))
    wave = (np.diff(np.floor(phase), prepend=0.0) > 0).astype(np.float64)
    for formant_hz, bandwidth_hz in ((700, 80), (1200, 90), (2600, 120)):
        radius = np.exp(-np.pi * bandwidth_hz / rate_hz)
        angle = 2 * np.pi * formant_hz / rate_hz
        wave = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], wave)
    return (0.4 * wave / np.abs(wave).max()).astype(np.float32)


def hiss(duration_s: float, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    """Noise between 5.5 and 7.5 kHz: loud, but no band of it is what webrtcvad looks at."""
    noise = np.random.default_rng(seed).standard_normal(round(duration_s * rate_hz))
    band = butter(10, (5500, 7500), "bandpass", fs=rate_hz, output="sos")
    return (0.2 * sosfilt(band, noise)).astype(np.float32)


def silence(duration_s: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.zeros(round(duration_s * rate_hz), np.float32)


def scene(rate_hz: int = RATE_HZ) -> np.ndarray:
    """4.4 s: hiss, pause, vowel, pause, both at once, silence."""
    both = vowel(0.8, rate_hz, 180.0) + hiss(0.8, rate_hz, 1)
    parts = [hiss(0.5, rate_hz), silence(0.2, rate_hz), vowel(0.7, rate_hz)]
    parts += [silence(0.5, rate_hz), both, silence(1.7, rate_hz)]
    return np.concatenate(parts)


def picture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Noise with a few large blocks of colour."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
    for _ in range(3):
        top, left = int(rng.integers(0, max(1, height // 2))), int(rng.integers(0, width // 2 + 1))
        image[top : top + height // 3, left : left + width // 3] = rng.integers(0, 255, 3)
    return image
