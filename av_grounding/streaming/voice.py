"""What can be heard at all, and what of it is speech: level and voice marks, utterances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from av_grounding.audio import dbfs
from av_grounding.streaming.ring import Ring

VAD_RATES_HZ = (8000, 16000, 32000, 48000)


@dataclass(frozen=True, slots=True)
class UtteranceSpan:
    """A stretch of speech in sample indices, from the first voiced sample to the last."""

    start: int
    stop: int


def find_utterances(
    is_voiced: Bool[np.ndarray, " n"], num_hangover: int, min_voiced: int
) -> list[tuple[int, int]]:
    """Runs of voiced frames as [start, stop), oldest first.

    Pauses of up to `num_hangover` frames are bridged; runs with fewer than `min_voiced` voiced
    frames are left out.
    """
    voiced = np.flatnonzero(is_voiced)
    if voiced.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(voiced) > num_hangover + 1)
    firsts = np.concatenate([[0], breaks + 1])
    lasts = np.concatenate([breaks, [voiced.size - 1]])
    return [
        (int(voiced[first]), int(voiced[last]) + 1)
        for first, last in zip(firsts, lasts, strict=True)
        if last - first + 1 >= min_voiced
    ]


class VoiceActivity:
    """Marks fixed frames of the stream with their level and webrtcvad's verdict.

    Frames lie at multiples of their length from the first sample, so marks do not depend on how
    the stream is cut. Queries name sample indices and use only frames that end by `stop`.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        *,
        frame_ms: int = 20,
        aggressiveness: int = 2,
        hangover_s: float = 0.3,
        min_utterance_s: float = 0.15,
        history_s: float = 16.0,
    ) -> None:
        if sample_rate_hz not in VAD_RATES_HZ:
            raise ValueError(
                f"model sample rate {sample_rate_hz} Hz: voice activity detection works at "
                f"{', '.join(map(str, VAD_RATES_HZ))} Hz; use a bundle with one of these"
            )
        self._sample_rate_hz = sample_rate_hz
        self._aggressiveness = int(aggressiveness)
        self.frame_samples = sample_rate_hz * frame_ms // 1000
        self._num_hangover = int(hangover_s * 1000 / frame_ms + 1e-6)
        self._min_voiced = max(1, int(np.ceil(min_utterance_s * 1000 / frame_ms - 1e-6)))
        num_frames = int(np.ceil(history_s * 1000 / frame_ms))
        self._is_voiced = Ring(num_frames, np.bool_)
        self._level_dbfs = Ring(num_frames, np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget everything, the detector's own memory included."""
        import webrtcvad

        self._vad = webrtcvad.Vad(self._aggressiveness)
        self._rest = np.empty(0, np.float32)
        self._is_voiced.clear()
        self._level_dbfs.clear()

    def push(self, samples: Float32[np.ndarray, " s"]) -> None:
        """Mark the frames that these samples complete."""
        if self._rest.size:
            samples = np.concatenate([self._rest, samples])
        num_frames = samples.size // self.frame_samples
        num_whole = num_frames * self.frame_samples
        self._rest = samples[num_whole:].copy()
        frames = samples[:num_whole].reshape(num_frames, self.frame_samples)
        for frame, pcm in zip(frames, (frames * 32767.0).astype(np.int16), strict=True):
            self._is_voiced.append_one(self._vad.is_speech(pcm.tobytes(), self._sample_rate_hz))
            self._level_dbfs.append_one(dbfs(frame))

    @property
    def num_frames(self) -> int:
        """Frames marked since the last reset."""
        return self._is_voiced.end

    def marks(
        self, first: int, gate_dbfs: float
    ) -> tuple[int, Float32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """From frame `first` (or the oldest kept) on: its number, levels, which are speech."""
        first, last = max(first, self._is_voiced.start), self._is_voiced.end
        level_dbfs = self._level_dbfs.read(first, last)
        return first, level_dbfs, self._is_voiced.read(first, last) & (level_dbfs > gate_dbfs)

    def _frames(self, start: int, stop: int) -> tuple[int, int]:
        """Frames touched by samples [start, stop) that end by `stop` and are still kept."""
        last = min(stop // self.frame_samples, self._is_voiced.end)
        first = max(start // self.frame_samples, self._is_voiced.start)
        return min(first, last), last

    def audible_frames(
        self, start: int, stop: int, gate_dbfs: float
    ) -> tuple[int, Bool[np.ndarray, " n"]]:
        """Index of the first frame within samples [start, stop), and which are over the gate."""
        first, last = self._frames(start, stop)
        return first, self._level_dbfs.read(first, last) > gate_dbfs

    def utterances(self, start: int, stop: int, gate_dbfs: float) -> list[UtteranceSpan]:
        """Utterances over the gate in samples [start, stop), oldest first; the last may go on."""
        first, last = self._frames(start, stop)
        is_voiced = self._is_voiced.read(first, last)
        is_voiced &= self._level_dbfs.read(first, last) > gate_dbfs
        runs = find_utterances(is_voiced, self._num_hangover, self._min_voiced)
        return [
            UtteranceSpan((first + begin) * self.frame_samples, (first + end) * self.frame_samples)
            for begin, end in runs
        ]

    def slots_audible(
        self, bounds: Float[np.ndarray, " n_plus_1"], stop: int, gate_dbfs: float
    ) -> Bool[np.ndarray, " n"]:
        """For slots between consecutive sample `bounds`: does any frame in it pass the gate?"""
        first, audible = self.audible_frames(int(max(0, np.floor(bounds[0]))), stop, gate_dbfs)
        if audible.size == 0:
            return np.zeros(bounds.size - 1, bool)
        counts = np.concatenate([[0], np.cumsum(audible)])
        begin = np.floor(bounds[:-1] / self.frame_samples).astype(int) - first
        end = np.ceil(bounds[1:] / self.frame_samples).astype(int) - first
        clipped = np.clip([begin, end], 0, audible.size)
        return counts[clipped[1]] > counts[clipped[0]]
