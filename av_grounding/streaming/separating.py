"""The sound of a place, live: windows wait until a frame tells what the place looks like."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache, partial
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.streaming.places import at_peak, at_point, peak_area, point_area, seen_alone
from av_grounding.streaming.separation import MaskedSound, check_backend, mask_of
from av_grounding.types import Backend, HeadAnswer, ImageTokens

Place = Literal["peak"] | tuple[float, float]
"""Where the sound heatmap is highest, or x, y in the pixels of the frames."""
LOOKAHEAD_S = 0.32


class LiveSeparation:
    """Masks a stream's windows, each with the first frame whose sound it is part of.

    Which frame that is follows from stamps alone, so how sound was cut into chunks, and how far
    ahead of the frames it was pushed, changes nothing. While the sound heatmap is gated there is
    silence, never the mixture.
    """

    def __init__(
        self,
        backend: Backend,
        hop: int,
        place: Place,
        *,
        lookahead_s: float = LOOKAHEAD_S,
        min_context_weight: float = 0.1,
        max_waiting: int = 64,
    ) -> None:
        """`max_waiting` windows wait for a frame at most; older ones take the last one's.

        ValueError for a backend that does not separate.
        """
        check_backend(backend)
        self._backend, self._max_waiting = backend, max_waiting
        self.place, self.lookahead_s = place, lookahead_s
        self._crops = backend.spec.separation.crop_px > 0
        self._masked = MaskedSound(
            backend.spec, hop, lookahead_s=lookahead_s, min_context_weight=min_context_weight
        )
        self.num_dropped_hops = 0
        """Hops whose windows never came, as while nobody wanted answers: left out."""
        self.reset()

    @property
    def latency_s(self) -> float:
        """From capture until a sample comes out, at most, without the time to compute."""
        return self._masked.latency_s

    def reset(self) -> None:
        """Forget all sound, and what the place looked like."""
        self._masked.reset()
        self._start: int | None = None
        self._waiting: deque[tuple[int, np.ndarray]] = deque()
        self._done: list[tuple[int, np.ndarray]] = []
        self._seen: Callable[[], tuple[ImageTokens, Float32[np.ndarray, " r"]]] | None = None
        self._seen_last = self._seen
        """What the newest masked window was masked with."""

    def hear(self, end: int, window: Float32[np.ndarray, " s"]) -> None:
        """A window that ends at sample `end`; they come in order."""
        self._waiting.append((end, window))
        if len(self._waiting) > self._max_waiting:
            self._mask(*self._waiting.popleft())

    def look(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        tokens: ImageTokens,
        answer: HeadAnswer,
        horizon: int,
    ) -> None:
        """A frame, its tokens, the sound head's answer to it, and the sample it may know."""
        self._seen = self._place_of(image, tokens, answer) if len(answer.logits) else None
        while self._waiting and self._waiting[0][0] <= horizon:
            self._mask(*self._waiting.popleft())

    def end(self, num_samples: int) -> None:
        """No sound follows sample `num_samples`: what is left of it is done.

        Windows that no frame has caught up with show what the one before them showed: when sound
        has ended, later frames are gated, and say nothing of its end.
        """
        if self._start is not None:
            self._seen = self._seen_last
        for end, window in self._waiting:
            self._mask(end, window, max(0, end - num_samples))
        self._waiting.clear()
        if self._start is not None:
            self._keep(self._masked.finish())
        self._start = None
        self._done = [
            (first, samples[: num_samples - first])
            for first, samples in self._done
            if first < num_samples
        ]

    def take(self) -> tuple[int, Float32[np.ndarray, " n"]] | None:
        """What is done since the last call, and the number of its first sample; None: nothing.

        Where hops were dropped it ends before the gap; the next call goes on behind it.
        """
        if not self._done:
            return None
        first, samples = self._done.pop(0)
        pieces = [samples]
        while self._done and self._done[0][0] == first + sum(map(len, pieces)):
            pieces.append(self._done.pop(0)[1])
        return first, np.concatenate(pieces)

    def _place_of(
        self, image: UInt8[np.ndarray, "H W 3"], tokens: ImageTokens, answer: HeadAnswer
    ) -> Callable[[], tuple[ImageTokens, Float32[np.ndarray, " r"]]]:
        """Tokens and weights of the place. A crop is encoded once a window asks for it: most
        frames have no window of their own."""
        if self._crops:
            size, is_peak = image.shape[:2], self.place == "peak"
            area = peak_area(answer, size) if is_peak else point_area(*self.place, size)
            # A copy: the picture may change before it is asked for.
            return cache(partial(seen_alone, self._backend, image[area].copy()))
        if self.place == "peak":
            weights = at_peak(answer, self._backend.spec.head("sound").calibration.scale)
        else:
            weights = at_point(*self.place, image.shape[:2], self._backend.grid(tokens))
        return lambda: (tokens, weights)

    def _mask(self, end: int, window: np.ndarray, num_behind: int = 0) -> None:
        hop = self._masked.hop
        if self._start is None or end != self._start + self._masked.end + hop:
            if self._start is not None:
                self.num_dropped_hops += (end - self._start - self._masked.end) // hop - 1
                self._keep(self._masked.finish())
            self._start = end - hop
        mask, self._seen_last = None, self._seen
        if self._seen is not None:
            tokens, weights = self._seen()
            mask = mask_of(self._backend, tokens, window, weights)
        self._keep(self._masked.add_window(window, mask, num_behind))

    def _keep(self, done: tuple[int, np.ndarray]) -> None:
        first, samples = done
        if samples.size:
            self._done.append((self._start + first, samples))
