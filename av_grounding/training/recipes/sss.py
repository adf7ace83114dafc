"""Recipe of paper 000, Seeing Speech and Sound: mix-and-separate.

Correspondence on clean sound and clean speech with head-max aggregation (eq. 7), disentanglement
on their mixture with each head's own score (eq. 9), their sum (eq. 11), and the regularisers of
the supplement (eq. 13 to 18).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.training.data.clips import KINDS
from av_grounding.training.loop.distributed import gather_with_gradient
from av_grounding.training.losses import objectives
from av_grounding.training.recipes.contrast import (
    Contrast,
    ContrastConfig,
    negatives,
    per_token,
    pool_tokens,
    sample_cells,
)

__all__ = ["MixAndSeparate", "SssConfig", "pool_tokens", "sample_cells"]


@dataclass(frozen=True)
class SssConfig(ContrastConfig):
    """Weights of the two objectives (000 eq. 11 adds them as they are) beside the shared ones.

    A weight of 0 leaves an objective out, as 000 tables 7, 9 and 10 do.
    """

    weight_correspondence: float = 1.0
    weight_disentanglement: float = 1.0


class MixAndSeparate(Contrast):
    """`forward(batch, step)` gives weighted loss terms.

    The batch holds `sound`, `speech`, `mixture` (b,s), `sound_silent`, `speech_silent` (b,t) in
    [0,1], optionally `sound_foreign`, `speech_foreign` (b,t) for splices, and what `negatives`
    reads, if not all other pairs are. Images (b,3,H,W), uint8 or in [0,1], come in one of two
    ways.

    `sound_pixels` and `speech_pixels`: v^A and v^P of the paper, and mixture i is the sum of
    sound i and speech i.

    `pixels`: image i shows what is heard in sound i and what is named in speech i, and mixture i
    is the sum of sound i and the next speech, i + 1: so one pass over b images gives both v^A
    and v^P, and they differ for every mixture. Were they one image, a head that answers for both
    objects would find it better than one that separates.
    """

    def __init__(self, model: DualEncoder, config: SssConfig) -> None:
        super().__init__(model, config)
        self.heads = {kind: model.heads.index(kind) for kind in KINDS}

    def warm_up(self) -> MixAndSeparate:
        """Aligners and temperature alone, by the correspondence loss (000 section 3.3.2).

        By the disentanglement loss where the other is left out.
        """
        warm = super().warm_up()
        if self.config.weight_correspondence:
            warm.config = replace(warm.config, weight_disentanglement=0.0)
        return warm

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Float[Tensor, ""]]:
        config = self.config
        is_shared = "pixels" in batch
        pixels = (
            [batch[f"{kind}_pixels"] for kind in KINDS] if not is_shared else [batch["pixels"]]
        )
        cells = gather_each(self.encode_cells(torch.cat(pixels)).chunk(len(pixels)))
        images = {"sound": cells[0], "speech": cells[-1]}

        clips = ["sound", "speech", *(["mixture"] if config.weight_disentanglement else [])]
        tokens = self.encode_tokens(torch.cat([batch[clip] for clip in clips]))
        sound, speech, *mixtures = tokens.chunk(len(clips))
        # For each kind, the mixture that holds its clip i.
        mixtures = [kind for m in mixtures for kind in (m, m.roll(1, dims=0) if is_shared else m)]
        sound, speech, *mixtures = gather_each([sound, speech, *mixtures])

        terms = {}
        valid = {kind: negatives(batch, kind) for kind in KINDS}
        if config.weight_correspondence:
            for kind, audio in zip(KINDS, (sound, speech), strict=True):
                scores = self.score_any_head(audio, images[kind], step)
                loss = objectives.info_nce(scores, valid[kind])
                terms[f"correspondence_{kind}"] = config.weight_correspondence * loss
        if config.weight_disentanglement:
            for kind, audio in zip(KINDS, mixtures, strict=True):
                scores = self.score_head(audio, images[kind], self.heads[kind], step)
                loss = objectives.info_nce(scores, valid[kind])
                terms[f"disentanglement_{kind}"] = config.weight_disentanglement * loss
        silent, foreign = masks(batch, sound.shape[3])
        return terms | self.regularize(
            torch.cat([sound, speech]), torch.cat([*images.values()]), foreign, silent
        )


def gather_each(tensors: list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
    return [gather_with_gradient(tensor) for tensor in tensors]


def masks(
    batch: dict[str, Tensor], num_tokens: int
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """How silent, and how silent or foreign, the tokens of all sounds, then all speech are."""
    silent = torch.cat([gather_with_gradient(batch[f"{kind}_silent"]) for kind in KINDS])
    foreign = silent
    if "sound_foreign" in batch:
        spliced = [gather_with_gradient(batch[f"{kind}_foreign"]) for kind in KINDS]
        foreign = torch.maximum(silent, torch.cat(spliced))
    return per_token(silent, num_tokens), per_token(foreign, num_tokens)
