"""Recipe of paper 003, OneAVM: locate, separate and recognise with one model.

Audio-visual correspondence (eq. 1, 2), mixed-audio separation (eq. 3, 4) and mixed-visual
alignment (eq. 5), added as they are (eq. 6); each clip is mixed with a partner of its batch.

Where the paper contradicts itself or is silent: a bin's target is which source dominates it, as
the text says, since the printed formula asks for destructive interference and even its oracle
separates badly (`mask_target="literal"` keeps it). The separator is conditioned on the mean of
the image tokens that the clip attends to, so that at run time a point, a box or a heatmap is a
condition like those it has seen (`condition="max"` takes each channel's maximum over the picture).
Both clips of a mixed picture are positives of it, both in the denominator.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.training.loop.distributed import gather_with_gradient, own_rows
from av_grounding.training.losses import objectives
from av_grounding.training.recipes.contrast import (
    SYNTHETIC,
    Contrast,
    ContrastConfig,
    negatives,
    sample_cells,
    to_unit_range,
)

CHOICES = {
    "mask_target": ("dominant", "literal"),
    "condition": ("attended", "max"),
    "bin_weights": ("uniform", "level"),
}


@dataclass(frozen=True)
class OneAvmConfig(ContrastConfig):
    """Weights of the three objectives (eq. 6 adds them as they are); 0 leaves one out.

    The regularisers of the other papers are not part of this one.
    """

    weight_correspondence: float = 1.0
    weight_separation: float = 1.0
    weight_alignment: float = 1.0
    inverse_temperature_start: float = 1.0 / 0.03
    """The paper states no temperature; the authors' earlier code has 0.03."""
    mixed_share: float = 0.5
    """alpha of eq. 5, fixed; its best value in figure 5."""
    mask_target: str = "dominant"
    condition: str = "max"
    condition_sharpness: float = 15.0
    """Of the attention that picks the tokens of an attended condition."""
    uniform_conditions: float = 0.2
    """Share of attended conditions that are the mean of the whole picture instead."""
    bin_weights: str = "uniform"
    """Of eq. 4: uniform, or by the mixture's level, since where nothing sounds the target is a
    matter of luck."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}"
                )
        for name in ("mixed_share", "uniform_conditions"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")

    @classmethod
    def synthetic(cls, **changes: Any) -> OneAvmConfig:
        own = {
            "time_pool": 1,
            "score_precision": "fp32",
            "condition": "attended",
            "bin_weights": "level",
        }
        return cls(**{**SYNTHETIC, **own, **changes})


class OneAvm(Contrast):
    """`forward(batch, step)` gives weighted loss terms.

    The batch holds `audio` (b,s), `pixels` (b,3,H,W), uint8 or in [0,1], and what `negatives`
    reads of "audio", if not all other pairs are. Image i shows what sounds in clip i. Its partner,
    which must not sound from it, is the next of the batch, or the one that `partner` (b,) names,
    by its number within the batch of this rank.
    """

    def __init__(self, model: SeparatingEncoder, config: OneAvmConfig) -> None:
        super().__init__(model, config)
        # The projections of mixed-visual alignment are used in training only.
        self.mixed_image, self.mixed_audio = None, None
        if config.weight_alignment:
            self.mixed_image = deepcopy(model.image_aligner)
            self.mixed_audio = deepcopy(model.audio_aligner)

    def warm_up(self) -> OneAvm:
        warm = super().warm_up()
        warm.config = replace(warm.config, weight_separation=0.0, weight_alignment=0.0)
        return warm

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Float[Tensor, ""]]:
        config, model = self.config, self.model
        pictures, clips = [to_unit_range(batch["pixels"])], [batch["audio"]]
        num = len(clips[0])
        partner = batch.get("partner", next_of(num, clips[0].device))
        if config.weight_alignment:
            # In linear [0, 1], before the model's normalisation.
            shown, share = pictures[0], config.mixed_share
            pictures.append(share * shown + (1.0 - share) * shown[partner])
        if config.weight_separation:
            clips.append(clips[0] + clips[0][partner])
        # One pass each, so that batch statistics are of clean and mixed alike.
        seen = model.image_features(torch.cat(pictures)).chunk(len(pictures))
        waveforms = model.normalize_waveform(torch.cat(clips))
        picture, stages = model.audio_backbone.stages(waveforms)
        heard = model.audio_backbone.tokens(stages[-1][:num])
        image, audio = model.image_aligner(seen[0]), model.audio_aligner(heard)

        terms = {}
        valid = negatives(batch, "audio")
        if config.weight_correspondence:
            cells = gather_with_gradient(sample_cells(image, config.cell_block))
            scores = self.score_any_head(gather_with_gradient(audio), cells, step)
            embedded = [
                gather_with_gradient(one)
                for one in (model.embed_audio(heard), model.embed_image(seen[0]))
            ]
            scores = scores + self.gamma * embedded[0] @ embedded[1].T
            # Eq. 2 adds both directions, of which `info_nce` is the mean.
            terms["correspondence"] = (
                2.0 * config.weight_correspondence * objectives.info_nce(scores, valid)
            )
        if config.weight_separation:
            mixed = [one[num:] for one in (picture, *stages)]
            conditions = self.conditions(image, audio)
            terms["separation"] = config.weight_separation * self.separation(
                mixed, conditions, batch["audio"], partner
            )
        if config.weight_alignment:
            cells = sample_cells(self.mixed_image(seen[1]), config.cell_block)
            scores = self.score_any_head(
                gather_with_gradient(self.mixed_audio(heard)), gather_with_gradient(cells), step
            )
            of_all = gather_with_gradient(partner + own_rows(num).start)
            terms["alignment"] = config.weight_alignment * objectives.mixed_info_nce(
                scores, of_all, config.mixed_share, of_both(valid, of_all)
            )
        return terms

    def conditions(
        self, image: Float[Tensor, "b k c h w"], audio: Float[Tensor, "b k c t"]
    ) -> Float[Tensor, "b c"]:
        """What the separator is told of each clip's own picture."""
        if self.config.condition == "max":
            cells = image[:, self.model.heads.index("sound")].flatten(2)
            return F.normalize(cells.amax(dim=-1).float(), dim=-1)
        with torch.no_grad():
            pooled = F.normalize(audio.float().mean(dim=-1), dim=2)
            similarity = self.model.ground(image.float(), pooled[:, :, None])
            similarity = similarity[:, self.model.heads.index("sound"), 0].flatten(1)
            weights = torch.softmax(self.config.condition_sharpness * similarity, dim=-1)
            is_uniform = torch.rand(len(weights), 1, device=weights.device)
            is_uniform = is_uniform < self.config.uniform_conditions
            weights = torch.where(is_uniform, torch.ones_like(weights), weights)
        return self.model.condition(image, weights[:, None])[:, 0]

    def separation(
        self,
        mixed: list[Float[Tensor, "b _ _ _"]],
        conditions: Float[Tensor, "b c"],
        audio: Float[Tensor, "b s"],
        partner: Int[Tensor, " b"],
    ) -> Float[Tensor, ""]:
        """Eq. 3 and 4 on mixtures of each clip and its partner: picture and stages in `mixed`.

        Every mixture is decoded for both of its sources.
        """
        conditions = torch.cat([conditions, conditions[partner]])
        picture, *stages = [torch.cat([one, one]) for one in mixed]
        logits = self.model.separator(picture, stages, conditions)
        with torch.autocast(logits.device.type, enabled=False):
            target, weight = mask_targets(
                self.model.audio_backbone.log_mel.power,
                audio.float(),
                audio[partner].float(),
                self.config,
            )
            loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
            return (loss * weight).sum() / weight.sum()


@torch.no_grad()
def mask_targets(
    power: Callable[[Tensor], Tensor],
    audio: Float[Tensor, "b s"],
    partners: Float[Tensor, "b s"],
    config: OneAvmConfig,
) -> tuple[Float[Tensor, "b2 m t"], Float[Tensor, "b2 m t"]]:
    """M of eq. 4 and each bin's weight, for the mixtures of clips and their partners.

    First for all clips, then for the partners; `power` gives mel power (b, m, t).
    """
    own, other, total = power(audio), power(partners), power(audio + partners)
    if config.mask_target == "dominant":
        target = torch.cat([own > other, other > own])
    else:
        target = torch.cat([own > total, other > total])
    weight = torch.ones_like(total)
    if config.bin_weights == "level":
        weight = level_weights(total, audio + partners)
    return target.float(), torch.cat([weight, weight])


def level_weights(
    power: Float[Tensor, "b m t"], mixture: Float[Tensor, "b s"]
) -> Float[Tensor, "b m t"]:
    """Of eq. 4's bins: the logarithm of the mixture's level in each.

    Of the mixture at unit level, so that a microphone's gain changes nothing.
    """
    level = mixture.square().mean(dim=-1)[:, None, None].clamp_min(1e-12)
    return torch.log1p((power / level).sqrt()).clamp(1e-3, 10.0)


def next_of(num: int, device: torch.device) -> Int[Tensor, " b"]:
    """Of every clip of a batch the number of the next, of the last that of the first."""
    return torch.arange(num, device=device).roll(-1)


def of_both(
    valid: Bool[Tensor, "i j"] | None, partner: Int[Tensor, " j"]
) -> Bool[Tensor, "i j"] | None:
    """Negatives of mixed pictures: clips that sound from neither of their two pictures."""
    return None if valid is None else valid & valid[:, partner]
