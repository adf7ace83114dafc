"""Recipe of the separator of instruments: 003's separation where a channel is an instrument.

Pictures take no part in it. The image side is a classifier of photographs that has learned
already, and its answer for a place, a posterior over instruments, is what conditions the separator
(003 section 3.3). So training draws such posteriors: an instrument, and what a classifier confuses
it with. The sound head learns to name what is heard in the same channels, which takes the place of
eq. 1 and 2; eq. 5 has nothing to mix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from av_grounding.modeling.classes import ClassAligner
from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.training.recipes.base import Recipe
from av_grounding.training.recipes.oneavm import level_weights

NOBODY = -1
AUDIBLE = 1e-3
"""Of a clip's loudest token in power: what is weaker is not asked for."""


@dataclass(frozen=True)
class InstrumentsConfig:
    """`confusion`: how much of others a drawn posterior may hold, next to 1 for its own.

    `likeness`: how strongly that goes to what the classifier holds for alike. `elsewhere`: the
    share of silent conditions that are of no instrument at all.
    """

    confusion: float = 1.5
    likeness: float = 10.0
    elsewhere: float = 0.3
    weight_naming: float = 0.3


class SeparateInstruments(Recipe):
    """`forward(batch, step)` gives the terms separation, naming and evidence.

    The batch holds `sources` (b,n,s), of which the first two are instruments or silent, `nouns`
    (b,n), the number of each instrument or -1, and `mixture` (b,s), their sum and some noise. Each
    mixture is separated for its two instruments, and for something else that is silent in it.
    """

    def __init__(self, model: SeparatingEncoder, config: InstrumentsConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        for part in (model.image_backbone, model.image_aligner):
            part.requires_grad_(False)
        self.register_buffer("alike", alike(model.image_aligner), persistent=False)

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Float[Tensor, ""]]:
        model, sources, mixture = self.model, batch["sources"], batch["mixture"]
        backbone = model.audio_backbone
        picture, stages = backbone.stages(model.normalize_waveform(mixture))
        nouns = torch.cat([batch["nouns"][:, :2], self.silent_nouns(batch["nouns"])], dim=1)
        conditions, num = self.conditions(nouns), nouns.shape[1]
        repeated = [one.repeat_interleave(num, dim=0) for one in (picture, *stages)]
        logits = model.separator(repeated[0], repeated[1:], conditions.flatten(0, 1))
        with torch.autocast(logits.device.type, enabled=False):
            target, weight = self.mask_targets(sources.float(), mixture.float())
            loss = F.binary_cross_entropy_with_logits(
                logits.float().unflatten(0, (-1, num)), target, reduction="none"
            )
            separation = (loss * weight).sum() / (num * weight.sum())
        return {
            "separation": separation,
            **self.naming(backbone.tokens(stages[-1]), sources, batch["nouns"]),
        }

    @torch.no_grad()
    def silent_nouns(self, nouns: Int[Tensor, "b n"]) -> Int[Tensor, "b 1"]:
        """For every mixture an instrument that is not in it, seldom one that looks like one that
        is; or `NOBODY`."""
        is_known = (nouns >= 0)[..., None]
        near = self.alike[nouns.clamp_min(0)] * is_known
        heard = (F.one_hot(nouns.clamp_min(0), near.shape[-1]) * is_known).any(dim=1)
        chances = torch.exp(-self.config.likeness * near.amax(dim=1)) * ~heard
        drawn = torch.multinomial(chances, 1)
        is_elsewhere = torch.rand_like(chances[:, :1]) < self.config.elsewhere
        return torch.where(is_elsewhere, NOBODY, drawn)

    @torch.no_grad()
    def conditions(self, nouns: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        """Posteriors as a classifier gives them, as unit vectors; of `NOBODY` nothing but the
        rest, spread over all channels or over few."""
        known, is_known = self.model.config.head_dim, (nouns >= 0)[..., None]
        own = F.one_hot(nouns.clamp_min(0), known).float() * is_known
        taken_for = torch.softmax(self.config.likeness * self.alike, dim=1)[nouns.clamp_min(0)]
        spread = torch.where(is_known, 2.0 * taken_for, 0.15).clamp_min(0.01)
        rest = torch.distributions.Gamma(spread, 1.0).sample() + 1e-4
        rest = rest / rest.sum(dim=-1, keepdim=True)
        share = self.config.confusion * torch.rand(*nouns.shape, 1, device=nouns.device)
        return F.normalize(own + torch.where(is_known, share, 1.0) * rest, dim=-1)

    @torch.no_grad()
    def mask_targets(
        self, sources: Float[Tensor, "b n s"], mixture: Float[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b 3 m t"], Float[Tensor, "b 1 m t"]]:
        """Where each of the two dominates all else together (003 eq. 4), nowhere for the third."""
        power = self.model.audio_backbone.log_mel.power
        own = [power(sources[:, number]) for number in range(2)]
        rest = [power(mixture - sources[:, number]) for number in range(2)]
        dominant = [one > other for one, other in zip(own, rest, strict=True)]
        target = torch.stack([*dominant, torch.zeros_like(dominant[0])], dim=1)
        return target.float(), level_weights(power(mixture), mixture)[:, None]

    def naming(
        self,
        features: Float[Tensor, "b d t"],
        sources: Float[Tensor, "b n s"],
        nouns: Int[Tensor, "b n"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy of a token's instruments, each by its share of the power, and of whether
        it has any."""
        (aligner,) = self.model.audio_aligner.heads
        known, num = self.model.config.head_dim, features.shape[-1]
        stride = self.model.audio_backbone.token_samples
        with torch.no_grad():
            power = sources[..., : num * stride].unflatten(-1, (num, stride)).square().mean(-1)
            played = power * (nouns >= 0)[..., None]
            of_noun = torch.zeros(len(nouns), known, num, device=power.device)
            of_noun.scatter_add_(1, nouns.clamp_min(0)[..., None].expand_as(played), played)
            total = of_noun.sum(dim=1)
            loudest = power.sum(dim=1).amax(dim=-1, keepdim=True)
            is_heard = total > AUDIBLE * loudest.clamp_min(1e-9)
            shares = of_noun / total.clamp_min(1e-12)[:, None]
        named = -(shares * aligner.logits(features).log_softmax(dim=1)).sum(dim=1)
        evidence = F.binary_cross_entropy_with_logits(
            aligner.evidence_logits(features), is_heard.float()
        )
        scale = self.config.weight_naming
        return {
            "naming": scale * (named * is_heard).sum() / is_heard.sum().clamp_min(1),
            "evidence": scale * evidence,
        }


@torch.no_grad()
def alike(aligner: ClassAligner) -> Float[Tensor, "v v"]:
    """Cosines between things' rows of the classifier, less the mean row; a thing has none of its
    own (its diagonal is -1). What it takes for one another has rows alike: cello and violin .46,
    oboe and bassoon .43, against .1 to .2 for most."""
    rows = aligner.classify.weight.float().flatten(1)
    rows = F.normalize(aligner.groups.float() @ (rows - rows.mean(dim=0)), dim=1)
    return (rows @ rows.T).fill_diagonal_(-1.0)
