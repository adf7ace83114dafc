"""Trains a small two-head bundle on the synthetic world: banks, pretext, a paper's recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import save_bundle, store_spec
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.synthetic.audio_bank import AudioBank
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene_bank import SceneBank, SceneBankSpec
from av_grounding.training.data.synthetic_batches import MixAndSeparateBatches, PretextBatches
from av_grounding.training.fitting.calibration import calibrate
from av_grounding.training.fitting.evidence_floor import evidence_floors
from av_grounding.training.fitting.head_names import KINDS, NUM_NAMING_BATCHES, name_heads
from av_grounding.training.loop import distributed
from av_grounding.training.loop.configuration import SssRun
from av_grounding.training.loop.curves import draw_curves
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress, settle_settings
from av_grounding.training.loop.validation import loss_on
from av_grounding.training.recipes.build import make_recipe
from av_grounding.training.recipes.contrast import Contrast
from av_grounding.training.recipes.pretext import Pretext
from av_grounding.training.recipes.warm_up import warm_up_aligners
from av_grounding.types import ModelSpec

VALIDATION, VALIDATION_SHARE, NUM_VALIDATION_BATCHES = "validation", 0.05, 8


def run(config: SssRun, data: Path, out: Path, progress: Progress) -> Path:
    """Train and write `out`/bundle; returns it. A second call resumes where the first stopped.

    `data` holds the banks and is filled on first use. With `loop.validate_every` the weights that
    are best on a validation split ship, which shares no individual, no voice and no background
    with training and test. Raises ValueError when `out` was begun
    with other settings, listing the differences.
    """
    recipe = train_recipe(config, data, out, progress)
    if distributed.rank() > 0:
        return out / "bundle"
    bundle = write_bundle(config, recipe.model, out / "bundle")
    draw_curves(out, out / "curves.png")
    calibrate_bundle(bundle, config, lambda done, total: progress("calibration", done, total, {}))
    return bundle


def train_recipe(
    config: SssRun, data: Path, out: Path, progress: Progress, *, pretext: Path | None = None
) -> Contrast:
    """All stages of training, resumed in `out`; the recipe with the weights that ship.

    `pretext` is a folder for the pretext stage that several runs share (default:
    `out`/pretext).
    """
    out.mkdir(parents=True, exist_ok=True)
    with distributed.main_process_first():
        settle_settings(config, out / "settings.json")
        build_banks(config, data, progress)
        if config.loop.validate_every:
            build_banks(config, data / VALIDATION, progress, split="val", share=VALIDATION_SHARE)
    torch.manual_seed(config.loop.seed)
    model = DualEncoder(config.model)
    model.image_backbone.to(memory_format=torch.channels_last)
    window = {
        "num_samples": round(config.window_s * config.model.sample_rate_hz),
        "token_samples": model.audio_backbone.token_samples,
    }

    pretext_batches = PretextBatches(
        data, config.pretext.seed, **window,
        num_groups=config.data.pretext_groups, num_clips=config.data.pretext_clips,
    )  # fmt: skip
    # On a copy: of a shared pretext only the backbones are wanted, not its untrained aligners.
    pretrained = train(
        Pretext(deepcopy(model), len(CLASSES)), pretext_batches, config.pretext,
        pretext or out / "pretext",
        on_step=lambda step, row: progress("pretext", step + 1, config.pretext.steps, row),
    ).model  # fmt: skip
    model.image_backbone.load_state_dict(pretrained.image_backbone.state_dict())
    model.audio_backbone.load_state_dict(pretrained.audio_backbone.state_dict())

    batches = MixAndSeparateBatches(
        data, config.loop.seed, **window, batch_size=config.data.batch_size
    )
    validate = None
    if config.loop.validate_every:
        held_out = MixAndSeparateBatches(
            data / VALIDATION, config.loop.seed, **window, batch_size=config.data.batch_size
        )
        validate = loss_on(held_out, NUM_VALIDATION_BATCHES)
    recipe = make_recipe(model, config.recipe)
    warm_up_aligners(recipe, batches, config.aligners, out / "aligners", progress)
    trained = train(
        recipe, batches, config.loop, out / config.recipe_name,
        validate=validate,
        on_step=lambda step, row: progress(config.stage, step + 1, config.loop.steps, row),
    )  # fmt: skip
    if config.tuning.steps:
        trained = tune(trained, batches, config, out / "tuning", progress)
    trained.model.eval()
    if config.recipe_name == "denseav":
        num_seen = config.loop.steps + config.tuning.steps
        later = (batches[num_seen + i] for i in range(NUM_NAMING_BATCHES))
        name_heads(trained.model, ((k, b["pixels"], b[k]) for b in later for k in KINDS))
    return trained


def tune(
    trained: Contrast, batches: Dataset, config: SssRun, out: Path, progress: Progress
) -> Contrast:
    """The last stage: the same recipe at a low rate, now on the image backbone too."""
    recipe = replace(
        config.recipe,
        image_backbone_rate=config.tuning_image_rate,
        sharpness_start=config.recipe.sharpness_end,
    )
    tuned = make_recipe(DualEncoder(trained.model.config), recipe)
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


def build_banks(
    config: SssRun, data: Path, progress: Progress, split: str = "train", share: float = 1.0
) -> None:
    """Draw what is missing of a split's scenes, sounds and utterances, `share` of the numbers."""
    size = config.data
    SceneBank.build(
        data / "scenes",
        SceneBankSpec(
            split, math.ceil(share * size.num_scene_groups), config.short_side_px, size.bank_seed
        ),
        progress=lambda done, total: progress("scenes", done, total, {}),
    )
    AudioBank.build(
        data / "audio", split, seed=size.bank_seed,
        num_sounds_per_class=math.ceil(share * size.num_sounds_per_class),
        num_utterances_per_class=math.ceil(share * size.num_utterances_per_class),
        progress=lambda done, total: progress("audio", done, total, {}),
    )  # fmt: skip


def write_bundle(config: SssRun, model: DualEncoder, directory: Path) -> Path:
    num_samples = round(config.window_s * config.model.sample_rate_hz)
    spec = ModelSpec(
        heads=model.heads,
        sample_rate_hz=config.model.sample_rate_hz,
        window_s=config.window_s,
        hop_s=config.hop_s,
        num_tokens=num_samples // model.audio_backbone.token_samples,
        short_side_px=config.short_side_px,
        patch_px=model.patch_px,
        salience_power=config.salience_power,
        context_s=model.audio_backbone.context_s,
    )
    info = {"recipe": config.recipe_name, "settings": config.to_json()}
    return save_bundle(directory, model, spec, name=config.name, info=info)


def calibrate_bundle(
    bundle: Path, config: SssRun, progress: Callable[[int, int], None] | None = None
) -> None:
    """Fit evidence floors, then calibration, on the validation split; store both."""
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    num, seed = config.data.num_calibration_samples, config.data.calibration_seed
    spec = grounder.spec
    if config.model.evidence:
        spec = replace(spec, min_token_norm=evidence_floors(grounder.backend, num, seed))
    calibrations, reliabilities = calibrate(grounder.with_spec(spec), num, seed, progress)
    info = {"reliability": {head: asdict(r) for head, r in reliabilities.items()}}
    store_spec(bundle, replace(spec, calibration=calibrations), info)
