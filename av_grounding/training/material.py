"""What a run trains on: real clips, or the banks of the synthetic world."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from av_grounding.everyday.utterances import Speaker
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.synthetic.audio_bank import AudioBank
from av_grounding.synthetic.scene_bank import SceneBank, SceneBankSpec
from av_grounding.training.configuration import DataConfig, OasslRun, SeacRun, SssRun, StagesConfig
from av_grounding.training.data.batches import open_batches
from av_grounding.training.data.clips import KINDS
from av_grounding.training.data.mixing import MixingConfig
from av_grounding.training.data.synthetic_batches import MixAndSeparateBatches, PartnerBatches
from av_grounding.training.fitting.head_names import NUM_NAMING_BATCHES, Pairs
from av_grounding.training.loop.config import LoopConfig
from av_grounding.training.loop.run_folder import Progress
from av_grounding.training.loop.validation import Validate, loss_on
from av_grounding.training.paper_configuration import AnyRun, OneAvmPaperRun, SeacPaperRun
from av_grounding.types import HeadSpec, ModelSpec

logger = logging.getLogger(__name__)
LAYOUTS = {"sss": "triplets", "denseav": "pairs", "oneavm": "clips"}
VALIDATE_EVERY = 500
"""Steps between two looks at real clips, where the settings say nothing."""
VALIDATION, VALIDATION_SHARE, NUM_VALIDATION_BATCHES = "validation", 0.05, 8
"""Folder, size beside training, and batches of the synthetic world's."""
MAX_VALIDATION_BATCHES = 50
"""Of real clips."""
RATIO_DB = 6.0

SmallRun = SssRun | SeacRun | OasslRun


@dataclass(frozen=True)
class Material:
    """What a run learns from, and is judged by while it learns."""

    batches: Dataset
    held_out: Dataset | None
    num_held_out: int
    naming_pairs: Callable[[int], Iterator[Pairs]]
    """Clips of each kind, from batches behind the number given: to tell the heads by."""


def open_clips(config: AnyRun, data: Path) -> Material:
    """Real clips. Without a validation split, which is said, the last weights ship."""
    mixing = config.data
    if isinstance(config, SssRun):
        mixing = MixingConfig(
            batch_size=config.data.batch_size, clip_s=config.window_s, ratio_db=RATIO_DB
        )
    elif isinstance(config, OneAvmPaperRun):
        mixing = MixingConfig(
            sound=config.data.folder, batch_size=config.data.batch_size, clip_s=config.window_s,
            augmentation=config.data.augmentation,
        )  # fmt: skip
    batches, held_out, num = open_batches(
        data, mixing, seed=config.loop.seed, layout=LAYOUTS[config.recipe_name],
        image_px=config.short_side_px, sample_rate_hz=config.model.sample_rate_hz,
    )  # fmt: skip
    if held_out is None:
        logger.warning("%s has no validation split: the last weights ship, not the best", data)

    def naming_pairs(first: int) -> Iterator[Pairs]:
        for number in range(first, first + NUM_NAMING_BATCHES):
            batch = batches[number]
            for source, kind in enumerate(KINDS):
                rows = batch["source"] == source
                yield kind, batch["pixels"][rows], batch["audio"][rows]

    return Material(batches, held_out, min(num, MAX_VALIDATION_BATCHES), naming_pairs)


def judged_by(material: Material, loop: LoopConfig) -> tuple[LoopConfig, Validate | None]:
    """How often a run looks at its held-out part, and how; it may have none."""
    if material.held_out is None:
        return loop, None
    validate = loss_on(material.held_out, material.num_held_out)
    return replace(loop, validate_every=loop.validate_every or VALIDATE_EVERY), validate


def open_banks(config: SssRun, data: Path, model: DualEncoder) -> Material:
    """The synthetic world, with a validation split where the settings ask for one."""
    options = {**window_of(config, model), "batch_size": config.data.batch_size}
    kind = PartnerBatches if config.recipe_name == "oneavm" else MixAndSeparateBatches
    batches, held_out = kind(data, config.loop.seed, **options), None
    if config.loop.validate_every:
        held_out = kind(data / VALIDATION, config.loop.seed, **options)

    def naming_pairs(first: int) -> Iterator[Pairs]:
        later = (batches[number] for number in range(first, first + NUM_NAMING_BATCHES))
        return ((kind, batch["pixels"], batch[kind]) for batch in later for kind in KINDS)

    return Material(batches, held_out, NUM_VALIDATION_BATCHES, naming_pairs)


def build_banks(config: SssRun | SeacRun, data: Path, progress: Progress) -> None:
    """Draw what is missing of scenes, sounds and utterances, for validation where it is wanted."""
    size = config.data
    for split, folder, share in bank_folders(config, data):
        num_groups = math.ceil(share * size.num_scene_groups)
        SceneBank.build(
            folder / "scenes",
            SceneBankSpec(split, num_groups, config.short_side_px, size.bank_seed),
            progress=lambda done, total: progress("scenes", done, total, {}),
        )
        num_utterances = math.ceil(share * size.num_utterances_per_class)
        build_sounds(size, split, folder, share, num_utterances, progress, size.voices)


def bank_folders(config: SmallRun, data: Path) -> Iterator[tuple[str, Path, float]]:
    """(split, folder, share of the size that is set) of each bank that a run wants."""
    yield "train", data, 1.0
    if config.loop.validate_every:
        yield "val", data / VALIDATION, VALIDATION_SHARE


def build_sounds(
    size: DataConfig | StagesConfig,
    split: str,
    folder: Path,
    share: float,
    num_utterances_per_class: int,
    progress: Progress,
    voices: tuple[str, ...] = (),
) -> None:
    """Synthesise what is missing of a split's sounds and utterances."""
    AudioBank.build(
        folder / "audio", split, seed=size.bank_seed,
        num_sounds_per_class=math.ceil(share * size.num_sounds_per_class),
        num_utterances_per_class=num_utterances_per_class,
        speak=Speaker(voices) if voices else None,
        progress=lambda done, total: progress("audio", done, total, {}),
    )  # fmt: skip


def window_of(
    config: SmallRun | SeacPaperRun | OneAvmPaperRun, model: DualEncoder
) -> dict[str, int]:
    return {
        "num_samples": round(config.window_s * config.model.sample_rate_hz),
        "token_samples": model.audio_backbone.token_samples,
    }


@torch.no_grad()
def num_tokens_of(model: DualEncoder, num_samples: int) -> int:
    """Audio tokens that a window gives: at its end some models leave out, others round up."""
    was_training = model.training
    tokens = model.eval().encode_audio(torch.zeros(1, num_samples))
    model.train(was_training)
    return tokens.shape[-1]


def spec_of(
    config: SmallRun | SeacPaperRun | OneAvmPaperRun,
    model: DualEncoder,
    heads: tuple[HeadSpec, ...],
    **further: Any,
) -> ModelSpec:
    """Under a default calibration until one is fitted; `further` fields of a `ModelSpec` belong to
    its recipe."""
    num_samples, token_samples = window_of(config, model).values()
    num_tokens, rate_hz = num_tokens_of(model, num_samples), config.model.sample_rate_hz
    fills = num_tokens * token_samples == num_samples
    return ModelSpec(
        heads=heads,
        sample_rate_hz=rate_hz,
        window_s=config.window_s,
        hop_s=config.hop_s,
        num_tokens=num_tokens,
        token_spacing_s=0.0 if fills else token_samples / rate_hz,
        token_offset_s=getattr(model.audio_backbone, "first_token_s", None),
        short_side_px=config.short_side_px,
        patch_px=model.patch_px,
        context_s=model.audio_backbone.context_s,
        **further,
    )
