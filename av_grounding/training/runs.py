"""A training run from settings to a bundle: the small model on the synthetic world or on real
clips, or a paper's model with pretrained backbones on real clips."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import model_of, save_bundle
from av_grounding.modeling.bundle_config import store_spec
from av_grounding.modeling.denseav import denseav_spec, num_tokens
from av_grounding.modeling.dual_encoder import DualEncoder, head_specs
from av_grounding.modeling.pretrained import load_dino, load_hubert
from av_grounding.synthetic.objects import CLASSES
from av_grounding.training.configuration import OasslRun, OneAvmRun, SeacRun, SssRun
from av_grounding.training.data.open import check_clips, holds_clips
from av_grounding.training.data.synthetic_batches import PretextBatches
from av_grounding.training.fitting.calibration import (
    fit_cases,
    reliability_facts,
    synthetic_cases,
)
from av_grounding.training.fitting.evidence_floor import evidence_floors
from av_grounding.training.fitting.head_names import name_heads
from av_grounding.training.fitting.held_out import calibrate_on_clips
from av_grounding.training.initial import start_from
from av_grounding.training.loop import distributed
from av_grounding.training.loop.config import LoopConfig
from av_grounding.training.loop.curves import draw_curves
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress, settle_settings
from av_grounding.training.material import (
    Material,
    build_banks,
    judged_by,
    open_banks,
    open_clips,
    spec_of,
    window_of,
)
from av_grounding.training.paper_configuration import (
    AnyRun,
    OneAvmPaperRun,
    SeacPaperRun,
    SssPaperRun,
)
from av_grounding.training.recipes.contrast import Contrast, ContrastConfig
from av_grounding.training.recipes.denseav import DenseavConfig, HeadMaxContrast
from av_grounding.training.recipes.lora import add_lora, merged
from av_grounding.training.recipes.oneavm import OneAvm, OneAvmConfig
from av_grounding.training.recipes.pretext import Pretext
from av_grounding.training.recipes.sss import MixAndSeparate, SssConfig
from av_grounding.training.regions_run import run_seac
from av_grounding.training.sources_run import run_oassl
from av_grounding.training.unified_run import run_unified
from av_grounding.types import ModelSpec, SeparationSpec

RECIPES = {SssConfig: MixAndSeparate, DenseavConfig: HeadMaxContrast, OneAvmConfig: OneAvm}


def run(
    config: AnyRun | OasslRun | SeacRun | SeacPaperRun, data: Path, out: Path, progress: Progress
) -> Path:
    """Train and write `out`/bundle; returns it. A second call resumes where the first stopped.

    `data` holds clips (see `training.data`), or the synthetic banks, which are drawn on first
    use. With `loop.validate_every`, which real clips have by themselves, the weights ship that
    are best on a validation split; the synthetic one shares no individual, no voice and no
    background with training and test. Raises ValueError for other settings than the run began
    with, and for data that does not serve.
    """
    if isinstance(config, OasslRun):
        return run_oassl(config, data, out, progress)
    if isinstance(config, SeacRun | SeacPaperRun):
        return run_seac(config, data, out, progress)
    if isinstance(config, OneAvmPaperRun):
        return run_unified(config, data, out, progress)
    is_paper, is_real = isinstance(config, SssPaperRun), holds_clips(data)
    if is_paper:
        check_clips(data)
    if is_real and not is_paper and not config.recipe.image_backbone_rate:
        # Without a pretext, which needs the synthetic world, there is nothing to preserve.
        config = replace(config, recipe=replace(config.recipe, image_backbone_rate=1.0))
    recipe, material = train_recipe(config, data, out, progress)
    if distributed.rank() > 0:
        return out / "bundle"
    model = merged(recipe.model).float().cpu().eval()
    temperature = float(recipe.gamma.detach())
    spec = paper_spec(config, model, temperature) if is_paper else small_spec(config, model)
    info = {"recipe": config.recipe_name, "settings": config.to_json()}
    bundle = save_bundle(out / "bundle", model, spec, name=config.name, info=info)
    draw_curves(out, out / "curves.png")
    if not is_paper and not is_real:
        calibrate(bundle, config, progress)
    elif not is_paper and material.held_out is not None:
        size = config.data
        calibrate_on_clips(
            bundle, material.held_out.sources, size.num_calibration_samples,
            size.calibration_seed, progress,
        )  # fmt: skip
    return bundle


def train_recipe(
    config: AnyRun, data: Path, out: Path, progress: Progress, *, pretext: Path | None = None
) -> tuple[Contrast, Material]:
    """All stages of training, resumed in `out`; the recipe with the weights that ship.

    `pretext` is a folder for that stage that several runs share (default: `out`/pretext). It
    needs the synthetic world; on real clips it is left out, and the tuning of what it taught.
    """
    is_real = holds_clips(data)
    out.mkdir(parents=True, exist_ok=True)
    with distributed.main_process_first():
        settle_settings(config, out / "settings.json")
        if not is_real:
            build_banks(config, data, progress)
    torch.manual_seed(config.loop.seed)
    model = build_model(config, progress)
    material = open_clips(config, data) if is_real else open_banks(config, data, model)
    if not is_real and not config.start:
        learn_pretext(model, config, data, pretext or out / "pretext", progress)
    recipe = make_recipe(model, config.recipe)
    warm_up_aligners(recipe, material.batches, config.aligners, out / "aligners", progress)
    loop, validate = judged_by(material, config.loop)
    trained = train(
        recipe, material.batches, loop, out / config.recipe_name, validate=validate,
        on_step=lambda step, row: progress(config.stage, step + 1, loop.steps, row),
    )  # fmt: skip
    num_seen = loop.steps
    if not is_real and config.tuning.steps:
        trained = tune(trained, material.batches, config, out / "tuning", progress)
        num_seen += config.tuning.steps
    trained.model.eval()
    if config.recipe_name == "denseav" and distributed.rank() == 0:
        name_heads(trained.model, material.naming_pairs(num_seen))
    return trained, material


def make_recipe(model: DualEncoder, config: ContrastConfig) -> Contrast:
    return RECIPES[type(config)](model, config)


def build_model(config: AnyRun, progress: Progress) -> DualEncoder:
    """The model, a paper's with its pretrained backbones, and LoRA on the image's.

    HuBERT is tuned fully (000 section 3.3.1), but for the vector that masks inputs in its own
    pretraining, which nothing here uses.
    """
    model = model_of(config.model)
    if isinstance(config, SssRun):
        if config.start:
            start_from(model, Path(config.start))
        model.image_backbone.to(memory_format=torch.channels_last)
        return model
    progress("weights", 0, 1, {})
    tuning = config.pretrained
    load_dino(model.image_backbone, tuning.image)
    load_hubert(model.audio_backbone, tuning.audio)
    if tuning.lora_rank:
        add_lora(model, tuning.lora_rank, tuning.lora_alpha, tuning.lora_dropout)
    model.audio_backbone.hubert.masked_spec_embed.requires_grad_(False)
    return model


def learn_pretext(
    model: DualEncoder, config: SssRun, data: Path, out: Path, progress: Progress
) -> None:
    """Give `model` backbones that tell the world's classes, where the papers' are pretrained."""
    batches = PretextBatches(
        data, config.pretext.seed, **window_of(config, model),
        num_groups=config.data.pretext_groups, num_clips=config.data.pretext_clips,
    )  # fmt: skip
    # On a copy: of a shared pretext only the backbones are wanted, not its untrained aligners.
    taught = train(
        Pretext(deepcopy(model), len(CLASSES)), batches, config.pretext, out,
        on_step=lambda step, row: progress("pretext", step + 1, config.pretext.steps, row),
    ).model  # fmt: skip
    model.image_backbone.load_state_dict(taught.image_backbone.state_dict())
    if isinstance(config, OneAvmRun):
        return  # the words of speech are no part of this paper
    model.audio_backbone.load_state_dict(taught.audio_backbone.state_dict())


def warm_up_aligners(
    recipe: Contrast, batches: Dataset, config: LoopConfig, out: Path, progress: Progress
) -> None:
    """Give `recipe` aligners that have learned (000 section 3.3.2; 001 section 3.5), resumed.

    With 0 steps it stays as it is.
    """
    if not config.steps:
        return
    warm = train(
        recipe.warm_up(), batches, config, out,
        on_step=lambda step, row: progress("aligners", step + 1, config.steps, row),
    )  # fmt: skip
    recipe.load_state_dict(warm.state_dict())


def tune(
    trained: Contrast, batches: Dataset, config: SssRun, out: Path, progress: Progress
) -> Contrast:
    """The last stage: the same recipe at a low rate, now on the image backbone too."""
    recipe = replace(
        config.recipe,
        image_backbone_rate=config.tuning_image_rate,
        sharpness_start=config.recipe.sharpness_end,
    )
    tuned = make_recipe(model_of(trained.model.config), recipe)
    tuned.load_state_dict(trained.state_dict())
    tuned.model.image_backbone.to(memory_format=torch.channels_last)
    return train(
        tuned, Later(batches, config.loop.steps), config.tuning, out,
        on_step=lambda step, row: progress("tuning", step + 1, config.tuning.steps, row),
    )  # fmt: skip


class Later(Dataset):
    """Batches from number `first` on, which an earlier stage has not reached."""

    def __init__(self, batches: Dataset, first: int) -> None:
        self.batches, self.first = batches, first

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self.batches[self.first + number]


def small_spec(config: SssRun, model: DualEncoder) -> ModelSpec:
    separation = None
    if isinstance(config, OneAvmRun):
        log_mel = model.audio_backbone.log_mel
        separation = SeparationSpec(log_mel.window, log_mel.hop)
    heads = head_specs(model.heads, salience_power=config.salience_power)
    return spec_of(config, model, heads, separation=separation)


def paper_spec(config: SssPaperRun, model: DualEncoder, temperature: float) -> ModelSpec:
    """Under a default calibration (see `denseav_spec`) until `calibrate` fits one."""
    return replace(
        denseav_spec(model, temperature),
        window_s=config.window_s,
        hop_s=config.hop_s,
        num_tokens=num_tokens(model, round(config.window_s * config.model.sample_rate_hz)),
        short_side_px=config.short_side_px,
    )


def calibrate(bundle: Path, config: SssRun, progress: Progress) -> None:
    """Fit evidence floors and the heads' calibration on the synthetic validation split, stored."""
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    spec, num = grounder.spec, config.data.num_calibration_samples
    seed = config.data.calibration_seed
    if config.model.evidence:
        spec = spec.with_heads(min_token_norm=evidence_floors(grounder.backend, num, seed))
    cases = synthetic_cases(
        grounder.with_spec(spec), num, seed,
        lambda done, total: progress("calibration", done, total, {}),
    )  # fmt: skip
    calibrations, reliabilities = fit_cases(grounder, cases)
    store_spec(bundle, spec.with_heads(calibration=calibrations), reliability_facts(reliabilities))
