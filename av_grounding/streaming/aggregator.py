"""Tokens of overlapping windows on one absolute time axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from av_grounding.types import ModelSpec


def context_weights(spec: ModelSpec, min_weight: float) -> Float32[np.ndarray, " t"]:
    """How much each token of a window is trusted: by the sound it had on its poorer side.

    A trapezoid: 1 where `context_s` seconds of the window lie on both sides of the token's
    centre, falling to `min_weight` towards the edges; all ones without context.
    """
    if spec.context_s <= 0.0:
        return np.ones(spec.num_tokens, np.float32)
    stride_s = spec.token_stride_s
    first = spec.first_token_s / stride_s
    centre_s = (np.arange(spec.num_tokens) + first) * stride_s
    end_s = spec.num_tokens * stride_s if spec.token_offset_s is None else spec.window_s
    poorer_s = np.maximum(np.minimum(centre_s, end_s - centre_s), 0.0)
    share = np.minimum(1.0, poorer_s / spec.context_s)
    return (min_weight + (1.0 - min_weight) * share).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Slots:
    """A stretch of the token time axis, oldest first.

    `vectors` are the weighted means over the windows that heard each slot; `trust` is the sum of
    their weights, at most 1, and 0 where no window has reached yet.
    """

    vectors: Float32[np.ndarray, "k n c"]
    trust: Float32[np.ndarray, " n"]
    bounds: Float[np.ndarray, " n_plus_1"]
    """Slot edges in samples; slot i covers [bounds[i], bounds[i + 1])."""

    @property
    def centres(self) -> Float[np.ndarray, " n"]:
        return (self.bounds[:-1] + self.bounds[1:]) / 2.0


class TokenAggregator:
    """Running weighted mean of token vectors per absolute slot of one token stride.

    Slot i covers samples [i * stride, (i + 1) * stride) of the stream. A token goes to the slot
    its centre lies in, so any hop will do. Only sums are kept, never a similarity volume. Of a
    model with one token a window the slots are as long as the hop: then there is one for each
    window, and none without a token.
    """

    def __init__(
        self,
        spec: ModelSpec,
        num_channels: int,
        history_s: float,
        min_context_weight: float = 0.1,
        hop_s: float | None = None,
    ) -> None:
        """`hop_s`: the step between windows; None takes the model's."""
        self._num_tokens = spec.num_tokens
        self._first_token = spec.first_token_s * spec.sample_rate_hz
        self._num_window_samples = spec.num_window_samples
        stride_s = (hop_s or spec.hop_s) if spec.num_tokens == 1 else spec.token_stride_s
        self.stride_samples = stride_s * spec.sample_rate_hz
        self._weights = context_weights(spec, min_context_weight)
        self.num_history = int(np.ceil(history_s / stride_s))
        # Rows of both arrays are slots from `_first` on, twice as many as are ever asked for, so
        # that what is kept lies in one piece and seldom has to move to the front.
        self._num_kept = self.num_history + spec.num_tokens + 1
        self._sums = np.zeros((len(spec.heads), 2 * self._num_kept, num_channels), np.float32)
        self._weight_sums = np.zeros(2 * self._num_kept, np.float32)
        self._first = 0
        self.end = 0
        """Slot one past the newest."""

    def reset(self) -> None:
        """Forget all tokens; slot 0 begins anew."""
        self._first = self.end = 0

    def add_window(self, tokens: Float32[np.ndarray, "k c t"], end_sample: int) -> None:
        """Add the tokens of the window that ends at `end_sample`; windows come in order.

        Tokens before the first sample describe the padding and are left out.
        """
        first_centre = end_sample - self._num_window_samples + self._first_token
        # The tolerance keeps a centre that rounding put just below an edge in its slot.
        first_slot = math.floor(first_centre / self.stride_samples + 1e-6)
        num_left_out = max(0, -first_slot)
        start, stop = max(0, first_slot), first_slot + self._num_tokens
        if stop <= start:
            return
        self._extend(stop)
        rows = slice(start - self._first, stop - self._first)
        weights = self._weights[num_left_out:]
        vectors = np.asarray(tokens, np.float32)[:, :, num_left_out:].transpose(0, 2, 1)
        self._sums[:, rows] += weights[:, None] * vectors
        self._weight_sums[rows] += weights

    def _extend(self, stop: int) -> None:
        """Empty slots from the newest to `stop`."""
        if stop <= self.end:
            return
        if stop - self._first > self._weight_sums.size:
            first = stop - self._num_kept
            kept = slice(first - self._first, max(first, self.end) - self._first)
            for values in (self._sums.swapaxes(0, 1), self._weight_sums):
                moved = values[kept].copy()
                values[: len(moved)] = moved
            self._first = first
        new = slice(max(self.end - self._first, 0), stop - self._first)
        self._sums[:, new] = 0.0
        self._weight_sums[new] = 0.0
        self.end = stop

    def read(self, start: int | None = None) -> Slots:
        """Slots from `start` (default: all that are kept) to the newest."""
        oldest = max(0, self.end - self.num_history)
        start = oldest if start is None else min(max(start, oldest), self.end)
        rows = slice(start - self._first, self.end - self._first)
        weights = self._weight_sums[rows]
        return Slots(
            vectors=self._sums[:, rows] / np.maximum(weights, 1e-9)[:, None],
            trust=np.minimum(weights, np.float32(1)),
            bounds=np.arange(start, self.end + 1) * self.stride_samples,
        )
