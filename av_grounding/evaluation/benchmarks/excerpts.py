"""The middle of a sound at a rate and length, and sums of several: separation's mixtures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from av_grounding.evaluation.benchmark import AudioClip
from av_grounding.evaluation.benchmarks.files import AudioFile, mono_at


@dataclass(frozen=True)
class Excerpt:
    """The middle `num_samples` of a sound at `rate_hz`, times `gain`; zeros behind a short one."""

    path: Path
    rate_hz: int
    num_samples: int
    gain: float = 1.0

    def __call__(self) -> AudioClip:
        waveform = mono_at(AudioFile(self.path)(), self.rate_hz)
        start = max(0, (len(waveform) - self.num_samples) // 2)
        waveform = waveform[start : start + self.num_samples] * np.float32(self.gain)
        missing = self.num_samples - len(waveform)
        return AudioClip(np.pad(waveform, (0, missing)), self.rate_hz)


@dataclass(frozen=True)
class ExcerptSum:
    """The sum of excerpts of one rate, unscaled: a mixture equals the sum of its sources."""

    parts: tuple[Excerpt, ...]

    def __call__(self) -> AudioClip:
        clips = [part() for part in self.parts]
        return AudioClip(
            np.sum([clip.waveform for clip in clips], axis=0), clips[0].sample_rate_hz
        )
