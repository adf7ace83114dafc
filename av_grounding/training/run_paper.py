"""Trains a paper's recipe on real clips: pretrained backbones, aligner warm-up, full training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.denseav import denseav_spec, num_tokens
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.modeling.pretrained import load_dino, load_hubert
from av_grounding.training.data.batches import open_batches
from av_grounding.training.data.mixing import MixedBatches
from av_grounding.training.fitting.head_names import KINDS, NUM_NAMING_BATCHES, Pairs, name_heads
from av_grounding.training.loop import distributed
from av_grounding.training.loop.configuration import SssPaperRun
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress, settle_settings
from av_grounding.training.loop.validation import loss_on
from av_grounding.training.recipes.build import make_recipe
from av_grounding.training.recipes.lora import add_lora, merged
from av_grounding.training.recipes.warm_up import warm_up_aligners

LAYOUTS = {"sss": "triplets", "denseav": "pairs"}
MAX_VALIDATION_BATCHES = 50


def run(config: SssPaperRun, data: Path, out: Path, progress: Progress) -> Path:
    """Train and write `out`/bundle; returns it. A second call resumes where the first stopped.

    `data` holds clips of both kinds (see `training.data`). Raises ValueError when `out` was begun
    with other settings, listing the differences.
    """
    out.mkdir(parents=True, exist_ok=True)
    settle_settings(config, out / "settings.json")
    torch.manual_seed(config.loop.seed)
    progress("weights", 0, 1, {})
    model = build_model(config)
    recipe = make_recipe(model, config.recipe)
    batches, validation, num_batches = open_batches(
        data, config.data, seed=config.loop.seed, layout=LAYOUTS[config.recipe_name],
        image_px=config.short_side_px, sample_rate_hz=config.model.sample_rate_hz,
    )  # fmt: skip
    validate = None
    if validation is not None:
        validate = loss_on(validation, min(num_batches, MAX_VALIDATION_BATCHES))
    warm_up_aligners(recipe, batches, config.aligners, out / "aligners", progress)
    trained = train(
        recipe, batches, config.loop, out / config.recipe_name, validate=validate,
        on_step=lambda step, row: progress(config.stage, step + 1, config.loop.steps, row),
    )  # fmt: skip
    if distributed.rank() > 0:
        return out / "bundle"
    model = merged(trained.model).float().cpu().eval()
    if config.recipe_name == "denseav":
        name_heads(model, naming_pairs(batches, config.loop.steps))
    return write_bundle(config, model, float(trained.gamma.detach()), out / "bundle")


def naming_pairs(batches: MixedBatches, first: int) -> Iterator[Pairs]:
    """Pairs of each kind from batches that the training has not reached."""
    for number in range(first, first + NUM_NAMING_BATCHES):
        batch = batches[number]
        for source, kind in enumerate(KINDS):
            rows = batch["source"] == source
            yield kind, batch["pixels"][rows], batch["audio"][rows]


def build_model(config: SssPaperRun) -> DualEncoder:
    """The model with its pretrained backbones, and LoRA on the image's.

    HuBERT is tuned fully (000 section 3.3.1), but for the vector that masks inputs in its own
    pretraining, which nothing here uses.
    """
    model = DualEncoder(config.model)
    load_dino(model.image_backbone, config.pretrained.image)
    load_hubert(model.audio_backbone, config.pretrained.audio)
    if config.pretrained.lora_rank:
        tuning = config.pretrained
        add_lora(model, tuning.lora_rank, tuning.lora_alpha, tuning.lora_dropout)
    model.audio_backbone.hubert.masked_spec_embed.requires_grad_(False)
    return model


def write_bundle(
    config: SssPaperRun, model: DualEncoder, temperature: float, directory: Path
) -> Path:
    """The bundle, under a default calibration (see `denseav_spec`) until `calibrate` fits one."""
    spec = replace(
        denseav_spec(model, temperature),
        window_s=config.window_s,
        hop_s=config.hop_s,
        num_tokens=num_tokens(model, round(config.window_s * config.model.sample_rate_hz)),
        short_side_px=config.short_side_px,
    )
    info = {"recipe": config.recipe_name, "settings": config.to_json()}
    return save_bundle(directory, model, spec, name=config.name, info=info)
