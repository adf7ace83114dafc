"""An endless shuffled order of clips, of which any batch can be named by its number alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int


class EndlessOrder:
    """Batch `number` of size `batch_size`: every clip once an epoch, no clip twice in a batch.

    Clips are shuffled within `shards_at_once` shards, whose order is shuffled, so that a reader
    has few files open. With more clips than whole batches, others are left out every epoch.
    """

    def __init__(
        self, sizes: Sequence[int], batch_size: int, seed: int, shards_at_once: int = 16
    ) -> None:
        num_clips = sum(sizes)
        if num_clips < batch_size:
            raise ValueError(
                f"{num_clips} clips for batches of {batch_size}: add clips or lower "
                "data.batch_size"
            )
        self.sizes, self.batch_size, self.seed = list(sizes), batch_size, seed
        self.shards_at_once = shards_at_once
        self.batches_per_epoch = num_clips // batch_size
        self._epoch = lru_cache(maxsize=2)(self.epoch)

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "_epoch"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self.epoch)

    def __getitem__(self, number: int) -> Int[np.ndarray, " b"]:
        epoch, place = divmod(number, self.batches_per_epoch)
        return self._epoch(epoch)[place * self.batch_size : (place + 1) * self.batch_size]

    def epoch(self, number: int) -> Int[np.ndarray, " n"]:
        """All clips in the order of one epoch."""
        rng = np.random.default_rng((self.seed, number))
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        shards = rng.permutation(len(self.sizes))
        blocks = []
        for first in range(0, len(shards), self.shards_at_once):
            members = shards[first : first + self.shards_at_once]
            clips = [np.arange(starts[shard], starts[shard + 1]) for shard in members]
            blocks.append(rng.permutation(np.concatenate(clips)))
        # Where the epoch is cut changes with it, so that no clip is left out for good.
        order = np.concatenate(blocks)
        return np.roll(order, int(rng.integers(len(order))))
