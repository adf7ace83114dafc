"""Batches of spoken nouns, made to sound like other speakers, rooms and microphones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy import fft
from torch import Tensor
from torch.utils.data import Dataset

from av_grounding.everyday import corpus

SAMPLE_RATE_HZ = 16_000
TOKEN_SAMPLES = 1536
SPEEDS = (0.8, 1.25)
"""Of a clip that is played slower or faster, which moves its pitch and its formants."""


class SpokenNounBatches(Dataset):
    """Batch number n depends on the seed and on n alone.

    `shards` are a corpus's files (see `everyday.corpus`); every engine is drawn as often as any
    other. `sounds` are waveforms at 16 kHz without speech, which are mixed under it and stand
    alone.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        sounds: Sequence[Float32[np.ndarray, " s"]],
        *,
        seed: int = 0,
        batch_size: int = 64,
        num_tokens: int = 16,
    ) -> None:
        if not shards or not sounds:
            raise ValueError(
                f"{len(shards)} shards of speech and {len(sounds)} sounds; expected at least one "
                "of each: build the corpus first"
            )
        self.paths, self.sounds = sorted(shards), sounds
        self.seed, self.batch_size, self.num_tokens = seed, batch_size, num_tokens

    def __len__(self) -> int:
        return 2**62

    @cached_property
    def engines(self) -> list[list[corpus.CorpusShard]]:
        """The shards by engine."""
        by_engine: dict[str, list[corpus.CorpusShard]] = {}
        for path in self.paths:
            by_engine.setdefault(path.name.partition("_")[0], []).append(corpus.load(path))
        return list(by_engine.values())

    @cached_property
    def hisses(self) -> list[Float32[np.ndarray, " s"]]:
        """20 s of noise each, from white to one whose power falls with the square of frequency."""
        rng = np.random.default_rng(self.seed)
        num_samples = 20 * SAMPLE_RATE_HZ
        falling = np.maximum(np.arange(num_samples // 2 + 1), 1000.0)
        spectra = (
            np.fft.rfft(rng.standard_normal(num_samples)) * falling**-slope
            for slope in np.linspace(0, 1, 8)
        )
        return [np.fft.irfft(spectrum).astype(np.float32) for spectrum in spectra]

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        clips, nouns, spans = zip(*(self.clip(rng) for _ in range(self.batch_size)), strict=True)
        waveform = in_a_room(np.stack(clips).astype(np.float32), rng)
        noise = np.stack([self.noise(rng) for _ in clips])
        noisy = [with_noise(c, n, rng) for c, n in zip(waveform, noise, strict=True)]
        begin = TOKEN_SAMPLES * np.arange(self.num_tokens)
        start, end = np.array(spans)[:, :1], np.array(spans)[:, 1:]
        # The first fifth of a word rarely tells it from others.
        middle = begin + 0.5 * TOKEN_SAMPLES
        inside = (middle > start + 0.2 * (end - start)) & (middle < end)
        # A short word has at least the token in which most of it has been heard.
        inside |= begin == TOKEN_SAMPLES * ((0.3 * start + 0.7 * end) // TOKEN_SAMPLES)
        near = (begin + TOKEN_SAMPLES > start - 800) & (begin < end + 1600)
        return {
            "waveform": torch.from_numpy(np.stack(noisy).astype(np.float32)),
            "noun": torch.tensor(nouns),
            "inside": torch.from_numpy(inside),
            "near": torch.from_numpy(near),
        }

    def clip(self, rng: np.random.Generator) -> tuple[np.ndarray, int, tuple[float, float]]:
        """(waveform, noun or -1, its first and end sample); one in twelve has no speech."""
        num_samples = self.num_tokens * TOKEN_SAMPLES
        if rng.random() < 1 / 12:
            return np.zeros(num_samples, np.float32), -1, (-1e9, -1e9)
        engine = self.engines[rng.integers(len(self.engines))]
        shard = engine[rng.integers(len(engine))]
        index = int(rng.integers(len(shard.nouns)))
        said = shard.samples[shard.bounds[index] : shard.bounds[index + 1]].astype(np.float32)
        speed = np.exp(rng.uniform(*np.log(SPEEDS)))
        said = np.interp(np.arange(0, len(said) - 1, speed), np.arange(len(said)), said)
        start, end = shard.spans[index] / speed
        # The noun lies anywhere in the window, whole; what is said around it is cut.
        room = num_samples - (end - start)
        shift = round(start - (rng.uniform(0.05, 0.95) * room if room > 0 else 0))
        clip = np.zeros(num_samples, np.float32)
        first, last = max(shift, 0), min(shift + num_samples, len(said))
        clip[first - shift : last - shift] = said[first:last]
        level = np.sqrt(np.mean(np.square(said[int(start) : int(end) + 1]))) + 1e-3
        return clip / level, int(shard.nouns[index]), (start - shift, end - shift)

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        """Noise of unit power: a stretch of a sound, or a coloured hiss."""
        num_samples = self.num_tokens * TOKEN_SAMPLES
        if rng.random() < 0.6:
            sound = self.sounds[rng.integers(len(self.sounds))]
            begin = int(rng.integers(max(1, len(sound) - num_samples)))
            noise = np.resize(sound[begin : begin + num_samples], num_samples)
        else:
            hiss = self.hisses[rng.integers(len(self.hisses))]
            begin = int(rng.integers(len(hiss) - num_samples))
            noise = hiss[begin : begin + num_samples]
        return noise / (np.sqrt(np.mean(np.square(noise))) + 1e-4)


def with_noise(clip: np.ndarray, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One clip in three nearly clean (30 to 50 dB), the others at -6 to 25 dB."""
    snr_db = rng.uniform(30, 50) if rng.random() < 1 / 3 else rng.uniform(-6, 25)
    return clip + 10 ** (-snr_db / 20) * noise


def in_a_room(clips: Float[np.ndarray, "b s"], rng: np.random.Generator) -> np.ndarray:
    """Each clip through a random smooth filter of up to 12 dB; two in five with reverberation."""
    num, num_samples = clips.shape
    tail = SAMPLE_RATE_HZ // 2
    size = fft.next_fast_len(num_samples + tail, real=True)
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    # Equal steps of a roughly perceptual scale.
    scale = np.log1p(hz / 700) / np.log1p(8000 / 700)
    points, gains = np.linspace(0, 1, 7), rng.uniform(-1.04, 1.04, (num, 7))
    filters = [np.exp(np.interp(scale, points, g).astype(np.float32)) for g in gains]
    response = np.stack(filters).astype(np.complex64)
    decays = np.arange(1, tail, dtype=np.float32) / SAMPLE_RATE_HZ * -6.9
    for row in response:
        if rng.random() < 0.4:
            impulse = rng.standard_normal(tail, dtype=np.float32)
            impulse[1:] *= np.exp(decays / np.float32(rng.uniform(0.15, 0.7)))
            impulse[1:] *= 10 ** rng.uniform(-0.9, 0.0) / np.sqrt(np.sum(impulse[1:] ** 2))
            impulse[0] = 1.0
            row *= fft.rfft(impulse, size)
    return fft.irfft(fft.rfft(clips, size) * response, size)[:, :num_samples]
