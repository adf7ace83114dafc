"""Two more small backends: one answers with regions, one with a map for each source.

They compute for real what such models compute, in NumPy, so that whatever takes an answer can be
tested with answers that are no single grid.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from av_grounding.types import MAX_LOGIT
from tests.helpers.tiny_backend import TinyBackend

REGION_LABELS = ("left", "middle", "right", "all of it")


class RegionBackend(TinyBackend):
    """Four overlapping regions of the grid: three thirds that share columns, and the top half.

    A region's vector is the mean of its cells'; the lower left corner belongs to none.
    """

    def masks(self, tokens: np.ndarray) -> np.ndarray:
        """(r, h, w) bool; at least 4 cells wide."""
        height, width = tokens.shape[-2:]
        masks = np.zeros((4, height, width), bool)
        third = max(1, width // 3)
        for index in range(3):
            masks[index, : max(1, height - 1), index * third : (index + 1) * third + 1] = True
        masks[3, : max(1, height // 2)] = True
        return masks

    def similarity(self, tokens: np.ndarray, queries: np.ndarray) -> np.ndarray:
        masks = self.masks(tokens).astype(np.float32)
        of_regions = np.einsum("kchw,rhw->kcr", tokens, masks) / masks.sum(axis=(1, 2))
        return np.einsum("knc,kcr->knr", queries, of_regions).astype(np.float32)

    def paint(self, tokens: np.ndarray, values: np.ndarray) -> np.ndarray:
        covered = np.where(self.masks(tokens), values[..., None, None], np.float32(-MAX_LOGIT))
        return covered.max(axis=2)


class SourcesBackend(TinyBackend):
    """One map for each of K sources: map i sees only every K-th column, and has a name."""

    def __init__(self, *, num_sources: int = 3, **options) -> None:
        super().__init__(**options)
        self.num_sources = num_sources

    def maps(self, tokens, head, query, similarity):
        height, width = self.grid(tokens)
        maps = np.full((self.num_sources, height, width), -9.0, np.float32)
        for index in range(self.num_sources):
            columns = slice(index, None, self.num_sources)
            maps[index, :, columns] = similarity.reshape(height, width)[:, columns]
        return maps.reshape(self.num_sources, -1)

    def labels(self, tokens, head, maps):
        return tuple(f"source {index + 1}" for index in range(len(maps)))


class OneTokenBackend(TinyBackend):
    """One audio vector for a whole window of 3 s, which stands for the window's newest part."""

    def __init__(self, hop_s=0.25, token_offset_s=None, **options) -> None:
        super().__init__(window_s=3.0, hop_s=hop_s, context_s=0.0, **options)
        offset_s = 3.0 - hop_s / 2 if token_offset_s is None else token_offset_s
        self.spec = replace(self.spec, num_tokens=1, token_offset_s=offset_s)

    def encode_audio(self, waveform: np.ndarray) -> np.ndarray:
        return super().encode_audio(waveform).mean(axis=2, keepdims=True)
