"""A separator bundle that is made in no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.separator import SeparatingConfig, SeparatingEncoder
from av_grounding.types import HeadCalibration, HeadSpec, ModelSpec, SeparationSpec

CONFIG = SeparatingConfig(
    image_options={"dim": 16},
    audio_options={"dim": 16, "num_mels": 32, "widths": [4, 4, 8, 8]},
    head_dim=8,
    embedding_dim=8,
)


def separator_spec(model: SeparatingEncoder, **changes: Any) -> ModelSpec:
    values = {
        "heads": (HeadSpec("sound", calibration=HeadCalibration(4.0, 0.0)),),
        "sample_rate_hz": 16_000,
        "window_s": 2.56,
        "hop_s": 0.16,
        "num_tokens": 8,
        "short_side_px": 64,
        "patch_px": model.patch_px,
        "context_s": model.audio_backbone.context_s,
        "separation": SeparationSpec(1024, 320),
    }
    return ModelSpec(**values | changes)


def save_small_separator(directory: Path, **changes: Any) -> Path:
    """A random model: what it separates means nothing here. `changes` are fields of its spec."""
    torch.manual_seed(0)
    model = SeparatingEncoder(CONFIG).eval()
    with torch.no_grad():  # as it is drawn, places would hardly matter
        for up in model.separator.ups:
            up.modulate.weight *= 20.0
    return save_bundle(directory, model, separator_spec(model, **changes), name="separator")
