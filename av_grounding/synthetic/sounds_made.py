"""Vehicles, instruments and household things."""

from __future__ import annotations

import numpy as np

from av_grounding.synthetic.sound_blocks import (
    Signal,
    add_at,
    band_noise,
    chord,
    curve,
    envelope,
    onsets,
    partials,
    phase_of,
    pluck,
    pulses,
    resonate,
    samples,
    wander,
)


def _unit(signal: Signal) -> Signal:
    return signal / (np.sqrt(np.mean(np.square(signal))) + 1e-12)


def car(rng: np.random.Generator, n: int) -> Signal:
    """An engine that revs, and honks of a two-tone horn."""
    firing_hz, body = rng.uniform(55, 110), rng.uniform(0.85, 1.2)
    line = firing_hz * wander(n, 1.2, 0.3, rng)
    phase = phase_of(line, n)
    beat = 1.0 + 0.35 * np.cos(phase / 2.0) + 0.15 * np.cos(phase / 4.0)
    exhaust = pulses(phase, 12.0) * beat
    engine = resonate(exhaust, np.array([130, 330, 800]) * body, (90, 160, 400), (1.0, 0.6, 0.25))
    engine = _unit(engine) + 0.12 * band_noise(n, 200.0, 1500.0, rng)
    low_hz = rng.uniform(370, 450)
    tones = (low_hz, low_hz * rng.uniform(1.19, 1.27))
    horn, length_s = np.zeros(n), rng.uniform(0.16, 0.4)
    for start in onsets(n, rng.uniform(0.6, 0.9), 0.2, rng, 0.4):
        k = samples(length_s * rng.uniform(0.8, 1.2))
        add_at(horn, start, _unit(chord(tones, k, 12, 0.6)) * envelope(k, 0.015, 0.03))
    return engine + rng.uniform(0.9, 1.6) * horn


def train(rng: np.random.Generator, n: int) -> Signal:
    """Steam chuffs, four to a turn with one stressed, and a breathy two-tone whistle."""
    chuff_s, weight = rng.uniform(0.12, 0.22), rng.uniform(0.35, 0.7)
    steam = band_noise(n, rng.uniform(250, 450), rng.uniform(1300, 2200), rng)
    strength = np.zeros(n)
    for index, start in enumerate(onsets(n, chuff_s, 0.03, rng)):
        k = samples(0.95 * chuff_s)
        stress = 1.0 if index % 4 == 0 else weight
        add_at(strength, start, stress * np.exp(-curve(k, (0.0, 4.0))) * envelope(k, 0.01, 0.02))
    low_hz = rng.uniform(620, 800)
    tones = (low_hz, low_hz * rng.uniform(1.3, 1.4))
    whistle, length_s = np.zeros(n), rng.uniform(0.4, 0.8)
    for start in onsets(n, length_s + rng.uniform(0.35, 0.6), 0.15, rng, 0.5):
        k = samples(length_s * rng.uniform(0.85, 1.1))
        waver = 1.0 + 0.15 * np.sin(phase_of(rng.uniform(5, 9), k))
        breath = 0.2 * band_noise(k, low_hz, 2.5 * low_hz, rng)
        add_at(whistle, start, (_unit(chord(tones, k, 3, 1.3)) + breath) * waver
               * envelope(k, 0.06, 0.12))  # fmt: skip
    return 2.2 * steam * strength + rng.uniform(0.5, 0.9) * whistle


def airplane(rng: np.random.Generator, n: int) -> Signal:
    """A broadband roar whose comb filter moves as the plane passes, over a turbine's whine."""
    roar = band_noise(n, 60.0, rng.uniform(450, 900), rng) + 0.25 * band_noise(
        n, 900.0, 4000.0, rng
    )
    time = np.arange(n, dtype=np.float64)
    delay_s = curve(n, rng.uniform(0.0008, 0.005, 3))
    flanged = roar + rng.uniform(0.5, 0.8) * np.interp(time - 16_000 * delay_s, time, roar)
    whine_hz = rng.uniform(1100, 2300) * curve(n, (1.06, 0.94))
    phase = phase_of(whine_hz, n)
    whine = np.sin(phase) + 0.5 * np.sin(1.07 * phase)
    return (flanged + rng.uniform(0.12, 0.25) * whine) * wander(n, 0.8, 0.2, rng)


def boat(rng: np.random.Generator, n: int) -> Signal:
    """Deep fog-horn blasts over lapping water."""
    pitch_hz, length_s = rng.uniform(70, 120), rng.uniform(1.0, 2.0)
    line = pitch_hz * wander(n, 2.0, 0.008, rng)
    reed = pulses(phase_of(line, n), 70.0) + pulses(1.006 * phase_of(line, n), 70.0)
    horn = _unit(resonate(reed, (180, 360, 620), (70, 90, 160), (1.0, 0.9, 0.35)))
    strength = np.zeros(n)
    for start in onsets(n, length_s + rng.uniform(0.2, 0.4), 0.08, rng):
        k = samples(length_s * rng.uniform(0.94, 1.04))
        add_at(strength, start, envelope(k, 0.08, 0.12) * curve(k, (0.85, 1.0, 0.95)))
    water = band_noise(n, 300.0, 1000.0, rng) * np.clip(wander(n, 3.0, 0.8, rng), 0.1, None)
    return horn * np.clip(strength, 0.0, 1.0) + 0.06 * water


def bell(rng: np.random.Generator, n: int) -> Signal:
    """Strokes of a church or hand bell: hum, prime, minor third, fifth, nominal and above."""
    prime_hz, period_s = rng.uniform(420, 900), rng.uniform(0.65, 1.1)
    ratios = np.array([0.5, 1.0, 1.183, 1.506, 2.0, 2.514, 3.011, 4.166])
    ratios *= rng.uniform(0.99, 1.01, len(ratios))
    weights = np.array([0.5, 0.8, 0.7, 0.35, 1.0, 0.45, 0.4, 0.25])
    weights *= rng.uniform(0.6, 1.4, len(ratios))
    decays_s = rng.uniform(0.7, 1.3) / ratios**0.7
    total = np.zeros(n)
    for start in onsets(n, period_s, 0.08, rng):
        k = min(n - start, samples(2.2))
        clang = partials(prime_hz * ratios, decays_s, weights * rng.uniform(0.85, 1.15, 8), k)
        add_at(total, start, clang)
    return total


def clock(rng: np.random.Generator, n: int) -> Signal:
    """Tick and tock by turns, two to five a second, as short wooden or metal clicks."""
    tick_s, tone_hz = 1.0 / rng.uniform(2.0, 5.0), rng.uniform(1900, 3400)
    drop, length_s = rng.uniform(0.68, 0.85), rng.uniform(0.003, 0.007)
    ratios = np.array([1.0, 1.62, 2.31]) * rng.uniform(0.95, 1.05, 3)
    total, k = np.zeros(n), samples(0.05)
    for index, start in enumerate(onsets(n, tick_s, 0.01, rng)):
        pitch_hz = tone_hz * (1.0 if index % 2 == 0 else drop)
        click = partials(pitch_hz * ratios, length_s / ratios, np.array([1.0, 0.6, 0.4]), k)
        snap = rng.standard_normal(40) * np.exp(-np.arange(40) / 10.0)
        click[:40] += 0.5 * snap
        echo = np.zeros(k)
        echo[300:] = 0.35 * click[: k - 300]
        add_at(total, start, click + echo)
    return total


def drum(rng: np.random.Generator, n: int) -> Signal:
    """A rhythm on a membrane: falling low modes, a slap, and a rattle on the off-beats."""
    pitch_hz, beat_s = rng.uniform(75, 170), rng.uniform(0.14, 0.24)
    pattern = rng.permutation(np.array([1.0, 0.0, 0.55, 0.8, 0.0, 0.6, 1.0, 0.5]))
    modes = np.array([1.0, 1.594, 2.136, 2.653])
    rattle, total = rng.uniform(0.1, 0.35), np.zeros(n)
    k = samples(0.3)
    fall = 1.0 + 0.5 * np.exp(-np.arange(k) / 400.0)
    for index, start in enumerate(onsets(n, beat_s, 0.02, rng)):
        strength = pattern[index % 8] * rng.uniform(0.85, 1.1)
        if strength == 0.0:
            continue
        tuned_hz = pitch_hz * (1.0 if index % 2 == 0 else 1.35)
        hit = np.sin(phase_of(tuned_hz * fall, k)) * np.exp(-np.arange(k) / 1400.0)
        hit += partials(tuned_hz * modes, 0.07 / modes, np.array([0.0, 0.5, 0.35, 0.25]), k)
        slap = rng.standard_normal(k) * np.exp(-np.arange(k) / 90.0)
        snare = rng.standard_normal(k) * np.exp(-np.arange(k) / 700.0) * (index % 2)
        add_at(total, start, strength * (hit + 0.3 * slap + rattle * snare))
    return total


def guitar(rng: np.random.Generator, n: int) -> Signal:
    """Strummed and picked chords of Karplus-Strong strings."""
    root_hz = 82.4 * 2 ** (rng.integers(0, 12) / 12)
    damping, strum_s = rng.uniform(0.004, 0.012), rng.uniform(0.008, 0.03)
    shapes = ((0, 7, 12, 16, 19), (0, 7, 12, 15, 19), (5, 12, 17, 21, 24), (7, 14, 19, 23, 26))
    total, picked = np.zeros(n), rng.random() < 0.4
    period_s = rng.uniform(0.16, 0.24) if picked else rng.uniform(0.35, 0.55)
    for index, start in enumerate(onsets(n, period_s, 0.05, rng)):
        shape = shapes[(index // (4 if picked else 2)) % 4]
        notes = (shape[(index * 2) % 5],) if picked else shape[:: rng.choice((-1, 1))]
        for order, note in enumerate(notes):
            begin = start + samples(strum_s) * order
            if begin < n:
                k = min(n - begin, samples(0.8))
                string = pluck(root_hz * 2 ** (note / 12), k, damping, rng)
                add_at(total, begin, string * curve(k, (1.0, 1.0, 0.0), (0, 0.8, 1)))
    body = resonate(total, (105, 210, 420), (40, 60, 120), (0.6, 0.5, 0.3))
    return total + body


def piano(rng: np.random.Generator, n: int) -> Signal:
    """Struck notes of a scale: slightly stretched harmonics that decay, with hammer knocks."""
    root_hz = 220.0 * 2 ** (rng.integers(-5, 10) / 12)
    scale = np.array([0, 2, 4, 7, 9, 12, 14, 16]) if rng.random() < 0.5 else np.array(
        [0, 2, 3, 7, 8, 12, 14, 15])  # fmt: skip
    harmonic = np.arange(1.0, 13.0)
    stretch, tilt = rng.uniform(1e-4, 6e-4), rng.uniform(0.9, 1.5)
    total, step = np.zeros(n), int(rng.integers(8))
    for index, start in enumerate(onsets(n, rng.uniform(0.18, 0.36), 0.06, rng)):
        step = int(np.clip(step + rng.integers(-3, 4), 0, 7))
        notes = [scale[step]] if index % 4 else [scale[step], scale[max(0, step - 3)] - 12]
        for note in notes:
            f0_hz = root_hz * 2 ** (note / 12)
            frequencies_hz = f0_hz * harmonic * np.sqrt(1.0 + stretch * harmonic**2)
            decays_s = 0.55 * (220.0 / f0_hz) ** 0.3 / harmonic**0.6
            weights = harmonic**-tilt * np.abs(np.sin(np.pi * harmonic / 7.3))
            k = samples(0.9)
            tone = partials(frequencies_hz, decays_s, weights, k) * envelope(k, 0.003, 0.1)
            knock = rng.standard_normal(200) * np.exp(-np.arange(200) / 40.0)
            tone[:200] += 0.08 * knock
            add_at(total, start, tone * rng.uniform(0.7, 1.1))
    return total


def phone(rng: np.random.Generator, n: int) -> Signal:
    """An electronic ring that warbles between two tones, in bursts."""
    low_hz, ratio = rng.uniform(900, 1400), rng.uniform(1.2, 1.35)
    warble_hz, burst_s = rng.uniform(12, 24), rng.uniform(0.5, 0.9)
    switch = (np.sin(phase_of(warble_hz, n)) > 0).astype(np.float64)
    phase = phase_of(low_hz * (1.0 + (ratio - 1.0) * switch), n)
    ring = np.sin(phase) + rng.uniform(0.15, 0.4) * np.sin(3 * phase) + 0.15 * np.sin(2 * phase)
    strength = np.zeros(n)
    for start in onsets(n, burst_s + rng.uniform(0.15, 0.35), 0.02, rng):
        k = samples(burst_s)
        add_at(strength, start, envelope(k, 0.01, 0.02))
    return ring * np.clip(strength, 0.0, 1.0)


def kettle(rng: np.random.Generator, n: int) -> Signal:
    """Boiling water and hissing steam that grow into a wavering whistle at 2 to 3 kHz."""
    whistle_hz, rise_s = rng.uniform(2000, 3100), rng.uniform(0.4, 1.2)
    progress = np.clip(np.arange(n) / samples(rise_s) + rng.uniform(0.2, 0.8), 0.0, 1.0)
    line = whistle_hz * (0.82 + 0.18 * progress) * wander(n, 12.0, 0.006, rng)
    phase = phase_of(line * (1.0 + 0.006 * np.sin(phase_of(rng.uniform(6, 11), n))), n)
    whistle = np.sin(phase) + 0.2 * np.sin(2.0 * phase) + 0.3 * np.sin(1.19 * phase)
    bubbles = np.zeros(n)
    times = rng.integers(0, n, max(1, int(n / 16_000 * rng.uniform(25, 50))))
    bubbles[times] = rng.uniform(0.3, 1.0, len(times))
    boil = _unit(resonate(bubbles, (380, 640), (120, 160), (1.0, 0.8)))
    hiss = band_noise(n, rng.uniform(2500, 3500), 7500.0, rng)
    return 0.35 * boil + 0.3 * hiss * (0.5 + 0.5 * progress) + 0.9 * whistle * progress**1.5
