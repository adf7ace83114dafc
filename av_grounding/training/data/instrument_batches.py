"""Batches of instruments that play together, under speech or not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from av_grounding.everyday import corpus
from av_grounding.training.data.spoken_nouns import in_a_room

RANGE_DB = 6.0
"""Instruments, and what else sounds with them, differ in level by up to this."""
TRIO, SPEECH, NO_MUSIC = 0.35, 0.25, 0.08
"""Shares of batches' rows: a third instrument, somebody who speaks, and no instrument at all."""
SPEEDS = (0.94, 1.06)
"""Of a phrase: a semitone down or up, so that keys and sizes of instruments vary."""
NOISE_DB = (15.0, 50.0)
"""Under the mixture."""


class InstrumentBatches(Dataset):
    """Batch number n depends on the seed and on n alone; see `SeparateInstruments`.

    `folder` holds `<noun>.npy`, phrases (n, s) in int16 at 16 kHz, of every noun; `speech` are
    files of a corpus (see `everyday.corpus`).
    """

    def __init__(
        self,
        folder: Path,
        nouns: Sequence[str],
        speech: Sequence[Path],
        *,
        num_samples: int,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        self.folder, self.nouns, self.speech = folder, tuple(nouns), tuple(speech)
        self.num_samples, self.seed, self.batch_size = num_samples, seed, batch_size

    def __len__(self) -> int:
        return 2**62

    @cached_property
    def phrases(self) -> list[np.ndarray]:
        return [np.load(self.folder / f"{noun}.npy", mmap_mode="r") for noun in self.nouns]

    @cached_property
    def utterances(self) -> list[corpus.CorpusShard]:
        return [corpus.load(path) for path in self.speech]

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        clips, nouns = zip(*(self.row(rng) for _ in range(self.batch_size)), strict=True)
        sources = np.stack(clips)
        num = sources.shape[1]
        played = in_a_room(sources.reshape(-1, self.num_samples), rng).reshape(sources.shape)
        level = np.sqrt(np.square(played).mean(axis=-1, keepdims=True))
        gains = 10 ** (-rng.uniform(0.0, RANGE_DB, (self.batch_size, num, 1)) / 20)
        played *= np.where(level > 1e-6, 0.1 * gains / np.maximum(level, 1e-6), 0.0)
        under_db = rng.uniform(*NOISE_DB, (self.batch_size, 1))
        noise = rng.standard_normal((self.batch_size, self.num_samples), dtype=np.float32)
        mixture = played.sum(axis=1) + 0.1 * 10 ** (-under_db / 20) * noise
        return {
            "sources": torch.from_numpy(played.astype(np.float32)),
            "nouns": torch.tensor(np.array(nouns)),
            "mixture": torch.from_numpy(mixture.astype(np.float32)),
        }

    def row(self, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
        """Three clips (3, s), and the number of the instrument in each or -1."""
        clips = np.zeros((3, self.num_samples), np.float32)
        kind = rng.random()
        if kind < NO_MUSIC:
            clips[2] = self.said(rng)
            return clips, [-1, -1, -1]
        drawn = rng.permutation(len(self.nouns))[:3].tolist()
        if kind < NO_MUSIC + SPEECH:
            clips[2], drawn[2] = self.said(rng), -1
        elif kind > NO_MUSIC + SPEECH + TRIO:
            drawn[2] = -1
        for place, noun in enumerate(drawn):
            if noun >= 0:
                clips[place] = self.phrase(noun, rng)
        return clips, drawn

    def phrase(self, noun: int, rng: np.random.Generator) -> np.ndarray:
        """A stretch of a phrase, a little higher or lower than it was played."""
        phrases, speed = self.phrases[noun], float(np.exp(rng.uniform(*np.log(SPEEDS))))
        row = phrases[int(rng.integers(len(phrases)))]
        length = int(self.num_samples * speed) + 2
        start = int(rng.integers(len(row) - length + 1))
        times = speed * np.arange(self.num_samples)
        played = np.interp(times, np.arange(length), row[start : start + length])
        return (played / 32767).astype(np.float32)

    def said(self, rng: np.random.Generator) -> np.ndarray:
        """Somebody who speaks all the time, from anywhere in the corpus."""
        samples = self.utterances[int(rng.integers(len(self.utterances)))].samples
        start = int(rng.integers(len(samples) - self.num_samples))
        return samples[start : start + self.num_samples].astype(np.float32) / 32767
