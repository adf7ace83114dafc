"""From a folder of real data to batches: training and validation, whatever the folder holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from av_grounding.training.data.augmentation import AugmentationConfig
from av_grounding.training.data.clips import KINDS, ClipSet
from av_grounding.training.data.mixing import LAYOUTS, MixedBatches, MixingConfig
from av_grounding.training.data.open import open_clips

PLAIN = AugmentationConfig(
    crop_scale=(1.0, 1.0), crop_side=0.0, flip=0.0, jitter=0.0, grayscale=0.0, splice=0.0,
    keep_window=0.0,
)  # fmt: skip
"""Validation sees clips as they are."""


def open_kinds(
    data: Path,
    config: MixingConfig,
    split: str,
    sample_rate_hz: int,
    kinds: tuple[str, ...] = KINDS,
) -> dict[str, ClipSet]:
    """Clips of these kinds of a split: from the folders that `config` names, else from `data`.

    ValueError, with what to add, where a kind is missing.
    """
    whole, found = None, {}
    needs = "the recipes need sound and speech"
    if kinds != KINDS:
        needs = f"the recipe needs {' and '.join(kinds)}"
    for kind in kinds:
        folder = data / getattr(config, kind)
        if folder.is_dir():
            clips = open_clips(folder, split, sample_rate_hz, config.clip_s).get(kind)
        else:
            whole = whole or open_clips(data, split, sample_rate_hz, config.clip_s)
            clips = whole.get(kind)
        if clips is not None:
            found[kind] = clips
        elif split == "train":
            raise ValueError(
                f"{data}: no {kind} clips for training; {needs}: add {folder.name}/, or clips "
                f"below {' and '.join(f'{name}/' for name in reversed(kinds))}"
            )
    return found


def open_batches(
    data: Path,
    config: MixingConfig,
    *,
    seed: int,
    layout: str,
    image_px: int,
    sample_rate_hz: int,
) -> tuple[MixedBatches, MixedBatches | None, int]:
    """Training batches, validation batches and how many of those one epoch has.

    No validation batches (None, 0) where its split has fewer than two clips of a kind; they are
    smaller than the training's where it has fewer than a batch.
    """
    common = {"layout": layout, "image_px": image_px, "sample_rate_hz": sample_rate_hz}
    kinds = LAYOUTS[layout]
    training = open_kinds(data, config, "train", sample_rate_hz, kinds)
    batches = MixedBatches(training["sound"], training.get("speech"), config, seed, **common)
    held_out = open_kinds(data, config, "val", sample_rate_hz, kinds)
    smallest = min((len(held_out[kind]) if kind in held_out else 0) for kind in kinds)
    size = min(config.batch_size, smallest // 2 * 2)
    if size < 2:
        return batches, None, 0
    plain = replace(config, batch_size=size, augmentation=PLAIN)
    validation = MixedBatches(held_out["sound"], held_out.get("speech"), plain, seed, **common)
    return batches, validation, smallest // size
