"""The training run of paper 003 on clips, with its own encoders."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.dual_encoder import head_specs
from av_grounding.modeling.pretrained import load_resnet
from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.training.data.open import check_clips
from av_grounding.training.fitting.held_out import calibrate_on_clips
from av_grounding.training.initial import start_from
from av_grounding.training.loop import distributed
from av_grounding.training.loop.curves import draw_curves
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress, settle_settings
from av_grounding.training.material import judged_by, open_clips, spec_of
from av_grounding.training.paper_configuration import OneAvmPaperRun
from av_grounding.training.recipes.oneavm import OneAvm
from av_grounding.types import HeadCalibration, ModelSpec, SeparationSpec

NUM_NEGATIVES = 127
"""Of the paper's batch of 128."""


def run_unified(config: OneAvmPaperRun, data: Path, out: Path, progress: Progress) -> Path:
    """Train and write `out`/bundle; returns it. A second call resumes where the first stopped.

    `data` holds clips of sounds (see `training.data`). With a validation split the weights ship
    that are best on it, calibrated on it. ValueError for other settings than the run began with,
    and for data or weights that do not serve; OSError for weights that are not to be had.
    """
    check_clips(data)
    out.mkdir(parents=True, exist_ok=True)
    with distributed.main_process_first():
        settle_settings(config, out / "settings.json")
    torch.manual_seed(config.loop.seed)
    progress("weights", 0, 1, {})
    model = build_model(config)
    material = open_clips(config, data)
    loop, validate = judged_by(material, config.loop)
    trained = train(
        OneAvm(model, config.recipe), material.batches, loop, out / config.recipe_name,
        validate=validate,
        on_step=lambda step, row: progress(config.stage, step + 1, loop.steps, row),
    )  # fmt: skip
    if distributed.rank() > 0:
        return out / "bundle"
    model = trained.model.float().cpu().eval()
    info = {"recipe": config.recipe_name, "settings": config.to_json()}
    spec = unified_spec(config, model, float(trained.gamma.detach()))
    bundle = save_bundle(out / "bundle", model, spec, name=config.name, info=info)
    draw_curves(out, out / "curves.png")
    if material.held_out is not None:
        size = config.data
        calibrate_on_clips(
            bundle, material.held_out.sources, size.num_calibration_samples,
            size.calibration_seed, progress,
        )  # fmt: skip
    return bundle


def build_model(config: OneAvmPaperRun) -> SeparatingEncoder:
    """The model with what it begins with: a bundle's parts, else its image backbone's weights."""
    model = SeparatingEncoder(config.model)
    taken = start_from(model, Path(config.start)) if config.start else ()
    if config.pretrained.image and "image_backbone" not in taken:
        load_resnet(model.image_backbone, config.pretrained.image)
    model.image_backbone.to(memory_format=torch.channels_last)
    return model


def unified_spec(
    config: OneAvmPaperRun, model: SeparatingEncoder, inverse_temperature: float
) -> ModelSpec:
    """Under a default calibration until one is fitted: the probability that the contrast gives a
    pair of this cosine among the paper's batch, all others at 0."""
    calibration = HeadCalibration(scale=inverse_temperature, bias=-math.log(NUM_NEGATIVES))
    log_mel = model.audio_backbone.log_mel
    return spec_of(
        config, model, head_specs(model.heads, calibration=calibration), compares="cosine",
        separation=SeparationSpec(log_mel.window, log_mel.hop),
    )  # fmt: skip
