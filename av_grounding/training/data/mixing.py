"""Batches of sound and speech clips, or of sounds alone, for the papers' recipes on real data.

Batch number m depends on the seed and on m alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.utils.data import Dataset

from av_grounding.training.data import augmentation
from av_grounding.training.data.augmentation import AugmentationConfig
from av_grounding.training.data.clips import KINDS, ClipSet
from av_grounding.training.data.order import EndlessOrder

LAYOUTS = {"triplets": KINDS, "pairs": KINDS, "clips": KINDS[:1]}
"""Layout -> the kinds of clips that it takes."""
SILENT_BELOW = 0.01
"""Of the clip's loudest part, in amplitude: 40 dB down."""
MASKS_PER_S = 50
"""Masks of a clip are this fine; recipes average them to the pace of their tokens."""


@dataclass(frozen=True)
class MixingConfig:
    """What a batch is made of; folders are below the run's data folder."""

    sound: str = "audioset"
    """AudioSet (000 section 4.1; 001 section 3.5)."""
    speech: str = "placesaudio"
    """PlacesAudio (the same)."""
    batch_size: int = 8
    """Per process: sss, triplets of a sound, a speech and their mixture; denseav, pairs, half of
    them sound and half speech (001 section 3.5)."""
    clip_s: float = 10.0
    """Clips are trimmed or padded with silence to this (001 section 3.5)."""
    ratio_db: float = 0.0
    """Mixtures draw their sound-to-speech level from plus or minus this. 000 sums the two, and
    says nothing of levels."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


class MixedBatches(Dataset):
    """`layout` triplets is the batch of `MixAndSeparate`, pairs that of `HeadMaxContrast`, clips
    that of `OneAvm`.

    Clips are sounds alone, `pixels` and `audio`. Their sound stays as it was: it is mixed and
    parted later, and what a splice brings is seen nowhere. Every clip comes once an epoch of its
    kind. Raises ValueError where a kind has fewer clips than a batch takes.
    """

    def __init__(
        self,
        sound: ClipSet,
        speech: ClipSet | None,
        config: MixingConfig,
        seed: int,
        *,
        layout: str,
        image_px: int,
        sample_rate_hz: int = 16_000,
    ) -> None:
        if layout not in LAYOUTS:
            raise ValueError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
        if layout == "pairs" and config.batch_size % 2:
            raise ValueError(
                f"batch_size is {config.batch_size}; expected an even number: half of the pairs "
                "are sound and half speech"
            )
        sets = dict(zip(KINDS, (sound, speech), strict=True))
        self.sources = {kind: sets[kind] for kind in LAYOUTS[layout]}
        self.config, self.seed, self.layout, self.image_px = config, seed, layout, image_px
        self.num_samples = round(config.clip_s * sample_rate_hz)
        self.num_masks = round(config.clip_s * MASKS_PER_S)
        size = config.batch_size // (2 if layout == "pairs" else 1)
        self.orders = {}
        for number, (kind, clips) in enumerate(self.sources.items()):
            try:
                # Each kind in an order of its own, or the same clips would always meet.
                self.orders[kind] = EndlessOrder(clips.sizes, size, 2 * seed + number)
            except ValueError as error:
                raise ValueError(f"{kind}: {error}") from None

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        parts = {kind: self.draw(kind, number, rng) for kind in self.sources}
        if self.layout == "clips":
            return {name: parts["sound"][name] for name in ("pixels", "audio")}
        if self.layout == "pairs":
            names = parts["sound"]
            pairs = {name: torch.cat([part[name] for part in parts.values()]) for name in names}
            num_each = self.config.batch_size // 2
            return {**pairs, "source": torch.arange(2).repeat_interleave(num_each)}
        batch = {}
        for kind, part in parts.items():
            batch |= {kind if name == "audio" else f"{kind}_{name}": part[name] for name in part}
        # The mixture is of the clips as they came: what was spliced in belongs to no image.
        clean = [batch.pop(f"{kind}_clean") for kind in KINDS]
        ratio = self.config.ratio_db
        ratios = torch.from_numpy(rng.uniform(-ratio, ratio, len(clean[0]))).float()
        return {**batch, "mixture": mix(*clean, ratios)}

    def draw(self, kind: str, number: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """A batch's clips of a kind: pixels, audio, and how silent and foreign each part is."""
        settings = self.config.augmentation
        clips = [self.sources[kind].read(int(i), rng) for i in self.orders[kind][number]]
        windows = [random_window(clip.waveform, self.num_samples, rng) for clip in clips]
        columns: dict[str, list[np.ndarray]] = {
            name: [] for name in ("pixels", "audio", "silent", "foreign", "clean")
        }
        for i, (clip, window) in enumerate(zip(clips, windows, strict=True)):
            # The next clip of the batch lends the piece that is spliced in.
            other, silent = windows[(i + 1) % len(windows)], self.silent(window)
            changed = (window, silent, np.zeros_like(silent))
            if self.layout != "clips":
                changed = augmentation.augment_clip(window, other, silent, settings, rng)
            image = augmentation.augment_image(clip.image, self.image_px, settings, rng)
            row = (image.transpose(2, 0, 1), *changed, window)
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
        if self.layout == "pairs":
            del columns["clean"]
        return {name: torch.from_numpy(np.stack(rows)) for name, rows in columns.items()}

    def silent(self, window: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " m"]:
        """1 for parts that are silent beside the window's loudest, or padding; else 0."""
        level = np.sqrt(augmentation.per_token(np.square(window), self.num_masks))
        return (level <= SILENT_BELOW * level.max()).astype(np.float32)


def random_window(
    waveform: Float32[np.ndarray, " s"], num_samples: int, rng: np.random.Generator
) -> Float32[np.ndarray, " n"]:
    """A random piece of a longer clip, zeros behind a shorter one."""
    spare = len(waveform) - num_samples
    start = int(rng.integers(spare + 1)) if spare > 0 else 0
    cut = waveform[start : start + num_samples]
    return np.pad(cut, (0, num_samples - len(cut)))


def mix(
    sound: Float32[Tensor, "b s"], speech: Float32[Tensor, "b s"], ratio_db: Float32[Tensor, " b"]
) -> Float32[Tensor, "b s"]:
    """Their sum, the sound scaled to be `ratio_db` louder than the speech.

    Where either is silent, the other as it is.
    """
    level = [one.square().mean(dim=1, keepdim=True).sqrt() for one in (sound, speech)]
    gain = level[1] / level[0].clamp_min(1e-6) * 10 ** (ratio_db[:, None] / 20)
    gain = torch.where((level[0] > 1e-6) & (level[1] > 1e-6), gain, torch.ones_like(gain))
    return gain * sound + speech
