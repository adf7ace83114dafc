"""A tiny backend with masks of its own, and noise to be masked."""

from dataclasses import replace

import numpy as np

from av_grounding.types import SeparationSpec
from tests.helpers.tiny_backend import TinyBackend

RATE_HZ, HOP, WINDOW = 16_000, 3200, 16_000
IMAGE = np.random.default_rng(5).integers(256, size=(32, 48, 3), dtype=np.uint8)


class MaskingBackend(TinyBackend):
    """Keeps the bins in which a window has more than the weighted mean of what it is told."""

    def __init__(self, mask=None):
        super().__init__(heads=("sound",), context_s=0.2)
        self.spec = replace(self.spec, separation=SeparationSpec(1024, 320))
        self.mask = mask
        self.asked = []

    @property
    def separates(self):
        return True

    def separation_masks(self, tokens, window, maps):
        self.asked.append(maps)
        if self.mask is not None:
            return np.full((len(maps), 513, 50), self.mask, np.float32)
        level = np.abs(window).reshape(50, 320).mean(axis=1)
        rising = np.linspace(0.0, 1.0, 513, dtype=np.float32)[:, None]
        share = maps.argmax(axis=1)[:, None, None] / maps.shape[1]
        return (np.clip(rising + 5.0 * level - share, 0.0, 1.0)).astype(np.float32)


def noise(seconds, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ)).astype("f")
