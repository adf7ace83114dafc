"""Recipe of paper 002, SeAC: segment, associate, classify.

What is trained is how regions and sounds meet: the mask encoder, the attention over time, both
projections and the temperature. Encoders and proposals are frozen (section 2.4), so regions come
as embeddings that were computed once; sounds are encoded in the step, since mixtures exist only
as waveforms.

Where the paper is silent: the batch is mixed as a whole with a probability that rises linearly
over the steps, drawn from seed and step; the temperature begins at 0.07 within [0.01, 1]; the loss
is divided by the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from av_grounding.modeling.mask_encoder import pooled_sound
from av_grounding.modeling.region_model import RegionModel
from av_grounding.training.loop.distributed import gather_with_gradient, rank
from av_grounding.training.losses.region_contrast import (
    drawn_mixtures,
    micl,
    msa_micl,
    region_scores,
)
from av_grounding.training.recipes.base import Recipe

MIXING = ("msa", "naive", "none")
FROZEN = ("proposals", "image_backbone", "audio_backbone")


@dataclass(frozen=True)
class SeacConfig:
    """`mixing`: "msa" is the paper's MSA-MICL; "none" its MICL; "naive" mixes, but knows only
    each image's own clip as positive, the control that the paper's table 3 leaves out."""

    mixing: str = "msa"
    mixing_end: float = 0.5
    """Probability that a batch is mixed at the last step; it begins at 0 (section 2.4)."""
    mixing_steps: int = 1
    """Steps over which it rises; a run takes all of its own."""
    temperature: float = 0.07
    temperature_min: float = 0.01
    temperature_max: float = 1.0
    masks_negatives: bool = False
    """Whether images that show a sound's class are no negatives of it; not in the paper, whose
    world has more classes than a batch has clips."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mixing not in MIXING:
            raise ValueError(f"mixing is {self.mixing!r}; expected one of {', '.join(MIXING)}")
        if not 0.0 <= self.mixing_end <= 1.0:
            raise ValueError(f"mixing_end is {self.mixing_end}; expected 0 to 1")
        if not 0.0 < self.temperature_min <= self.temperature <= self.temperature_max:
            raise ValueError(
                f"temperature is {self.temperature}; expected it between temperature_min "
                f"{self.temperature_min} and temperature_max {self.temperature_max}"
            )

    def mixing_at(self, step: int) -> float:
        """Probability that the batch of this step is mixed."""
        if self.mixing == "none":
            return 0.0
        return self.mixing_end * min(step / max(self.mixing_steps, 1), 1.0)


class RegionContrast(Recipe):
    """`forward(batch, step)` gives the one weighted term.

    The batch holds `regions` (b, n, d), embeddings as `RegionModel.region_features` gives them,
    `region_valid` (b, n), and `sound` (b, s), the clip of each picture. With `masks_negatives`
    also `sound_class` (b,) and `present` (b, classes), what each picture shows. `mixture` (b,)
    says which clips are mixed, by number within this rank, where it is not to be drawn.
    """

    model: RegionModel

    def __init__(self, model: RegionModel, config: SeacConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        for name in FROZEN:
            getattr(model, name).requires_grad_(False)
        self.train()

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """tau, within its bounds."""
        config = self.config
        return self.log_temperature.exp().clamp(config.temperature_min, config.temperature_max)

    def train(self, mode: bool = True) -> RegionContrast:
        super().train(mode)
        for name in FROZEN:
            getattr(self.model, name).eval()
        return self

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Float[Tensor, ""]]:
        config, waveforms = self.config, batch["sound"]
        num = len(waveforms)
        mixture = batch.get("mixture")
        if mixture is None:
            mixture = drawn_mixtures(num, config.mixing_at(step), config.seed, step, rank())
        is_mixed = mixture is not None
        mixture = mixture if is_mixed else torch.arange(num)
        mixture = mixture.to(waveforms.device)
        num_sounds = int(mixture.max()) + 1
        # Added as they are: a sum of clips is what a microphone would hear.
        mixed = waveforms.new_zeros(num_sounds, waveforms.shape[1])
        mixed.index_add_(0, mixture, waveforms)
        sounds = pooled_sound(self.encode_sound(mixed))[:, 0]
        vectors = self.model.encode_regions(batch["regions"].float(), batch["region_valid"])[:, 0]

        regions, valid = gather_with_gradient(vectors), gather_with_gradient(batch["region_valid"])
        scores = region_scores(regions, valid, gather_with_gradient(sounds)) / self.temperature
        mixture = gather_with_gradient(mixture + rank() * num_sounds)
        allowed = self.allowed(batch, mixture) if config.masks_negatives else None
        if is_mixed and config.mixing == "naive":
            # Each image beside a copy of the mixture that holds its clip, and no other positive.
            loss = micl(scores[:, mixture], None if allowed is None else allowed[:, mixture])
        else:
            loss = msa_micl(scores, mixture, allowed)
        return {"region_contrast": loss}

    def encode_sound(self, waveforms: Float[Tensor, "k s"]) -> Float[Tensor, "k h c t"]:
        """Tokens of sound; no gradient reaches the frozen backbone."""
        with torch.no_grad():
            features = self.model.audio_features(waveforms)
        return self.model.audio_aligner(features)

    def allowed(self, batch: dict[str, Tensor], mixture: Int[Tensor, " i"]) -> Bool[Tensor, "i k"]:
        """Which images may be negatives of which mixtures: those that show nothing heard there."""
        classes = gather_with_gradient(batch["sound_class"])
        present = gather_with_gradient(batch["present"])
        shows = present[:, classes].float()
        of_mixture = shows.new_zeros(len(shows), int(mixture.max()) + 1)
        return of_mixture.index_add_(1, mixture, shows) == 0
