"""The training run of paper 004's recipe, from settings to a bundle: on the synthetic world, whose
captions are known, or on shards with captions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from av_grounding.grounder import Grounder
from av_grounding.identification import SourcesSpec
from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.bundle_config import store_spec
from av_grounding.modeling.dual_encoder import DualEncoder, head_specs
from av_grounding.modeling.pretrained import load_resnet
from av_grounding.modeling.text_encoder import BertText, WordVectors
from av_grounding.synthetic.stage_bank import StageBank, StageBankSpec
from av_grounding.training.configuration import OasslRun
from av_grounding.training.data.captioned_batches import CaptionedBatches
from av_grounding.training.data.open import check_clips, holds_clips, open_clips
from av_grounding.training.data.stage_batches import StageBatches
from av_grounding.training.fitting.calibration import fit_cases, reliability_facts
from av_grounding.training.fitting.evidence_floor import evidence_floors
from av_grounding.training.fitting.held_out import calibrate_on_clips
from av_grounding.training.fitting.sources import fit_counting, fit_identification, stage_cases
from av_grounding.training.initial import start_from
from av_grounding.training.loop import distributed
from av_grounding.training.loop.curves import draw_curves
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress, settle_settings
from av_grounding.training.loop.validation import loss_on
from av_grounding.training.material import (
    VALIDATION,
    bank_folders,
    build_sounds,
    spec_of,
    window_of,
)
from av_grounding.training.paper_configuration import OasslPaperRun
from av_grounding.training.recipes.oassl import ObjectAware
from av_grounding.types import ModelSpec

NUM_VALIDATION_BATCHES = 4


def run_oassl(config: OasslRun, data: Path, out: Path, progress: Progress) -> Path:
    """Train and write `out`/bundle; returns it. A second call resumes where the first stopped.

    `data` holds shards with captions, or the banks of stages and sounds, which are drawn on first
    use. With `loop.validate_every` the weights ship that are best on the validation split.
    ValueError for other settings than the run began with, and FileNotFoundError for shards without
    captions. A paper's run wants shards, and OSError says where its weights are not to be had.
    """
    is_real = holds_clips(data)
    if isinstance(config, OasslPaperRun):
        check_clips(data)
    out.mkdir(parents=True, exist_ok=True)
    with distributed.main_process_first():
        settle_settings(config, out / "settings.json")
        if not is_real:
            build_banks(config, data, progress)
    torch.manual_seed(config.loop.seed)
    model = DualEncoder(config.model)
    if config.start:
        start_from(model, Path(config.start), whole=True)
    elif isinstance(config, OasslPaperRun) and config.pretrained.image:
        progress("weights", 0, 1, {})
        load_resnet(model.image_backbone, config.pretrained.image)
    model.image_backbone.to(memory_format=torch.channels_last)

    def opened(split: str) -> StageBatches | CaptionedBatches:
        if is_real:
            return open_captioned(config, data, model, split)
        return open_stages(config, data if split == "train" else data / VALIDATION, model)

    batches = opened("train")
    recipe = ObjectAware(model, config.recipe, batches.text_dim)
    validate = None
    if config.loop.validate_every:
        validate = loss_on(opened("val"), NUM_VALIDATION_BATCHES)
    trained = train(
        recipe, batches, config.loop, out / "oassl", validate=validate,
        on_step=lambda step, row: progress(config.stage, step + 1, config.loop.steps, row),
    )  # fmt: skip
    if distributed.rank() > 0:
        return out / "bundle"
    model = trained.model.float().cpu().eval()
    info = {"recipe": config.recipe_name, "settings": config.to_json()}
    spec = sources_spec(config, model)
    bundle = save_bundle(out / "bundle", model, spec, name=config.name, info=info)
    draw_curves(out, out / "curves.png")
    if is_real:
        clips = open_clips(data, "val", config.model.sample_rate_hz, config.window_s)
        sounds = {kind: clips[kind] for kind in ("sound",) if kind in clips}
        num, seed = config.data.num_calibration_samples, config.data.calibration_seed
        calibrate_on_clips(bundle, sounds, num, seed, progress)
    else:
        fit(bundle, config, progress)
    return bundle


def open_stages(config: OasslRun, data: Path, model: DualEncoder) -> StageBatches:
    return StageBatches(
        data,
        config.loop.seed,
        **window_of(config, model),
        batch_size=config.data.batch_size,
        text_dim=config.data.text_dim,
        captions=config.data.captions,
        lookalike_share=config.data.lookalike_share,
    )


def open_captioned(
    config: OasslRun, data: Path, model: DualEncoder, split: str
) -> CaptionedBatches:
    text = config.data.text
    return CaptionedBatches(
        data,
        split,
        config.loop.seed,
        WordVectors(config.data.text_dim) if text == "words" else BertText(text),
        batch_size=config.data.batch_size,
        num_samples=window_of(config, model)["num_samples"],
        image_px=config.short_side_px,
        sample_rate_hz=config.model.sample_rate_hz,
    )


def build_banks(config: OasslRun, data: Path, progress: Progress) -> None:
    """Draw what is missing of stages and sounds, for validation where it is wanted."""
    size = config.data
    for split, folder, share in bank_folders(config, data):
        num = math.ceil(share * size.num_stages)
        StageBank.build(
            folder / "stages",
            StageBankSpec(split, num, config.short_side_px, size.bank_seed),
            progress=lambda done, total: progress("stages", done, total, {}),
        )
        build_sounds(size, split, folder, share, 1, progress)


def sources_spec(config: OasslRun, model: DualEncoder) -> ModelSpec:
    """Under a default calibration until `fit` finds one."""
    sources = SourcesSpec(
        config.max_sources,
        silent_similarity=config.recipe.negative_threshold,
        mask_width=config.recipe.mask_width,
    )
    return spec_of(config, model, head_specs(model.heads), compares="cosine", sources=sources)


def fit(bundle: Path, config: OasslRun, progress: Progress) -> None:
    """Evidence floor, calibration and identification, on the validation split, stored."""
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    num, seed = config.data.num_calibration_samples, config.data.calibration_seed

    def told(done: int, total: int) -> None:
        progress("calibration", done, total, {})

    spec = grounder.spec
    if config.model.evidence:
        spec = spec.with_heads(min_token_norm=evidence_floors(grounder.backend, num, seed, told))
    one_map = grounder.with_spec(replace(spec, sources=None))
    calibrations, reliabilities = fit_cases(one_map, stage_cases(one_map, num, seed, told))
    spec = spec.with_heads(calibration=calibrations)
    grounder = grounder.with_spec(spec)
    sources, accuracy = fit_identification(grounder, num, seed, told)
    counting, by_ear = fit_counting(grounder, config.data.num_counting_samples, seed, told)
    if by_ear > accuracy:
        sources, accuracy = replace(sources, counting=counting), by_ear
    info = {
        **reliability_facts(reliabilities),
        "num_sources_right": round(accuracy, 3),
    }
    store_spec(bundle, replace(spec, sources=sources), info)
