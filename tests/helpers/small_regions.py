"""A region model of a few thousand weights, pictures to segment, and its bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.region_model import RegionConfig, RegionModel
from av_grounding.types import HeadSpec, ModelSpec

CONFIG = RegionConfig(
    image_options={"dim": 16},
    audio_options={"dim": 16, "num_mels": 32},
    image_aligner_options={"width": 16, "depth": 1, "num_attention_heads": 2, "dropout": 0.0},
    head_dim=8,
    crop_px=32,
    proposals_options={"num_regions": 6, "mask_px": 64},
    num_classes=3,
)
THINGS = ("disc", "square", "rest")


def small_region_model(**changes: Any) -> RegionModel:
    torch.manual_seed(0)
    model = RegionModel(replace(CONFIG, **changes)).eval()
    torch.nn.init.normal_(model.class_embeddings)
    return model


def save_small_regions(directory: Path, **changes: Any) -> Path:
    """`changes` are fields of its configuration."""
    model = small_region_model(**changes)
    spec = ModelSpec(
        heads=(HeadSpec("sound"),),
        sample_rate_hz=16_000,
        window_s=2.56,
        hop_s=0.16,
        num_tokens=32,
        short_side_px=64,
        patch_px=model.patch_px,
        context_s=model.audio_backbone.context_s,
        compares="cosine",
    )
    return save_bundle(directory, model, spec, name="regions", info={"things": list(THINGS)})


def disc_and_square(height: int = 120, width: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A red disc and a blue square before a textured wall, and their masks."""
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.uniform(90, 160, (height, width, 3)).astype(np.float32), (0, 0), 3)
    image, masks = wall.copy(), np.zeros((2, height, width), np.uint8)
    cv2.circle(masks[0], (width // 4, height // 2), height // 5, 1, -1)
    cv2.rectangle(masks[1], (width // 2, height // 4), (width * 3 // 4, height * 3 // 4), 1, -1)
    for mask, color in zip(masks, ((200, 40, 40), (30, 60, 190)), strict=True):
        image[mask > 0] = color
    image += rng.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), masks > 0
