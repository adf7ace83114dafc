"""The dual encoder of papers 000 and 001: image to tokens on a grid, waveform to tokens in time.

Both live in one shared space with one slice per head. Pixel and waveform normalisation are part
of the model, so that training, evaluation, the robot and every exported graph share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.aligners import AudioAligner, ImageAligner, StridedAudioAligner
from av_grounding.modeling.classes import ClassAligner
from av_grounding.modeling.clip import ClipBackbone
from av_grounding.modeling.conv_audio import ConvAudioBackbone
from av_grounding.modeling.conv_image import ConvImageBackbone
from av_grounding.modeling.efficientnet_lite import EfficientNetLiteBackbone
from av_grounding.modeling.mask_encoder import AttentionAligner, MaskEncoder
from av_grounding.modeling.per_head import AlignerPerHead, TrunkPerHead
from av_grounding.modeling.resnet import ResNetAudioBackbone, ResNetBackbone
from av_grounding.modeling.similarity import ground
from av_grounding.modeling.spectrogram import SpectrogramBackbone
from av_grounding.modeling.streaming_front import StreamingFront
from av_grounding.modeling.transformer_backbones import HubertBackbone, ViTBackbone
from av_grounding.modeling.vggish import VggishBackbone
from av_grounding.modeling.vision_transformer import DinoBackbone
from av_grounding.types import HeadSpec

IMAGE_BACKBONES = {
    "conv": ConvImageBackbone,
    "vit": ViTBackbone,
    "dino": DinoBackbone,
    "efficientnet_lite": EfficientNetLiteBackbone,
    "clip": ClipBackbone,
    "resnet": ResNetBackbone,
}
AUDIO_BACKBONES = {
    "conv": ConvAudioBackbone,
    "hubert": HubertBackbone,
    "per_head": TrunkPerHead,
    "resnet": ResNetAudioBackbone,
    "spectrogram": SpectrogramBackbone,
    "vggish": VggishBackbone,
}
IMAGE_ALIGNERS = {"pointwise": ImageAligner, "classes": ClassAligner, "regions": MaskEncoder}
AUDIO_ALIGNERS = {
    "pointwise": AudioAligner,
    "strided": StridedAudioAligner,
    "prototypes": AlignerPerHead,
    "attention": AttentionAligner,
}
# Bundles and runs from before these options existed neither state nor know them.
LATER_OPTIONS = (
    *("image_aligner", "image_aligner_options", "audio_aligner", "audio_aligner_options"),
    *("aligner_eps", "train_pool"),
)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a dual encoder; stored in the bundle, so no code default can disagree.

    `image_options` and `audio_options` go to the backbone's constructor, `image_aligner_options`
    and `audio_aligner_options` to the aligner's. `head_dim` is the number of channels c per head;
    with the aligners "classes" and "prototypes" a channel is a thing of the bundle's vocabulary.
    `train_pool` average pools image tokens by that factor in train mode only.
    """

    image_backbone: str = "conv"
    audio_backbone: str = "conv"
    heads: tuple[str, ...] = ("sound", "speech")
    head_dim: int = 64
    sample_rate_hz: int = 16_000
    unit_length: bool = True
    evidence: bool = True
    normalize_audio: bool = True
    image_options: dict[str, Any] = field(default_factory=dict)
    audio_options: dict[str, Any] = field(default_factory=dict)
    image_aligner: str = "pointwise"
    image_aligner_options: dict[str, Any] = field(default_factory=dict)
    audio_aligner: str = "pointwise"
    audio_aligner_options: dict[str, Any] = field(default_factory=dict)
    aligner_eps: float = 1e-5
    train_pool: int = 1

    def __post_init__(self) -> None:
        for name, table in (
            ("image_backbone", IMAGE_BACKBONES),
            ("audio_backbone", AUDIO_BACKBONES),
            ("image_aligner", IMAGE_ALIGNERS),
            ("audio_aligner", AUDIO_ALIGNERS),
        ):
            if getattr(self, name) not in table:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(table)}"
                )
        if not self.heads or len(set(self.heads)) != len(self.heads):
            raise ValueError(f"heads are {self.heads}; expected at least one, all different")
        if self.evidence and self.audio_aligner != "pointwise":
            raise ValueError(
                f"evidence with the {self.audio_aligner} audio aligner, which has none; expected "
                "the pointwise one or evidence=False"
            )
        if self.train_pool < 1:
            raise ValueError(f"train_pool is {self.train_pool}; expected at least 1")

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes; options of later versions only where they are in use."""
        values = {**asdict(self), "heads": list(self.heads)}
        for name in LATER_OPTIONS:
            if values[name] == type(self).__dataclass_fields__[name].default:
                del values[name]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelConfig:
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"unknown model options {', '.join(unknown)}; expected only "
                f"{', '.join(cls.__dataclass_fields__)}: was this bundle written by a newer "
                "version?"
            )
        return cls(**{**values, "heads": tuple(values["heads"])})


def head_specs(names: Sequence[str], **fields: Any) -> tuple[HeadSpec, ...]:
    """Heads of these names with the same `fields`; "speech" listens to an utterance."""
    listens = {"speech": "utterance"}
    return tuple(HeadSpec(name, listens.get(name, "recent"), **fields) for name in names)


class DualEncoder(nn.Module):
    """Image tokens (b,k,c,h,w), audio tokens (b,k,c,t), and the heatmap of one for the other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.heads = config.heads
        num_heads, dim = len(config.heads), config.head_dim
        self.image_backbone = IMAGE_BACKBONES[config.image_backbone](**config.image_options)
        trained = {"eps": config.aligner_eps, "unit_length": config.unit_length}
        self.image_aligner = IMAGE_ALIGNERS[config.image_aligner](
            self.image_backbone.dim,
            num_heads,
            dim,
            **(trained if config.image_aligner == "pointwise" else {}),
            **config.image_aligner_options,
        )
        self.audio_backbone = AUDIO_BACKBONES[config.audio_backbone](**config.audio_options)
        rate_hz = getattr(self.audio_backbone, "sample_rate_hz", config.sample_rate_hz)
        if rate_hz != config.sample_rate_hz:
            raise ValueError(
                f"audio_options are for sound at {rate_hz} Hz, sample_rate_hz is "
                f"{config.sample_rate_hz}; expected the same"
            )
        own = {
            "pointwise": {"evidence": config.evidence},
            "prototypes": {
                "dims": getattr(self.audio_backbone, "dims", [self.audio_backbone.dim])
            },
        }
        self.audio_aligner = AUDIO_ALIGNERS[config.audio_aligner](
            self.audio_backbone.dim,
            num_heads,
            dim,
            eps=config.aligner_eps,
            **own.get(config.audio_aligner, {}),
            **config.audio_aligner_options,
        )
        mean = getattr(self.image_backbone, "pixel_mean", IMAGENET_MEAN)
        std = getattr(self.image_backbone, "pixel_std", IMAGENET_STD)
        for name, values in (("pixel_mean", mean), ("pixel_std", std)):
            # Constants have values also where the parameters are built without (see `bundle`).
            constant = torch.tensor(values, device="cpu").view(1, 3, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    @property
    def patch_px(self) -> int:
        """Image sides must be multiples of this."""
        return self.image_backbone.patch_px

    def encode_image(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b k c h w"]:
        """RGB in [0, 1] to image tokens. H and W must be multiples of `patch_px`."""
        height, width = pixels.shape[-2:]
        if height % self.patch_px or width % self.patch_px:
            raise ValueError(
                f"image of {height}x{width} pixels; expected multiples of {self.patch_px}: "
                "resize it with av_grounding.image.ResizeTransform"
            )
        tokens = self.image_aligner(self.image_features(pixels))
        if self.training and self.config.train_pool > 1:
            pooled = F.avg_pool2d(tokens.flatten(1, 2), self.config.train_pool)
            return pooled.unflatten(1, tokens.shape[1:3])
        return tokens

    def image_features(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d h w"]:
        """The backbone's features before the aligner."""
        return self.image_backbone((pixels - self.pixel_mean) / self.pixel_std)

    def encode_audio(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b k c t"]:
        """Mono waveform at the configured rate, in [-1, 1], to audio tokens."""
        num_needed = (1 + self.audio_aligner.stride) * self.audio_backbone.token_samples
        if waveform.shape[-1] < num_needed:
            raise ValueError(
                f"waveform of {waveform.shape[-1]} samples; expected at least {num_needed}: pad "
                "it with zeros"
            )
        return self.audio_aligner(self.audio_features(waveform))

    def audio_features(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b d t"]:
        """The backbone's features before the aligner."""
        return self.audio_backbone(self.normalize_waveform(waveform))

    def streaming_front(self) -> StreamingFront | None:
        """A new state that keeps the audio front's frames from window to window.

        None where none could be kept: another backbone, a front that is normalised over time, or
        a waveform that is normalised over the window, so that every sample changes with it.
        """
        backbone = self.audio_backbone
        is_local = isinstance(backbone, HubertBackbone) and backbone.has_local_front
        if self.config.normalize_audio or not is_local:
            return None
        return StreamingFront(
            backbone.front,
            concatenate=partial(torch.cat, dim=-1),
            receptive_samples=backbone.receptive_samples,
            stride_samples=backbone.stride_samples,
        )

    def encode_front(self, features: Float[Tensor, "b d t"]) -> Float[Tensor, "b k c t2"]:
        """Audio tokens from what `streaming_front` gives."""
        return self.audio_aligner(self.audio_backbone.encode_front(features))

    def normalize_waveform(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
        """Zero mean and unit variance over the window, so that the microphone's gain cancels."""
        if not self.config.normalize_audio:
            return waveform
        centred = waveform - waveform.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-7).sqrt()

    def ground(
        self, image_tokens: Float[Tensor, "b k c h w"], vectors: Float[Tensor, "b k n c"]
    ) -> Float[Tensor, "b k n h w"]:
        """Similarity of audio vectors (tokens or pooled) with every cell (000 eq. 2)."""
        return ground(image_tokens, vectors)

    def forward(
        self, pixels: Float[Tensor, "b 3 H W"], waveform: Float[Tensor, "b s"]
    ) -> Float[Tensor, "b k h w"]:
        """Heatmaps of whole clips: the time mean of the similarity volume."""
        pooled = self.encode_audio(waveform).mean(dim=-1)
        return self.ground(self.encode_image(pixels), pooled[:, :, None])[:, :, 0]
