"""Tokens of overlapping windows on one absolute time axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from av_grounding.types import ModelSpec


def context_weights(
    num_tokens: int, stride_s: float, context_s: float, min_weight: float
) -> Float32[np.ndarray, " t"]:
    """How much each token of a window is trusted: by the sound it had on its poorer side.

    A trapezoid: 1 where `context_s` seconds of the window lie on both sides of the token's
    centre, falling to `min_weight` towards the edges; all ones without context.
    """
    if context_s <= 0.0:
        return np.ones(num_tokens, np.float32)
    centre_s = (np.arange(num_tokens) + 0.5) * stride_s
    poorer_s = np.minimum(centre_s, num_tokens * stride_s - centre_s)
    share = np.minimum(1.0, poorer_s / context_s)
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
    its centre lies in, so any hop will do. Only sums are kept, never a similarity volume.
    """

    def __init__(
        self, spec: ModelSpec, num_channels: int, history_s: float, min_context_weight: float = 0.1
    ) -> None:
        self._num_tokens = spec.num_tokens
        self._num_window_samples = spec.num_window_samples
        self.stride_samples = spec.token_stride_s * spec.sample_rate_hz
        self._weights = context_weights(
            spec.num_tokens, spec.token_stride_s, spec.context_s, min_context_weight
        )
        self.num_history = int(np.ceil(history_s / spec.token_stride_s))
        capacity = self.num_history + spec.num_tokens + 1
        self._sums = np.zeros((capacity, len(spec.heads), num_channels), np.float32)
        self._weight_sums = np.zeros(capacity, np.float32)
        self.end = 0
        """Slot one past the newest."""

    def reset(self) -> None:
        """Forget all tokens; slot 0 begins anew."""
        self._sums[:] = 0.0
        self._weight_sums[:] = 0.0
        self.end = 0

    def add_window(self, tokens: Float32[np.ndarray, "k c t"], end_sample: int) -> None:
        """Add the tokens of the window that ends at `end_sample`; windows come in order.

        Tokens before the first sample describe the padding and are left out.
        """
        first_centre = end_sample - self._num_window_samples + 0.5 * self.stride_samples
        # The tolerance keeps a centre that rounding put just below an edge in its slot.
        first_slot = int(np.floor(first_centre / self.stride_samples + 1e-6))
        slots = np.arange(first_slot, first_slot + self._num_tokens)
        kept = slots >= 0
        slots = slots[kept]
        if slots.size == 0:
            return
        capacity = self._weight_sums.size
        new = np.arange(max(self.end, slots[0]), slots[-1] + 1) % capacity
        self._sums[new] = 0.0
        self._weight_sums[new] = 0.0
        self.end = max(self.end, int(slots[-1]) + 1)
        weights = self._weights[kept]
        vectors = np.asarray(tokens, np.float32).transpose(2, 0, 1)[kept]
        self._sums[slots % capacity] += weights[:, None, None] * vectors
        self._weight_sums[slots % capacity] += weights

    def read(self, start: int | None = None) -> Slots:
        """Slots from `start` (default: all that are kept) to the newest."""
        oldest = max(0, self.end - self.num_history)
        start = oldest if start is None else min(max(start, oldest), self.end)
        slots = np.arange(start, self.end)
        positions = slots % self._weight_sums.size
        weights = self._weight_sums[positions]
        means = self._sums[positions] / np.maximum(weights, 1e-9)[:, None, None]
        return Slots(
            vectors=np.ascontiguousarray(means.transpose(1, 0, 2)),
            trust=np.minimum(weights, np.float32(1)),
            bounds=np.arange(start, self.end + 1) * self.stride_samples,
        )
