"""Transformer backbones of the papers, built from configuration through `transformers`."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class ViTBackbone(nn.Module):
    """DINO-style vision transformer: normalised pixels (b, 3, H, W) to features (b, c, h, w).

    Any H and W that are multiples of the patch: the positional embedding is interpolated. The
    class token is dropped. `options` are `transformers.ViTConfig` fields; the defaults are
    ViT-S/8 as DINO trained it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTModel

        defaults = {
            "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6,
            "intermediate_size": 1536, "patch_size": 8, "image_size": 224,
            "layer_norm_eps": 1e-6, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }  # fmt: skip
        config = ViTConfig(**{**defaults, **options})
        self.dim = config.hidden_size
        self.patch_px = self.stride_px = config.patch_size
        self.vit = ViTModel(config, add_pooling_layer=False)

    def forward(self, x: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        h, w = x.shape[-2] // self.patch_px, x.shape[-1] // self.patch_px
        tokens = self.vit(x, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        return tokens.transpose(1, 2).unflatten(2, (h, w))


class HubertBackbone(nn.Module):
    """HuBERT: 16 kHz waveform (b, s), zero mean and unit variance, to features (b, c, t).

    One token every 20 ms. `options` are `transformers.HubertConfig` fields; the defaults are
    HuBERT-Large's.
    """

    token_samples = 320

    def __init__(self, **options: Any) -> None:
        super().__init__()
        from transformers import HubertConfig, HubertModel

        defaults = {
            "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
            "intermediate_size": 4096, "feat_extract_norm": "layer", "conv_bias": True,
            "do_stable_layer_norm": True,
            # No time masking or dropped layers: every forward pass must see every token.
            "apply_spec_augment": False, "layerdrop": 0.0,
        }  # fmt: skip
        config = HubertConfig(**{**defaults, **options})
        self.dim = config.hidden_size
        self.hubert = HubertModel(config)
        # Attention is global, so a token has all of its window as context.
        self.context_s = 0.0
        self._kernels_and_strides = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        # Normalised over the channels of one frame ("layer"), a frame of the convolutional front
        # knows nothing but its own samples; normalised over time ("group"), it knows them all.
        self.has_local_front = config.feat_extract_norm == "layer"
        self.stride_samples = math.prod(config.conv_stride)
        self.receptive_samples = 1
        for kernel, stride in reversed(self._kernels_and_strides):
            self.receptive_samples = (self.receptive_samples - 1) * stride + kernel

    def num_frames(self, num_samples: int) -> int:
        """Features that a waveform of this length gives."""
        for kernel, stride in self._kernels_and_strides:
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b c t"]:
        return self.hubert(waveform).last_hidden_state.transpose(1, 2)

    def front(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b d t"]:
        """The convolutions alone: features that `encode_front` takes."""
        return self.hubert.feature_extractor(waveform)

    def encode_front(self, features: Float[Tensor, "b d t"]) -> Float[Tensor, "b c t"]:
        """The transformer alone, in eval mode: with `front`, what `forward` does at once."""
        projected = self.hubert.feature_projection(features.transpose(1, 2))
        return self.hubert.encoder(projected).last_hidden_state.transpose(1, 2)
