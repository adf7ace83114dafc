"""Trains the small two-head bundle on the synthetic world: banks, pretext, mix-and-separate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from av_grounding.modeling.bundle import save_bundle, write_json
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.synthetic.audio_bank import AudioBank
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene_bank import SceneBank, SceneBankSpec
from av_grounding.training.configuration import SssRun
from av_grounding.training.loop import train
from av_grounding.training.recipes.pretext import Pretext
from av_grounding.training.recipes.sss import MixAndSeparate
from av_grounding.training.synthetic_batches import MixAndSeparateBatches, PretextBatches
from av_grounding.types import ModelSpec

Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with the stage's name, what is done, the total, and the newest numbers."""


def run(config: SssRun, data: Path, out: Path, progress: Progress) -> Path:
    """Train and write `out`/bundle; returns it. A second call resumes where the first stopped.

    `data` holds the banks and is filled on first use. Raises ValueError when `out` was begun
    with other settings, listing the differences.
    """
    out.mkdir(parents=True, exist_ok=True)
    settle_settings(config, out / "settings.json")
    build_banks(config, data, progress)
    torch.manual_seed(config.loop.seed)
    model = DualEncoder(config.model)
    model.image_backbone.to(memory_format=torch.channels_last)
    window = {
        "num_samples": round(config.window_s * config.model.sample_rate_hz),
        # Tokens as the model gives them: the backbone's, averaged where it averages.
        "token_samples": 1280,
    }

    pretext_batches = PretextBatches(
        data, config.pretext.seed, **window,
        num_groups=config.data.pretext_groups, num_clips=config.data.pretext_clips,
    )  # fmt: skip
    pretext = train(
        Pretext(model, len(CLASSES)), pretext_batches, config.pretext, out / "pretext",
        on_step=lambda step, row: progress("pretext", step, config.pretext.steps, row),
    )  # fmt: skip
    model.load_state_dict(pretext.model.state_dict())

    batches = MixAndSeparateBatches(
        data, config.loop.seed, **window, batch_size=config.data.batch_size
    )
    trained = train(
        MixAndSeparate(model, config.recipe), batches, config.loop, out / "sss",
        on_step=lambda step, row: progress("mix-and-separate", step, config.loop.steps, row),
    )  # fmt: skip
    return write_bundle(config, trained.model, out / "bundle")


def settle_settings(config: SssRun, path: Path) -> None:
    """Remember the run's settings; refuse to resume with others."""
    settings = json.loads(json.dumps(config.to_json()))
    if path.exists():
        before = json.loads(path.read_text())
        changed = [
            f"{key}: {before.get(key)!r} then, {settings[key]!r} now"
            for key in settings
            if settings[key] != before.get(key)
        ]
        if changed:
            raise ValueError(
                f"{path.parent} was begun with other settings ({'; '.join(changed)}): "
                "use them again or another --out"
            )
    write_json(path, settings)


def build_banks(config: SssRun, data: Path, progress: Progress) -> None:
    size = config.data
    SceneBank.build(
        data / "scenes",
        SceneBankSpec("train", size.num_scene_groups, config.short_side_px, size.bank_seed),
        progress=lambda done, total: progress("scenes", done, total, {}),
    )
    AudioBank.build(
        data / "audio", "train", seed=size.bank_seed,
        num_sounds_per_class=size.num_sounds_per_class,
        num_utterances_per_class=size.num_utterances_per_class,
        progress=lambda done, total: progress("audio", done, total, {}),
    )  # fmt: skip


def write_bundle(config: SssRun, model: DualEncoder, directory: Path) -> Path:
    spec = ModelSpec(
        heads=model.heads,
        sample_rate_hz=config.model.sample_rate_hz,
        window_s=config.window_s,
        hop_s=config.hop_s,
        num_tokens=round(config.window_s * config.model.sample_rate_hz / 1280),
        short_side_px=config.short_side_px,
        patch_px=model.patch_px,
        context_s=model.audio_backbone.context_s,
    )
    info = {"recipe": "sss", "settings": config.to_json()}
    return save_bundle(directory, model, spec, name=config.name, info=info)
