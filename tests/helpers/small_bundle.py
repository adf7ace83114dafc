"""A bundle that is made in no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.types import HeadSpec, ModelSpec


def save_small_bundle(directory: Path, **changes: Any) -> Path:
    """A random model of a few thousand weights: where it points means nothing here.

    `changes` are fields of its spec.
    """
    torch.manual_seed(0)
    config = ModelConfig(
        image_options={"dim": 16}, audio_options={"dim": 16, "num_mels": 32}, head_dim=8
    )
    model = DualEncoder(config)
    values = {
        "heads": (HeadSpec("sound"), HeadSpec("speech", "utterance")),
        "sample_rate_hz": 16_000,
        "window_s": 2.56,
        "hop_s": 0.16,
        "num_tokens": 32,
        "short_side_px": 64,
        "patch_px": model.patch_px,
        "context_s": model.audio_backbone.context_s,
    }
    return save_bundle(directory, model, ModelSpec(**values | changes), name="random")
