"""Voices of the animals and the baby: a source with a pitch line, shaped by formants."""

from __future__ import annotations

import numpy as np

from av_grounding.synthetic.sound_blocks import (
    Signal,
    add_at,
    band_noise,
    curve,
    envelope,
    onsets,
    phase_of,
    pulses,
    resonate,
    samples,
    wander,
)


def dog(rng: np.random.Generator, n: int) -> Signal:
    """Barks in groups: a short rough burst whose pitch rises and falls."""
    pitch_hz, size = rng.uniform(150, 420), rng.uniform(0.8, 1.25)
    length_s, period_s = rng.uniform(0.11, 0.2), rng.uniform(0.26, 0.46)
    rough, breath = rng.uniform(0.1, 0.35), rng.uniform(0.15, 0.45)
    num_in_group = int(rng.integers(2, 5)) if period_s < 0.38 else 1000
    source = np.zeros(n)
    for index, start in enumerate(onsets(n, period_s, 0.15, rng)):
        if index % (num_in_group + 1) == num_in_group:
            continue
        k = samples(length_s * rng.uniform(0.85, 1.2))
        line = pitch_hz * rng.uniform(0.93, 1.07) * curve(k, (0.75, 1.3, 1.1, 0.6))
        line *= 1.0 + rough * rng.standard_normal(k // 60 + 1).repeat(60)[:k] * 0.4
        voice = pulses(phase_of(line, k), 25.0) + breath * 0.3 * rng.standard_normal(k)
        add_at(source, start, voice * envelope(k, 0.012, 0.6 * k / 16_000))
    centers = np.array([620.0, 1250.0, 2500.0]) * size
    return resonate(source, centers, (160, 240, 420), (1.0, 0.8, 0.35))


def cat(rng: np.random.Generator, n: int) -> Signal:
    """Meows: the pitch arches while the mouth opens from i over a to u."""
    pitch_hz, length_s = rng.uniform(430, 760), rng.uniform(0.5, 0.85)
    pause_s, size = rng.uniform(0.08, 0.3), rng.uniform(0.85, 1.2)
    peak, arch = rng.uniform(0.25, 0.5), rng.uniform(1.2, 1.55)
    source, opening = np.zeros(n), np.zeros(n)
    for start in onsets(n, length_s + pause_s, 0.12, rng):
        k = samples(length_s * rng.uniform(0.9, 1.08))
        line = pitch_hz * rng.uniform(0.95, 1.05) * curve(k, (0.8, arch, 0.72), (0, peak, 1))
        line = line * (1.0 + 0.015 * np.sin(phase_of(rng.uniform(5, 8), k)))
        add_at(source, start, pulses(phase_of(line, k), 14.0) * envelope(k, 0.06, 0.22))
        add_at(opening, start, curve(k, (0.0, 1.0, 0.9, 0.2), (0, 0.35, 0.6, 1)))
    opening = np.clip(opening, 0.0, 1.0)
    closed = resonate(source, np.array([450, 2500, 3400]) * size, (120, 250, 400), (1, 0.5, 0.3))
    wide = resonate(source, np.array([1050, 1700, 3300]) * size, (180, 250, 400), (1, 0.9, 0.5))
    return closed * (1.0 - opening) + wide * opening


def bird(rng: np.random.Generator, n: int) -> Signal:
    """Whistled syllables between 2 and 7 kHz that sweep, trill or warble."""
    kind = rng.integers(3)
    pitch_hz, span = rng.uniform(2600, 4800), rng.uniform(0.2, 0.45) * rng.choice((-1.0, 1.0))
    length_s, period_s = rng.uniform(0.05, 0.16), rng.uniform(0.13, 0.28)
    warble_hz, bend = rng.uniform(18, 40), rng.uniform(-0.15, 0.15)
    num_in_phrase = int(rng.integers(3, 8))
    total = np.zeros(n)
    for index, start in enumerate(onsets(n, period_s, 0.1, rng, 0.08)):
        if index % (num_in_phrase + 1) == num_in_phrase:
            continue
        k = samples(length_s * rng.uniform(0.85, 1.15))
        high = pitch_hz * (1.0 + bend * ((index % num_in_phrase) / num_in_phrase - 0.5))
        line = high * curve(k, (1.0 - span / 2, 1.0 + span / 2))
        if kind == 1:
            line = high * (1.0 + 0.12 * np.sin(phase_of(warble_hz, k)))
        elif kind == 2:
            line = high * curve(k, (1.0, 1.0 + span / 2, 1.0 - span / 4))
        phase = phase_of(line, k)
        add_at(total, start, (np.sin(phase) + 0.12 * np.sin(2 * phase)) * envelope(k, 0.012, 0.03))
    return total


def cow(rng: np.random.Generator, n: int) -> Signal:
    """Long low moos: m with closed lips, then an open nasal o."""
    pitch_hz, length_s = rng.uniform(85, 150), rng.uniform(0.9, 1.6)
    pause_s, size = rng.uniform(0.15, 0.35), rng.uniform(0.85, 1.15)
    source, opening = np.zeros(n), np.zeros(n)
    for start in onsets(n, length_s + pause_s, 0.08, rng):
        k = samples(length_s * rng.uniform(0.95, 1.05))
        line = pitch_hz * rng.uniform(0.96, 1.04) * curve(k, (0.85, 1.05, 1.15, 0.8))
        line = line * wander(k, 20.0, 0.012, rng)
        voice = pulses(phase_of(line, k), 30.0) * (1.0 + 0.02 * rng.standard_normal(k))
        add_at(source, start, voice * envelope(k, 0.12, 0.3))
        add_at(opening, start, curve(k, (0.0, 1.0, 1.0, 0.5), (0.05, 0.4, 0.8, 1)))
    opening = np.clip(opening, 0.0, 1.0)
    closed = resonate(source, np.array([230, 900]) * size, (70, 250), (1.0, 0.1))
    wide = resonate(source, np.array([430, 760, 2300]) * size, (90, 140, 350), (1.0, 0.7, 0.12))
    return closed * (1.0 - opening) + wide * opening


def frog(rng: np.random.Generator, n: int) -> Signal:
    """Croaks: trains of 20 to 45 damped pulses a second."""
    pulse_hz, ring_hz = rng.uniform(22, 45), rng.uniform(520, 1100)
    length_s, period_s = rng.uniform(0.22, 0.4), rng.uniform(0.42, 0.65)
    width, overtone = rng.uniform(90, 180), rng.uniform(1.9, 2.5)
    source = np.zeros(n)
    for start in onsets(n, period_s, 0.12, rng):
        k = samples(length_s * rng.uniform(0.85, 1.15))
        line = pulse_hz * rng.uniform(0.95, 1.05) * curve(k, (0.8, 1.2))
        clicks = np.diff(np.floor(phase_of(line, k) / (2 * np.pi)), prepend=-1.0)
        add_at(source, start, clicks * curve(k, (0.35, 1.0, 0.8)))
    centers = (ring_hz, ring_hz * overtone)
    return resonate(source, centers, (width, 1.6 * width), (1.0, 0.55))


def bee(rng: np.random.Generator, n: int) -> Signal:
    """Wing beat near 200 Hz, rich in harmonics, that swells and drifts as the bee flies."""
    wing_hz, sharpness = rng.uniform(165, 260), rng.uniform(10, 28)
    line = wing_hz * wander(n, rng.uniform(2, 5), 0.08, rng)
    line = line * (1.0 + 0.01 * np.sin(phase_of(rng.uniform(9, 15), n)))
    swell = np.clip(wander(n, rng.uniform(1.5, 4), 0.45, rng), 0.3, None)
    flutter = 1.0 + 0.3 * np.sin(phase_of(rng.uniform(20, 34), n))
    phase = phase_of(line, n)
    buzz = pulses(phase, sharpness) + 0.6 * pulses(1.013 * phase, 2.0 * sharpness)
    size = rng.uniform(0.85, 1.2)
    buzz = resonate(buzz, np.array([420, 1100, 2400]) * size, (300, 500, 900), (0.7, 1.0, 0.8))
    return buzz * swell * flutter + 0.02 * buzz.std() * band_noise(n, 300.0, 3000.0, rng)


def baby(rng: np.random.Generator, n: int) -> Signal:
    """Cries: a long wail with vibrato that arches and sags, then a short breath in."""
    pitch_hz, length_s = rng.uniform(340, 520), rng.uniform(0.55, 0.95)
    breath_s, size = rng.uniform(0.12, 0.25), rng.uniform(0.92, 1.15)
    vibrato_hz, depth = rng.uniform(5, 9), rng.uniform(0.03, 0.06)
    source, opening = np.zeros(n), np.zeros(n)
    for start in onsets(n, length_s + breath_s, 0.1, rng):
        k = samples(length_s * rng.uniform(0.88, 1.08))
        line = pitch_hz * rng.uniform(0.95, 1.06) * curve(k, (0.8, 1.15, 1.1, 1.0, 0.7))
        line = line * (1.0 + depth * np.sin(phase_of(vibrato_hz, k)))
        voice = pulses(phase_of(line, k), 40.0)
        shake = 1.0 + 0.35 * np.sin(phase_of(vibrato_hz, k) + 1.0)
        add_at(source, start, voice * shake * envelope(k, 0.07, 0.14))
        add_at(opening, start, curve(k, (0.3, 1.0, 1.0, 0.4)))
        inhale = samples(0.7 * breath_s)
        gasp = band_noise(inhale, 1200.0, 3500.0, rng) * envelope(inhale, 0.03, 0.03)
        add_at(source, start + k, 0.12 * gasp)
    opening = np.clip(opening, 0.0, 1.0)
    closed = resonate(source, np.array([650, 1500, 3600]) * size, (120, 200, 350), (1, 0.6, 0.5))
    wide = resonate(source, np.array([1150, 2100, 3900]) * size, (150, 220, 350), (1, 0.9, 0.8))
    return closed * (1.0 - opening) + wide * opening
