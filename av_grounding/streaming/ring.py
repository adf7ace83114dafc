"""The last part of an endless sequence, addressed by absolute index."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike


class Ring:
    """Keeps the last `capacity` values of a one-dimensional sequence; index 0 is the first ever.

    Values before index 0 read as zero: that is the padding on the left of a stream's beginning.
    """

    def __init__(self, capacity: int, dtype: DTypeLike = np.float32) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity}: expected at least 1")
        self._values = np.zeros(capacity, dtype)
        self.end = 0
        """Index one past the newest value."""

    @property
    def capacity(self) -> int:
        return self._values.size

    @property
    def start(self) -> int:
        """Index of the oldest value still kept."""
        return max(0, self.end - self.capacity)

    def clear(self) -> None:
        """Back to an empty sequence: the next value has index 0."""
        self.end = 0

    def append(self, values: np.ndarray) -> None:
        """Add values at the end; the oldest make room."""
        kept = values[-self.capacity :]
        first = (self.end + values.size - kept.size) % self.capacity
        num_before_wrap = min(kept.size, self.capacity - first)
        self._values[first : first + num_before_wrap] = kept[:num_before_wrap]
        self._values[: kept.size - num_before_wrap] = kept[num_before_wrap:]
        self.end += values.size

    def append_one(self, value: int | float | bool) -> None:
        """Add one value at the end, several times faster than as an array."""
        self._values[self.end % self.capacity] = value
        self.end += 1

    def read(self, start: int, stop: int) -> np.ndarray:
        """A copy of values [start, stop); IndexError where they are gone or yet to come."""
        if not start <= stop <= self.end or max(start, 0) < self.start:
            raise IndexError(f"[{start}, {stop}) is outside of [{self.start}, {self.end})")
        output = np.zeros(stop - start, self._values.dtype)
        first = min(max(start, 0), stop)
        num_padded = first - start
        position = first % self.capacity
        num_before_wrap = min(stop - first, self.capacity - position)
        output[num_padded : num_padded + num_before_wrap] = self._values[
            position : position + num_before_wrap
        ]
        rest = stop - first - num_before_wrap
        output[num_padded + num_before_wrap :] = self._values[:rest]
        return output
