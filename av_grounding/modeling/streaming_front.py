"""A convolutional front end over the overlapping windows of a stream: each frame computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Array = Any
"""A PyTorch tensor or a NumPy array: nothing here needs more than slices and comparisons."""


class StreamingFront:
    """Features of consecutive windows, of which only the frames that are new are computed.

    For a `front` without padding, whose frame i depends on samples [i * stride, i * stride +
    receptive) of the window and on nothing else: no statistic over time. A window that moved on
    by a multiple of the stride then shares its frames with the one before. What is answered is
    what `front` gives for the whole window, up to rounding, and depends only on the windows since
    the last `reset`, not on how they came about.

    Windows are (b, s), features (b, c, t), in the library of `front`; `concatenate` is its
    concatenation along the last axis.
    """

    def __init__(
        self,
        front: Callable[[Array], Array],
        *,
        concatenate: Callable[[Sequence[Array]], Array],
        receptive_samples: int,
        stride_samples: int,
    ) -> None:
        if not 0 < stride_samples <= receptive_samples:
            raise ValueError(
                f"a stride of {stride_samples} and a receptive field of {receptive_samples} "
                "samples; expected 0 < stride <= receptive field"
            )
        self._front, self._concatenate = front, concatenate
        self.receptive_samples, self.stride_samples = receptive_samples, stride_samples
        self.reset()

    def reset(self) -> None:
        """Forget the last window: the next one is computed whole."""
        self._last: tuple[Array, Array] | None = None

    def __call__(self, waveform: Array, num_new: int) -> Array:
        """Features of a window whose last `num_new` samples the window before did not hold."""
        num_shared = self._num_shared(waveform, num_new)
        if num_shared == 0:
            features = self._front(waveform)
        else:
            assert self._last is not None
            kept = self._last[1][..., num_new // self.stride_samples :]
            new = self._front(waveform[:, num_shared * self.stride_samples :])
            features = self._concatenate([kept, new])
        self._last = (waveform, features)
        return features

    def _num_shared(self, waveform: Array, num_new: int) -> int:
        """Frames that are the last window's; 0 where the windows do not fit together."""
        if self._last is None or self._last[0].shape != waveform.shape:
            return 0
        num_samples = waveform.shape[-1]
        num_frames = (num_samples - self.receptive_samples) // self.stride_samples + 1
        num_shared = num_frames - num_new // self.stride_samples
        if num_new < self.stride_samples or num_new % self.stride_samples or num_shared <= 0:
            return 0
        # A caller who skipped a window gets a slower answer, not a wrong one.
        is_same = self._last[0][:, num_new:] == waveform[:, : num_samples - num_new]
        return num_shared if bool(is_same.all()) else 0
