"""Trains the small model on real clips: shards, or a folder in one of the known layouts."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import store_spec
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.training.data.batches import open_batches
from av_grounding.training.data.mixing import MixedBatches, MixingConfig
from av_grounding.training.fitting.calibration import fit_cases, pair_cases
from av_grounding.training.fitting.head_names import name_heads
from av_grounding.training.loop import distributed
from av_grounding.training.loop.configuration import SssRun
from av_grounding.training.loop.curves import draw_curves
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress, settle_settings
from av_grounding.training.loop.validation import loss_on
from av_grounding.training.recipes.build import make_recipe
from av_grounding.training.run_paper import naming_pairs
from av_grounding.training.run_synthetic import write_bundle

logger = logging.getLogger(__name__)
LAYOUTS = {"sss": "triplets", "denseav": "pairs"}
MAX_VALIDATION_BATCHES = 50
VALIDATE_EVERY = 500
RATIO_DB = 6.0


def run(config: SssRun, data: Path, out: Path, progress: Progress) -> Path:
    """Train and write `out`/bundle; returns it. A second call resumes where the first stopped.

    Unless `loop.validate_every` is set, the weights that are best on the validation split ship,
    which is looked at every 500 steps. Without a pretext, for that needs the synthetic world.
    Raises ValueError for other settings than the run began with, and for data without sound,
    without speech, or with fewer clips than a batch.
    """
    if not config.recipe.image_backbone_rate:
        # Without a pretext there is nothing to preserve.
        config = replace(config, recipe=replace(config.recipe, image_backbone_rate=1.0))
    out.mkdir(parents=True, exist_ok=True)
    settle_settings(config, out / "settings.json")
    torch.manual_seed(config.loop.seed)
    model = DualEncoder(config.model)
    mixing = MixingConfig(
        batch_size=config.data.batch_size, clip_s=config.window_s, ratio_db=RATIO_DB
    )
    batches, validation, num_batches = open_batches(
        data, mixing, seed=config.loop.seed, layout=LAYOUTS[config.recipe_name],
        image_px=config.short_side_px, sample_rate_hz=config.model.sample_rate_hz,
    )  # fmt: skip
    validate = None
    if validation is None:
        logger.warning("%s has no validation split: the last weights ship, not the best", data)
    else:
        validate = loss_on(validation, min(num_batches, MAX_VALIDATION_BATCHES))
    loop = replace(config.loop, validate_every=config.loop.validate_every or VALIDATE_EVERY)
    trained = train(
        make_recipe(model, config.recipe), batches, loop, out / config.recipe_name,
        on_step=lambda step, row: progress(config.stage, step + 1, loop.steps, row),
        validate=validate,
    )  # fmt: skip
    if distributed.rank() > 0:
        return out / "bundle"
    model = trained.model.cpu().eval()
    if config.recipe_name == "denseav":
        name_heads(model, naming_pairs(batches, loop.steps))
    bundle = write_bundle(config, model, out / "bundle")
    draw_curves(out, out / "curves.png")
    if validation is not None:
        calibrate_on(bundle, validation, config, progress)
    return bundle


def calibrate_on(
    bundle: Path, validation: MixedBatches, config: SssRun, progress: Progress
) -> None:
    """Fit the heads' calibration on held-out clips, and store it; see `pair_cases`."""
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    rng = np.random.default_rng(config.data.calibration_seed)
    pictures, sounds, heads = [], [], []
    for kind, clips in validation.sources.items():
        for index in range(min(len(clips), config.data.num_calibration_samples)):
            clip = clips.read(index, rng)
            pictures.append(clip.image)
            sounds.append((clip.waveform, clip.sample_rate_hz))
            heads.append(kind)
    cases = pair_cases(
        grounder, pictures, sounds, heads, config.data.calibration_seed,
        lambda done, total: progress("calibration", done, total, {}),
    )  # fmt: skip
    try:
        calibrations, reliabilities = fit_cases(grounder, cases)
    except ValueError as error:
        logger.warning("no calibration, the held-out clips do not serve for it: %s", error)
        return
    info = {"reliability": {head: asdict(r) for head, r in reliabilities.items()}}
    store_spec(bundle, replace(grounder.spec, calibration=calibrations), info)
