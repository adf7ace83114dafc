"""The models of papers 003 and 004 with small encoders of the true kinds."""

from __future__ import annotations

from dataclasses import replace

from av_grounding.training.paper_configuration import resnet_pair, resnet_separator

SIZES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
SMALL_SEPARATOR = replace(
    resnet_separator(), head_dim=8, embedding_dim=8, image_options=SIZES, audio_options=SIZES
)
SMALL_PAIR = replace(
    resnet_pair(), head_dim=8, image_options=SIZES, audio_options={"front": "linear", **SIZES}
)
