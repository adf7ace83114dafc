"""The separator of instruments in one call: phrases, training, bundle, calibration.

Every stage leaves its files in the run's folder and is skipped where they are; the training
resumes inside its stage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from av_grounding.everyday import corpus
from av_grounding.everyday.ensemble import EnsembleSamples
from av_grounding.everyday.music import INSTRUMENTS
from av_grounding.everyday.nouns import NOUNS
from av_grounding.everyday.playing import play_split
from av_grounding.everyday.recordings import SOUNDFONT
from av_grounding.files import replacing
from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.dual_encoder import head_specs
from av_grounding.modeling.separator import SeparatingConfig, SeparatingEncoder
from av_grounding.training.data.instrument_batches import InstrumentBatches
from av_grounding.training.everyday.assembling import (
    IMAGE_TEMPERATURE,
    SHORT_SIDE_PX,
    load_classifier,
)
from av_grounding.training.everyday.calibrating import calibrate_on
from av_grounding.training.initial import start_from
from av_grounding.training.loop.config import LoopConfig
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress
from av_grounding.training.recipes.instruments import InstrumentsConfig, SeparateInstruments
from av_grounding.types import ModelSpec, SeparationSpec

WINDOW_S, HOP_S = 2.56, 0.32
NUM_ROUNDS_OF_SPEECH = 3
CROP_PX = 224
"""What the classifier of photographs was trained at."""


@dataclass(frozen=True)
class InstrumentsRun:
    """What one run does; `num_phrases` of each instrument are rendered for training."""

    name: str = "everyday-separator"
    start: str = ""
    """A bundle whose weights training begins with, where names and shapes fit."""
    num_phrases: int = 96
    batch_size: int = 16
    num_calibration_samples: int = 40
    seed: int = 0
    recipe: InstrumentsConfig = field(default_factory=InstrumentsConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=2000, learning_rate=2e-3, seed=2, ema_decay=0.99, precision="fp32",
            checkpoint_every=50, tensorboard=False,
        )
    )  # fmt: skip


def run_instruments(config: InstrumentsRun, out: Path, progress: Progress) -> Path:
    """Train everything and return the bundle's directory, `out`/bundle."""
    phrases = render_phrases(out / "phrases", config.num_phrases, progress)
    speech = []
    rounds = corpus.plan(("espeak",))[:NUM_ROUNDS_OF_SPEECH]
    for path in corpus.build(out / "speech", tuple(NOUNS), rounds):
        speech.append(path)
        progress("speech", len(speech), len(rounds), {})
    torch.manual_seed(config.seed)
    model = SeparatingEncoder(instruments_config())
    if config.start:
        start_from(model, Path(config.start))
    load_classifier(model, INSTRUMENTS)
    rate_hz = model.config.sample_rate_hz
    batches = InstrumentBatches(
        phrases, INSTRUMENTS, speech, num_samples=round(WINDOW_S * rate_hz), seed=config.loop.seed,
        batch_size=config.batch_size,
    )  # fmt: skip
    trained = train(
        SeparateInstruments(model, config.recipe), batches, config.loop, out / "run",
        on_step=lambda step, row: progress("separation", step + 1, config.loop.steps, row),
    ).model.eval()  # fmt: skip
    info = {
        "recipe": "instruments",
        "things": list(INSTRUMENTS),
        "origins": {SOUNDFONT.name: SOUNDFONT.licence},
    }
    bundle = save_bundle(
        out / "bundle", trained, instruments_spec(trained), name=config.name, info=info,
        vocabulary={"sound": list(INSTRUMENTS)},
    )  # fmt: skip
    samples = EnsembleSamples(config.seed)
    calibrate_on(bundle, samples, config.num_calibration_samples, config.seed, progress)
    return bundle


def instruments_config() -> SeparatingConfig:
    """The architecture: a channel of the shared space is an instrument."""
    return SeparatingConfig(
        image_backbone="efficientnet_lite",
        head_dim=len(INSTRUMENTS),
        unit_length=False,
        evidence=False,
        image_aligner="classes",
        image_aligner_options={"temperature": IMAGE_TEMPERATURE},
        audio_aligner="prototypes",
        embedding_dim=0,
        fuses_heard=True,
    )


def instruments_spec(model: SeparatingEncoder) -> ModelSpec:
    """Under a default calibration until one is fitted."""
    rate_hz, log_mel = model.config.sample_rate_hz, model.audio_backbone.log_mel
    return ModelSpec(
        heads=head_specs(model.heads, salience_power=1.0, norm_order=1),
        sample_rate_hz=rate_hz,
        window_s=WINDOW_S,
        hop_s=HOP_S,
        num_tokens=round(WINDOW_S * rate_hz) // model.audio_backbone.token_samples,
        short_side_px=SHORT_SIDE_PX,
        patch_px=model.patch_px,
        context_s=model.audio_backbone.context_s,
        separation=SeparationSpec(log_mel.window, log_mel.hop, CROP_PX),
    )


def render_phrases(folder: Path, num: int, progress: Progress) -> Path:
    """What is missing of the instruments' phrases for training, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, noun in enumerate(INSTRUMENTS):
        path = folder / f"{noun}.npy"
        if not path.exists() or len(np.load(path, mmap_mode="r")) != num:
            played = np.clip(play_split(noun, "train", num), -1.0, 1.0)
            with replacing(path) as partial, open(partial, "wb") as file:
                np.save(file, np.round(played * 32767).astype(np.int16))
        progress("phrases", number + 1, len(INSTRUMENTS), {})
    return folder
