"""The everyday bundle from its parts: a classifier of photographs, trunks of sound and speech.

No part sees the others in training. They meet in the vocabulary: a channel of the shared space is
a thing, so that the target of a word or a sound is the image side's own posterior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from av_grounding.everyday.nouns import NOUNS
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig, head_specs
from av_grounding.training.everyday.weights import (
    IMAGE_FILE,
    IMAGE_PACKAGE,
    SOUND_FILE,
    SOUND_PACKAGE,
    package_file,
    read_image_weights,
    read_sound_weights,
)
from av_grounding.training.recipes.spoken_nouns import BACKBONE_OPTIONS
from av_grounding.types import ModelSpec

IMAGE_TEMPERATURE = 3.0
"""On 120 validation scenes of three things (AP, peak): 1 .574, .650; 2 .621, .714; 3 .633, .719;
4 .636, .708."""
SHORT_SIDE_PX = 448
NUM_TOKENS, TOKEN_SAMPLES, HOP_TOKENS = 28, 1536, 2
"""Windows of 2.688 s, every 192 ms: one token of the sound trunk."""
CONTEXT_S = 0.48
"""Of sound on both sides of a token that changes it much; its full reach is longer."""


def everyday_config(speech_options: Mapping = BACKBONE_OPTIONS) -> ModelConfig:
    """The architecture; heads and trunks in one order."""
    return ModelConfig(
        image_backbone="efficientnet_lite",
        audio_backbone="per_head",
        head_dim=len(NOUNS),
        unit_length=False,
        evidence=False,
        audio_options={
            "sound": "effects",
            "speech": "conv",
            "speech_options": dict(speech_options),
        },
        image_aligner="classes",
        image_aligner_options={"temperature": IMAGE_TEMPERATURE},
        audio_aligner="prototypes",
    )


def everyday_spec(model: DualEncoder) -> ModelSpec:
    """Under a default calibration until one is fitted."""
    rate_hz = model.config.sample_rate_hz
    return ModelSpec(
        heads=head_specs(model.heads, salience_power=1.0),
        sample_rate_hz=rate_hz,
        window_s=NUM_TOKENS * TOKEN_SAMPLES / rate_hz,
        hop_s=HOP_TOKENS * TOKEN_SAMPLES / rate_hz,
        num_tokens=NUM_TOKENS,
        short_side_px=SHORT_SIDE_PX,
        patch_px=model.patch_px,
        context_s=CONTEXT_S,
    )


def assemble(
    speech: Mapping[str, Tensor] | None,
    sound: Mapping[str, Tensor] | None,
    config: ModelConfig | None = None,
    *,
    image_weights: Path | None = None,
    sound_weights: Path | None = None,
) -> DualEncoder:
    """The model in eval mode.

    `speech`: state of the speech trunk and its aligner, as `backbone.…` and `aligner.…`. `sound`:
    state of the sound head's aligner. None leaves that part as it was drawn. The two files of
    others' weights are looked for in their installed packages.
    """
    model = DualEncoder(config or everyday_config())
    heads = dict(zip(model.heads, model.audio_aligner.heads, strict=True))
    load_classifier(model, tuple(NOUNS), image_weights)
    model.audio_backbone.trunks["sound"].load_state_dict(
        read_sound_weights(sound_weights or package_file(SOUND_PACKAGE, SOUND_FILE))
    )
    if sound is not None:
        heads["sound"].load_state_dict(sound)
    if speech is not None:
        model.audio_backbone.trunks["speech"].load_state_dict(_below(speech, "backbone."))
        heads["speech"].load_state_dict(_below(speech, "aligner."))
    return model.eval()


@torch.no_grad()
def load_classifier(model: DualEncoder, nouns: Sequence[str], path: Path | None = None) -> None:
    """Give `model` the classifier of photographs, and these nouns as its channels."""
    backbone, weight, bias = read_image_weights(path or package_file(IMAGE_PACKAGE, IMAGE_FILE))
    model.image_backbone.load_state_dict(backbone)
    model.image_aligner.classify.load_state_dict({"weight": weight[..., None, None], "bias": bias})
    for channel, noun in enumerate(nouns):
        model.image_aligner.groups[channel, list(NOUNS[noun])] = 1.0


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
