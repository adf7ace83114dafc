"""The unified model of paper 003, OneAVM: locate, separate and recognise with shared encoders.

A dual encoder whose audio backbone also feeds a U-Net. The U-Net is conditioned on what lies at a
place of the picture, a mean of image tokens, and answers which part of a mixture's spectrogram
belongs to it (003 section 3.3, eq. 3). Paper and build differ where the paper is silent: the
decoder's widths, skips and conditioning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.conv_image import ConvNorm
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig

MASKS = ("soft", "hard")
UNHEARD = 0.1
"""What is left of a thing that is not heard. Where places are looked at alone it matters little:
40 validation duets of photographs have 8.93 dB of SDR by 0.02, 8.98 by 0.1, 9.00 by 0.5."""


@dataclass(frozen=True)
class SeparatingConfig(ModelConfig):
    """A `ModelConfig` whose audio backbone has stages, and the parts that stand on them.

    `embedding_dim`: channels of the global projections, by which whole pictures and clips are
    recognised; 0 leaves them out. `separator_options` go to `Separator`. `mask`: soft, the
    probability that a bin belongs to the place, which can be averaged over windows; hard, 1 where
    that exceeds one half. `fuses_heard`: channels are things, and what a place shows is weighed by
    which things the mixture is heard to hold (see `fused`).
    """

    audio_backbone: str = "spectrogram"
    heads: tuple[str, ...] = ("sound",)
    embedding_dim: int = 64
    separator_options: dict[str, Any] = field(default_factory=dict)
    mask: str = "soft"
    fuses_heard: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fuses_heard and self.audio_aligner != "prototypes":
            raise ValueError(
                f"fuses_heard with the {self.audio_aligner} audio aligner, whose channels are no "
                "things; expected prototypes"
            )
        if self.mask not in MASKS:
            raise ValueError(f"mask is {self.mask!r}; expected one of {', '.join(MASKS)}")
        if "sound" not in self.heads:
            raise ValueError(
                f"heads are {', '.join(self.heads)}; expected one named sound, whose tokens "
                "condition the separator"
            )


def enlarged_to(skip: Tensor, x: Tensor) -> Tensor:
    """Without what the encoder's strides rounded up: a window may have any number of frames."""
    return x[..., : skip.shape[-2], : skip.shape[-1]]


class UpStage(nn.Module):
    """Twice the resolution, the encoder's features of that resolution, convolutions.

    The condition scales and shifts the channels. A vector that is tiled and concatenated shifts
    them alone, and a scale is what lets it choose among them.
    """

    def __init__(self, dim_in: int, dim_skip: int, dim: int, dim_condition: int, num_convs: int):
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(dim_in, dim, 2, 2)
        self.merge = ConvNorm(dim + dim_skip, dim, 3, linear=True)
        self.modulate = nn.Linear(dim_condition, 2 * dim)
        self.rest = nn.Sequential(*[ConvNorm(dim, dim, 3) for _ in range(num_convs - 1)])

    def forward(self, x: Tensor, skip: Tensor, condition: Float[Tensor, "b c"]) -> Tensor:
        merged = self.merge(torch.cat([enlarged_to(skip, self.enlarge(x)), skip], dim=1))
        scale, shift = self.modulate(condition)[..., None, None].chunk(2, dim=1)
        return self.rest(torch.relu(merged * (1.0 + scale) + shift))


class Separator(nn.Module):
    """The decoder g_sep of eq. 3: stages of an audio backbone and a condition to mask logits.

    `num_convs` convolutions a stage; with four stages 1 to 4 are the depths 4, 8, 12 and 16 of
    figure 5, where 2 is best.
    """

    def __init__(
        self, widths: Sequence[int], dim_condition: int, num_convs: int = 2, last_width: int = 8
    ) -> None:
        super().__init__()
        if num_convs < 1:
            raise ValueError(f"num_convs is {num_convs}; expected at least 1")
        self.ups = nn.ModuleList(
            UpStage(dim_in, dim, dim, dim_condition, num_convs)
            for dim_in, dim in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.enlarge = nn.ConvTranspose2d(widths[0], last_width, 2, 2)
        self.answer = nn.Conv2d(last_width + 1, 1, 3, padding=1)

    def forward(
        self,
        picture: Float[Tensor, "b 1 m t"],
        stages: Sequence[Float[Tensor, "b _ _ _"]],
        condition: Float[Tensor, "b c"],
    ) -> Float[Tensor, "b m t"]:
        # A unit vector's coordinates are small; at unit variance layers learn as they are drawn.
        condition = condition * condition.shape[-1] ** 0.5
        x = stages[-1]
        for up, skip in zip(self.ups, stages[-2::-1], strict=True):
            x = up(x, skip, condition)
        fine = enlarged_to(picture, torch.relu(self.enlarge(x)))
        return self.answer(torch.cat([fine, picture], dim=1))[:, 0]


class SeparatingEncoder(DualEncoder):
    """A `DualEncoder` that also separates, and recognises by global projections."""

    def __init__(self, config: SeparatingConfig) -> None:
        super().__init__(config)
        if not hasattr(self.audio_backbone, "stages"):
            raise ValueError(
                f"audio_backbone is {config.audio_backbone!r}, which has no stages; expected "
                "spectrogram or resnet"
            )
        if not hasattr(self.audio_backbone.log_mel, "mel"):
            raise ValueError(
                "the audio backbone's picture has linear bins, but masks lie on mel bands; "
                "expected audio_options with front=mel"
            )
        if config.embedding_dim:
            self.image_global = nn.Linear(self.image_backbone.dim, config.embedding_dim)
            self.audio_global = nn.Linear(self.audio_backbone.dim, config.embedding_dim)
        self.separator = Separator(
            self.audio_backbone.widths, config.head_dim, **config.separator_options
        )
        spread = spread_over_bins(self.audio_backbone.log_mel.mel)
        self.register_buffer("spread", spread, persistent=False)

    def embed_image(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b e"]:
        """v^glb: the projection of each channel's maximum over the picture, of length 1."""
        return F.normalize(self.image_global(features.amax(dim=(-2, -1))).float(), dim=-1)

    def embed_audio(self, features: Float[Tensor, "b d t"]) -> Float[Tensor, "b e"]:
        """a^glb, likewise over time."""
        return F.normalize(self.audio_global(features.amax(dim=-1)).float(), dim=-1)

    def condition(
        self, tokens: Float[Tensor, "b k c h w"], weights: Float[Tensor, "b n r"]
    ) -> Float[Tensor, "b n c"]:
        """What lies where `weights` say, as a unit vector: their mean of the sound head's tokens.

        `weights` are at least 0; of weights that are all 0 the mean is that of the whole picture.
        """
        cells = tokens[:, self.heads.index("sound")].flatten(2)
        empty = (weights.sum(dim=-1, keepdim=True) <= 0).to(weights.dtype)
        mean = torch.einsum("bnr,bcr->bnc", weights + empty, cells)
        return F.normalize(mean.float(), dim=-1)

    def mask_logits(
        self, waveform: Float[Tensor, "b s"], conditions: Float[Tensor, "b n c"]
    ) -> Float[Tensor, "b n m t"]:
        """For n places each, on the mel grid: above 0 where a bin belongs to the place."""
        picture, stages = self.audio_backbone.stages(self.normalize_waveform(waveform))
        num = conditions.shape[1]
        if self.config.fuses_heard:
            conditions = self.fused(conditions, self.audio_backbone.tokens(stages[-1]))
        repeated = [one.repeat_interleave(num, dim=0) for one in (picture, *stages)]
        logits = self.separator(repeated[0], repeated[1:], conditions.flatten(0, 1))
        return logits.unflatten(0, (-1, num))

    def fused(
        self, conditions: Float[Tensor, "b n c"], features: Float[Tensor, "b d t"]
    ) -> Float[Tensor, "b n c"]:
        """P(thing | place, mixture), up to its length: what the place shows, times how clearly
        each thing is heard at its clearest token.

        A photograph alone may be taken for something alike, a violin for a cello.
        """
        heard = self.audio_aligner(features)[:, self.heads.index("sound")].amax(dim=-1)
        return F.normalize(conditions * (heard + UNHEARD)[:, None].float(), dim=-1)

    def masks(
        self, waveform: Float[Tensor, "b s"], conditions: Float[Tensor, "b n c"]
    ) -> Float[Tensor, "b n f t"]:
        """Masks in [0, 1] on the bins and frames of `audio.Stft` of the backbone's sizes."""
        logits = self.mask_logits(waveform, conditions).float()
        mask = torch.sigmoid(logits) if self.config.mask == "soft" else (logits > 0).float()
        return torch.einsum("mf,bnmt->bnft", self.spread, mask)


def spread_over_bins(mel: Float[Tensor, "m f"]) -> Float[Tensor, "m f"]:
    """Weights that bring a mask on mel bands back to linear bins: of each bin's bands the mean.

    The filterbank's transpose alone would lose what its first and last bins are covered by only
    in part; a bin that no band covers takes its nearest band.
    """
    covered = mel.sum(dim=0) > 1e-6
    bands = mel.argmax(dim=1)[:, None].float()
    bins = torch.arange(mel.shape[1], device=mel.device)
    nearest = (bands - bins).abs().argmin(dim=0)
    alone = F.one_hot(nearest, len(mel)).T.float()
    return torch.where(covered, mel / mel.sum(dim=0).clamp_min(1e-12), alone)
