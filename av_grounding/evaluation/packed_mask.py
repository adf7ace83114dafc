"""Masks that wait in memory, or travel to another process, one bit a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32


@dataclass(frozen=True)
class PackedMask:
    """Where a truth is positive; called, it is a target's `load_mask`."""

    bits: bytes
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: np.ndarray) -> PackedMask:
        return cls(np.packbits(mask > 0, axis=None).tobytes(), mask.shape)

    def unpack(self) -> Bool[np.ndarray, "H W"]:
        bits = np.frombuffer(self.bits, np.uint8)
        count = self.shape[0] * self.shape[1]
        return np.unpackbits(bits, count=count).astype(bool).reshape(self.shape)

    def __call__(self) -> Float32[np.ndarray, "H W"]:
        return self.unpack().astype(np.float32)
