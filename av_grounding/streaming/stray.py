"""Chunks of sound whose stamp belongs nowhere: a driver's slip, or a clock that was set."""

from __future__ import annotations

from dataclasses import replace

from av_grounding.audio import NS_PER_S, chunk_duration_ns
from av_grounding.types import AudioChunk


class StrayStamps:
    """Holds back sound that is stamped far off, until what follows says what it was.

    If later sound goes on where the earlier ended, only the stamps were wrong: the samples are as
    good as ever and get the stamps that they should have had. Otherwise the clock was set, and
    they keep theirs.
    """

    def __init__(
        self, max_gap_s: float = 10.0, max_backstep_s: float = 1.0, patience_s: float = 0.0
    ) -> None:
        """Off is what leaves a gap of more than `max_gap_s` or goes back by `max_backstep_s`.

        So much sound (`patience_s`) is held back at most; 0: until the next chunk decides.
        """
        self._max_gap_ns = round(max_gap_s * NS_PER_S)
        self._max_backstep_ns = round(max_backstep_s * NS_PER_S)
        self._patience_ns = round(patience_s * NS_PER_S)
        self.num_mended = 0
        """Chunks that got another stamp."""
        self.reset()

    def reset(self) -> None:
        """Forget what is held back, and what came before."""
        self._end_ns: int | None = None
        self._held: list[AudioChunk] = []
        self._held_ns = 0

    def push(self, chunk: AudioChunk) -> list[AudioChunk]:
        """What may be heard now, in order, with the stamps that it should have."""
        if self._end_ns is None or self._fits(chunk, self._end_ns + self._held_ns):
            return [*self._mended(), self._passed(chunk)]
        if self._held and self._held_ns > self._patience_ns:
            return [*self.release(), *self.push(chunk)]
        self._held.append(chunk)
        self._held_ns += chunk_duration_ns(chunk)
        return []

    def release(self) -> list[AudioChunk]:
        """What is held back, with the stamps that it came with."""
        held, self._held, self._held_ns = self._held, [], 0
        return [self._passed(chunk) for chunk in held]

    def release_at(self, stamp_ns: int) -> list[AudioChunk]:
        """Likewise, where a frame of this stamp lies nearer to it than to what came before."""
        if not self._held or self._end_ns is None:
            return []
        start_ns = self._held[0].stamp_ns
        is_nearer = abs(stamp_ns - start_ns) < abs(stamp_ns - self._end_ns)
        return self.release() if is_nearer else []

    def _fits(self, chunk: AudioChunk, expected_ns: int) -> bool:
        return -self._max_backstep_ns <= chunk.stamp_ns - expected_ns <= self._max_gap_ns

    def _mended(self) -> list[AudioChunk]:
        held, self._held, self._held_ns = self._held, [], 0
        self.num_mended += len(held)
        return [self._passed(replace(chunk, stamp_ns=self._end_ns)) for chunk in held]

    def _passed(self, chunk: AudioChunk) -> AudioChunk:
        self._end_ns = chunk.stamp_ns + chunk_duration_ns(chunk)
        return chunk
