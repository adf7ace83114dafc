"""Noise on a benchmark's clips at a stated level: DenseAV's test with MUSAN (001 table 7)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from av_grounding.audio import resample, to_clean_mono
from av_grounding.evaluation.benchmark import AudioClip

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".opus")


class NoiseBank:
    """Adds a stretch of a recording from a directory to a clip, at `snr_db` below its power.

    Which recording and which stretch depends on the sample's id alone, so that two models hear
    the same noise. Powers are means over the clip and over the stretch. A silent clip stays as it
    is, for no ratio can be set; `num_silent` counts them.
    """

    def __init__(self, directory: str | Path, snr_db: float) -> None:
        directory = Path(directory)
        if not directory.is_dir():
            raise NotADirectoryError(f"{directory}: no such directory; --noise wants recordings")
        self.paths: Sequence[Path] = sorted(
            path for path in directory.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES
        )
        if not self.paths:
            raise ValueError(
                f"{directory}: holds no recording, expected {', '.join(AUDIO_SUFFIXES)} files"
            )
        self.directory, self.snr_db, self.num_silent = directory, snr_db, 0

    def add(self, clip: AudioClip, sample_id: str) -> AudioClip:
        """The clip with noise, mono; samples beyond [-1, 1] are scaled down, not clipped."""
        waveform, _, _ = to_clean_mono(clip.waveform)
        power = float(np.mean(np.square(waveform, dtype=np.float64))) if waveform.size else 0.0
        if power == 0.0:
            self.num_silent += 1
            return clip
        rng = np.random.default_rng(zlib.crc32(sample_id.encode()))
        path = self.paths[int(rng.integers(len(self.paths)))]
        recording = _read(path, clip.sample_rate_hz)
        start = int(rng.integers(recording.size))
        stretch = np.resize(np.roll(recording, -start), waveform.size)
        noise_power = float(np.mean(np.square(stretch, dtype=np.float64)))
        if noise_power == 0.0:
            raise ValueError(f"{path}: holds silence where noise is wanted; leave the file out")
        gain = np.sqrt(power / noise_power * 10.0 ** (-self.snr_db / 10.0))
        noisy = waveform + np.float32(gain) * stretch
        largest = float(np.abs(noisy).max())
        return AudioClip(noisy / np.float32(max(1.0, largest)), clip.sample_rate_hz)

    def describe(self) -> dict[str, str | float | int]:
        return {
            "directory": str(self.directory),
            "num_recordings": len(self.paths),
            "snr_db": self.snr_db,
            "num_silent_clips_without_noise": self.num_silent,
        }


@lru_cache(maxsize=32)
def _read(path: Path, sample_rate_hz: int) -> Float32[np.ndarray, " s"]:
    from av_grounding.sources.media_file import MediaFile

    samples, rate_hz = MediaFile(path).read_audio()
    mono, _, _ = to_clean_mono(samples)
    if mono.size == 0:
        raise ValueError(f"{path}: holds no sound")
    return resample(mono, rate_hz, sample_rate_hz)
