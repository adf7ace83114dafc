"""Recipe of paper 001, DenseAV: InfoNCE on the head-max score, and the regularisers.

Which head becomes which is left to the training (001 section 3.1, 3.4): `evaluation` finds out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from av_grounding.training.data.clips import KINDS
from av_grounding.training.data.quad_mixup import own_cells, quad_mixup
from av_grounding.training.loop.distributed import gather_with_gradient, num_ranks
from av_grounding.training.losses import objectives, regularizers
from av_grounding.training.recipes.contrast import (
    Contrast,
    ContrastConfig,
    negatives,
    per_token,
    sample_cells,
    to_unit_range,
)
from av_grounding.training.recipes.sss import masks

CLIPS = ("clean", "mixed")


@dataclass(frozen=True)
class DenseavConfig(ContrastConfig):
    """The shared weights and pooling, and the clips of batches that hold mixtures.

    `clips`: clean is the paper; mixed gives mixtures to the same loss, which tells the effect of
    mix-and-separate's objective (000) from that of its data.
    """

    clips: str = "clean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clips not in CLIPS:
            raise ValueError(f"clips is {self.clips!r}; expected one of {', '.join(CLIPS)}")


class HeadMaxContrast(Contrast):
    """`forward(batch, step)` gives weighted loss terms.

    Either a batch of pairs, `pixels` (b,3,H,W) and `audio` (b,s), half of them sound and half
    speech (001 section 3.5), with `silent` (b,t), optionally `foreign` (b,t), in [0,1]; or a
    batch of `MixAndSeparate` (with shared `pixels`), whose b sounds and b speeches are then 2b
    pairs: image i goes with sound i and with speech i, which are never each other's negatives.
    """

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Float[Tensor, ""]]:
        if "audio" in batch:
            waveforms, valid, num_repeats = batch["audio"], None, 1
            silent, foreign = batch["silent"], batch.get("foreign")
            silent = gather_with_gradient(silent)
            foreign = (
                silent if foreign is None else torch.maximum(silent, gather_with_gradient(foreign))
            )
        else:
            waveforms, valid, num_repeats = self.pairs_of_mixture_batch(batch)
        cells, own, shows = self.encode_images(batch["pixels"])
        audio = self.encode_tokens(waveforms)
        cells = gather_with_gradient(cells)
        # (ranks * kinds * b) clips, kinds first: one kind's clips of all ranks stay together.
        audio = torch.cat([gather_with_gradient(part) for part in audio.chunk(num_repeats)])
        num_tokens = audio.shape[3]
        if num_repeats > 1:
            silent, foreign = masks(batch, num_tokens)
            if self.config.clips == "mixed":
                silent, foreign = (in_mixtures(of_clips) for of_clips in (silent, foreign))
        else:
            silent, foreign = per_token(silent, num_tokens), per_token(foreign, num_tokens)

        scores = self.score_any_head(audio, cells, step, 1.0 - silent)
        scores, cells = scores.repeat(1, num_repeats), cells.repeat(num_repeats, 1, 1, 1)
        if shows is not None:
            allowed = ~shows.T.repeat(num_repeats, num_repeats)
            valid = allowed if valid is None else valid & allowed
        terms = {"contrast": objectives.info_nce(scores, valid)}
        terms |= self.regularize(audio, cells, foreign, silent)
        if own is not None:
            volume = regularizers.paired_volume(audio, cells)
            terms["foreign_cells"] = self.config.weight_foreign_cells * regularizers.foreign_cells(
                volume, own.repeat(num_repeats, 1)
            )
        return terms

    def encode_images(
        self, pixels: Tensor
    ) -> tuple[Tensor, Float[Tensor, "b n"] | None, Bool[Tensor, "b b"] | None]:
        """Cells, and under quad-mixup which of them are an image's own, and who shows whom."""
        if not (self.config.quad_mixup and self.training):
            return self.encode_cells(pixels), None, None
        one_process_only("quad_mixup")
        pixels, own, shows = quad_mixup(to_unit_range(pixels), self.config.quad_mixup)
        image = self.model.encode_image(pixels)
        own = own_cells(own, *image.shape[-2:])[:, None, None].to(image.dtype)
        both = sample_cells(
            torch.cat([image.flatten(1, 2), own[:, 0]], dim=1)[:, None], self.config.cell_block
        )[:, 0]
        return both[:, :-1].unflatten(1, image.shape[1:3]), both[:, -1], shows

    def pairs_of_mixture_batch(
        self, batch: dict[str, Tensor]
    ) -> tuple[Float[Tensor, "p s"], Bool[Tensor, "p p"] | None, int]:
        """Clips of 2b pairs, and which image each may be contrasted with."""
        valid = [negatives(batch, kind) for kind in KINDS]
        if self.config.clips == "mixed":
            one_process_only("clips=mixed")
            # Mixture i holds sound i and speech i + 1; for speech i it is the one before.
            waveforms = torch.cat([batch["mixture"], batch["mixture"].roll(1, dims=0)])
            if valid[0] is not None:
                sound, speech = valid
                valid = [sound & speech.roll(-1, dims=0), speech & sound.roll(1, dims=0)]
        else:
            waveforms = torch.cat([batch[kind] for kind in KINDS])
        if valid[0] is None:
            size = len(batch["pixels"]) * num_ranks()
            valid = [~torch.eye(size, dtype=torch.bool, device=waveforms.device)] * 2
        return waveforms, torch.cat(valid).repeat(1, 2), 2


def in_mixtures(of_clips: Float[Tensor, "p t"]) -> Float[Tensor, "p t"]:
    """Masks of sounds, then speech, as masks of the mixtures that hold them: where both agree."""
    sound, speech = of_clips.chunk(2)
    return torch.cat(
        [
            torch.minimum(sound, speech.roll(-1, dims=0)),
            torch.minimum(speech, sound.roll(1, dims=0)),
        ]
    )


def one_process_only(option: str) -> None:
    if num_ranks() > 1:
        raise ValueError(f"{option} mixes the clips of one process; leave it out under torchrun")
