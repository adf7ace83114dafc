"""Batches of the oassl recipe from shards with captions beside them (see `data caption`).

Batch number m depends on the seed and on m alone.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from av_grounding.image import ResizeTransform
from av_grounding.training.data.captions import CaptionRow, read_captions
from av_grounding.training.data.mixing import random_window
from av_grounding.training.data.order import EndlessOrder
from av_grounding.training.data.shards import ShardClips, find_shards

logger = logging.getLogger(__name__)
# A mirror image of what a caption places on one side is another picture.
SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@runtime_checkable
class TextEncoder(Protocol):
    """Captions to vectors (n, d), float32."""

    def encode(self, captions: list[str]) -> np.ndarray: ...


class Captioned(NamedTuple):
    """Where a clip is, and what its captions are, as rows of the table of all texts."""

    place: int
    still: int
    foreground: list[int]
    background: int
    """-1: none."""
    heard: list[int]
    may_flip: bool


class CaptionedBatches(Dataset):
    """Clips of a split with the picture that was captioned; see `ObjectAware` for the batch.

    Every caption is encoded once. Clips without captions are left out, and counted in the log.
    FileNotFoundError for shards without captions, ValueError where too few clips have some.
    """

    def __init__(
        self,
        data: Path,
        split: str,
        seed: int,
        encoder: TextEncoder,
        *,
        batch_size: int,
        num_samples: int,
        image_px: int,
        sample_rate_hz: int = 16_000,
    ) -> None:
        shards = [one for one in find_shards(data, split) if one.kind == "sound"]
        if not shards:
            raise ValueError(f"{data} has no shards of sounds for {split}; see data shard")
        self.seed, self.num_samples, self.image_px = seed, num_samples, image_px
        self.clips = ShardClips(shards, sample_rate_hz)
        rows = [row for one in shards for row in read_captions(one.path)[: one.num_clips]]
        found = [(place, row) for place, row in enumerate(rows) if row.caption is not None]
        if len(found) < len(rows):
            logger.warning("%d of %d clips have no captions", len(rows) - len(found), len(rows))
        texts = sorted({text for _, row in found for text in texts_of(row)})
        known = {text: number for number, text in enumerate(texts)}
        labels = sorted({label for _, row in found for label in row.labels})
        self.num_classes = len(labels)
        self.captioned = [
            Captioned(
                place,
                row.picture,
                [known[text] for text in row.caption.foreground],
                known.get(row.caption.background, -1),
                [labels.index(label) for label in row.labels],
                not any(SIDES.search(text) for text in texts_of(row)),
            )
            for place, row in found
        ]
        self.max_sources = max((len(one.foreground) for one in self.captioned), default=1)
        # Clips of a shard stay together, so that few files are open at a time.
        which = np.searchsorted(self.clips.starts, [place for place, _ in found], side="right") - 1
        sizes = [size for size in np.bincount(which, minlength=len(shards)).tolist() if size]
        self.order = EndlessOrder(sizes, batch_size, seed)
        self.vectors = encoder.encode(texts)

    @property
    def text_dim(self) -> int:
        return self.vectors.shape[1]

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        chosen = [self.captioned[int(i)] for i in self.order[number]]
        size, dim = len(chosen), self.text_dim
        pixels, sounds = [], []
        foreground = np.zeros((size, self.max_sources, dim), np.float32)
        valid = np.zeros((size, self.max_sources), bool)
        background = np.zeros((size, dim), np.float32)
        heard = np.zeros((size, self.num_classes), bool)
        for place, one in enumerate(chosen):
            clip = self.clips.read(one.place, rng, one.still)
            # The whole picture: a crop might lose what its captions name.
            shape = ResizeTransform(*clip.image.shape[:2], self.image_px, self.image_px)
            image = shape.apply(clip.image).transpose(2, 0, 1)
            is_flipped = one.may_flip and rng.random() < 0.5
            pixels.append(image[..., ::-1] if is_flipped else image)
            sounds.append(random_window(clip.waveform, self.num_samples, rng))
            foreground[place, : len(one.foreground)] = self.vectors[one.foreground]
            valid[place, : len(one.foreground)] = True
            if one.background >= 0:
                background[place] = self.vectors[one.background]
            heard[place, one.heard] = True
        return {
            "pixels": torch.from_numpy(np.stack(pixels)),
            "audio": torch.from_numpy(np.stack(sounds)),
            "foreground": torch.from_numpy(foreground),
            "foreground_valid": torch.from_numpy(valid),
            "background": torch.from_numpy(background),
            "background_valid": torch.tensor([one.background >= 0 for one in chosen]),
            "heard": torch.from_numpy(heard),
        }


def texts_of(row: CaptionRow) -> list[str]:
    """All captions of a clip."""
    assert row.caption is not None
    return [*row.caption.foreground, *([row.caption.background] * bool(row.caption.background))]
