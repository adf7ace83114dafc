"""The training run of paper 004's recipe, from settings to a bundle: on the synthetic world, whose
captions are known, or on shards with captions."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from av_grounding.grounder import Grounder
from av_grounding.identification import SourcesSpec
from av_grounding.modeling.bundle import load_bundle, save_bundle
from av_grounding.modeling.bundle_config import store_spec
from av_grounding.modeling.dual_encoder import DualEncoder, head_specs
from av_grounding.modeling.text_encoder import BertText, WordVectors
from av_grounding.synthetic.audio_bank import AudioBank
from av_grounding.synthetic.stage_bank import StageBank, StageBankSpec
from av_grounding.training.configuration import OasslRun
from av_grounding.training.data.captioned_batches import CaptionedBatches
from av_grounding.training.data.open import holds_clips, open_clips
from av_grounding.training.data.stage_batches import StageBatches
from av_grounding.training.fitting.calibration import fit_cases, pair_cases
from av_grounding.training.fitting.sources import fit_identification, stage_cases
from av_grounding.training.loop import distributed
from av_grounding.training.loop.curves import draw_curves
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress, settle_settings
from av_grounding.training.loop.validation import loss_on
from av_grounding.training.recipes.oassl import ObjectAware
from av_grounding.types import ModelSpec

logger = logging.getLogger(__name__)
VALIDATION, VALIDATION_SHARE, NUM_VALIDATION_BATCHES = "validation", 0.05, 4


def run_oassl(config: OasslRun, data: Path, out: Path, progress: Progress) -> Path:
    """Train and write `out`/bundle; returns it. A second call resumes where the first stopped.

    `data` holds shards with captions, or the banks of stages and sounds, which are drawn on first
    use. With `loop.validate_every` the weights ship that are best on the validation split.
    ValueError for other settings than the run began with, and FileNotFoundError for shards without
    captions.
    """
    is_real = holds_clips(data)
    out.mkdir(parents=True, exist_ok=True)
    with distributed.main_process_first():
        settle_settings(config, out / "settings.json")
        if not is_real:
            build_banks(config, data, progress)
    torch.manual_seed(config.loop.seed)
    model = DualEncoder(config.model)
    if config.start:
        begin_with(model, Path(config.start))
    model.image_backbone.to(memory_format=torch.channels_last)
    batches = (
        open_captioned(config, data, "train") if is_real else open_stages(config, data, model)
    )
    recipe = ObjectAware(model, config.recipe, batches.text_dim)
    validate = None
    if config.loop.validate_every:
        held_out = (
            open_captioned(config, data, "val")
            if is_real
            else open_stages(config, data / VALIDATION, model)
        )
        validate = loss_on(held_out, NUM_VALIDATION_BATCHES)
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
        calibrate(bundle, config, data, progress)
    else:
        fit(bundle, config, progress)
    return bundle


def open_stages(config: OasslRun, data: Path, model: DualEncoder) -> StageBatches:
    return StageBatches(
        data,
        config.loop.seed,
        num_samples=num_samples(config),
        token_samples=model.audio_backbone.token_samples,
        batch_size=config.data.batch_size,
        text_dim=config.data.text_dim,
        captions=config.data.captions,
        lookalike_share=config.data.lookalike_share,
    )


def open_captioned(config: OasslRun, data: Path, split: str) -> CaptionedBatches:
    text = config.data.text
    return CaptionedBatches(
        data,
        split,
        config.loop.seed,
        WordVectors(config.data.text_dim) if text == "words" else BertText(text),
        batch_size=config.data.batch_size,
        num_samples=num_samples(config),
        image_px=config.short_side_px,
        sample_rate_hz=config.model.sample_rate_hz,
    )


def num_samples(config: OasslRun) -> int:
    """Of a window."""
    return round(config.window_s * config.model.sample_rate_hz)


def build_banks(config: OasslRun, data: Path, progress: Progress) -> None:
    """Draw what is missing of stages and sounds, for validation where it is wanted."""
    wanted = [("train", data, 1.0)]
    if config.loop.validate_every:
        wanted.append(("val", data / VALIDATION, VALIDATION_SHARE))
    size = config.data
    for split, folder, share in wanted:
        num = math.ceil(share * size.num_stages)
        StageBank.build(
            folder / "stages",
            StageBankSpec(split, num, config.short_side_px, size.bank_seed),
            progress=lambda done, total: progress("stages", done, total, {}),
        )
        AudioBank.build(
            folder / "audio", split, seed=size.bank_seed,
            num_sounds_per_class=math.ceil(share * size.num_sounds_per_class),
            num_utterances_per_class=1,
            progress=lambda done, total: progress("audio", done, total, {}),
        )  # fmt: skip


def begin_with(model: DualEncoder, bundle: Path) -> None:
    """Give `model` the weights of a bundle of the same encoders, of the heads that both have.

    ValueError where the encoders differ, or a head is missing.
    """
    other = load_bundle(bundle).model
    if missing := sorted(set(model.heads) - set(other.heads)):
        raise ValueError(
            f"{bundle} has no head {' and '.join(missing)}, it has {', '.join(other.heads)}: "
            "expected a bundle with the heads that are trained"
        )
    wanted = replace(model.config, heads=other.heads)
    if json.dumps(other.config.to_json()) != json.dumps(wanted.to_json()):
        raise ValueError(
            f"{bundle} holds other encoders than the run's settings: expected the same model, "
            "but for its heads"
        )
    rows = [other.heads.index(head) for head in model.heads]
    own = model.state_dict()
    state = {
        name: value if value.shape == own[name].shape else of_heads(value, rows, len(other.heads))
        for name, value in other.state_dict().items()
    }
    model.load_state_dict(state)


def of_heads(value: Tensor, rows: list[int], num_heads: int) -> Tensor:
    """The rows of some heads in a projection whose outputs are grouped by head."""
    return value.unflatten(0, (num_heads, -1))[rows].flatten(0, 1)


def sources_spec(config: OasslRun, model: DualEncoder) -> ModelSpec:
    """Under a default calibration until `fit` finds one."""
    return ModelSpec(
        heads=head_specs(model.heads),
        sample_rate_hz=config.model.sample_rate_hz,
        window_s=config.window_s,
        hop_s=config.hop_s,
        num_tokens=num_samples(config) // model.audio_backbone.token_samples,
        short_side_px=config.short_side_px,
        patch_px=model.patch_px,
        context_s=model.audio_backbone.context_s,
        compares="cosine",
        sources=SourcesSpec(
            config.max_sources,
            silent_similarity=config.recipe.negative_threshold,
            mask_width=config.recipe.mask_width,
        ),
    )


def fit(bundle: Path, config: OasslRun, progress: Progress) -> None:
    """Calibration and identification, on stages of the validation split, stored in the bundle."""
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    num, seed = config.data.num_calibration_samples, config.data.calibration_seed

    def told(done: int, total: int) -> None:
        progress("calibration", done, total, {})

    one_map = grounder.with_spec(replace(grounder.spec, sources=None))
    calibrations, reliabilities = fit_cases(one_map, stage_cases(one_map, num, seed, told))
    spec = grounder.spec.with_heads(calibration=calibrations)
    sources, accuracy = fit_identification(grounder, num, seed, told)
    info = {
        "reliability": {head: asdict(one) for head, one in reliabilities.items()},
        "num_sources_right": accuracy,
    }
    store_spec(bundle, replace(spec, sources=sources), info)


def calibrate(bundle: Path, config: OasslRun, data: Path, progress: Progress) -> None:
    """Calibration on pairs of held-out clips; how sources are told apart keeps its defaults, since
    clips do not say how many there are."""
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    seed = config.data.calibration_seed
    clips = open_clips(data, "val", config.model.sample_rate_hz, config.window_s).get("sound")
    rng = np.random.default_rng(seed)
    num = min(len(clips or ()), config.data.num_calibration_samples)
    rows = [clips.read(index, rng) for index in range(num)] if clips is not None else []
    one_map = grounder.with_spec(replace(grounder.spec, sources=None))
    try:
        cases = pair_cases(
            one_map,
            [clip.image for clip in rows],
            [(clip.waveform, clip.sample_rate_hz) for clip in rows],
            [None] * num,
            seed,
            lambda done, total: progress("calibration", done, total, {}),
        )
        calibrations, reliabilities = fit_cases(one_map, cases)
    except ValueError as error:
        logger.warning("no calibration, the held-out clips do not serve for it: %s", error)
        return
    info = {"reliability": {head: asdict(one) for head, one in reliabilities.items()}}
    store_spec(bundle, grounder.spec.with_heads(calibration=calibrations), info)
