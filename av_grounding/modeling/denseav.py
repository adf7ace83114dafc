"""DenseAV as released (paper 001): its architecture and what the streaming core must know of it.

ViT-S/8, HuBERT-Large and the strided audio aligner, with the epsilons of the released code.
"""

from __future__ import annotations

import math
from typing import Any

from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig, head_specs
from av_grounding.types import HeadCalibration, ModelSpec

NUM_CHANNELS = 384
# The released code overrides the stock 1e-6 of DINO and 1e-5 of HuBERT.
EPS = 1e-4
WINDOW_S, HOP_S = 10.0, 0.5
HUBERT_FRAME_S = 0.02
SHORT_SIDE_PX = 224
# The 79 negatives of the paper's batch of 80.
DEFAULT_BIAS = -math.log(79)


def denseav_config(
    heads: tuple[str, ...] = ("sound", "speech"), *, normalize_audio: bool = True, **changes: Any
) -> ModelConfig:
    """The configuration of DenseAV with one head or two; `changes` are `ModelConfig` fields."""
    if NUM_CHANNELS % len(heads):
        raise ValueError(f"{len(heads)} heads; expected a divisor of {NUM_CHANNELS}")
    options: dict[str, Any] = {
        "image_backbone": "dino",
        "audio_backbone": "hubert",
        "audio_aligner": "strided",
        "heads": heads,
        "head_dim": NUM_CHANNELS // len(heads),
        "unit_length": False,
        "evidence": False,
        "normalize_audio": normalize_audio,
        "aligner_eps": EPS,
        "train_pool": 2,
        "image_options": {"eps": EPS},
        "audio_options": {"layer_norm_eps": EPS},
    }
    return ModelConfig(**{**options, **changes})


def denseav_spec(model: DualEncoder, temperature: float) -> ModelSpec:
    """Windows of 10 s, and a default calibration until `calibrate` fits one.

    `temperature` is the checkpoint's γ. The default is the probability that its contrastive loss
    gives a pair of similarity S against the negatives of a batch, all at similarity 0:
    sigmoid(γ S - log 79).
    """
    calibration = HeadCalibration(scale=temperature, bias=DEFAULT_BIAS)
    return ModelSpec(
        heads=head_specs(model.heads, calibration=calibration),
        sample_rate_hz=model.config.sample_rate_hz,
        window_s=WINDOW_S,
        hop_s=HOP_S,
        num_tokens=num_tokens(model, round(WINDOW_S * model.config.sample_rate_hz)),
        short_side_px=SHORT_SIDE_PX,
        patch_px=model.patch_px,
        context_s=model.audio_backbone.context_s,
        token_spacing_s=HUBERT_FRAME_S * model.audio_aligner.stride,
    )


def num_tokens(model: DualEncoder, num_samples: int) -> int:
    """Audio tokens that a waveform of this length gives."""
    return model.audio_backbone.num_frames(num_samples) // model.audio_aligner.stride
