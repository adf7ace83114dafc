"""Recipe of paper 000, Seeing Speech and Sound: mix-and-separate.

Correspondence on clean sound and clean speech with head-max aggregation (eq. 7), disentanglement
on their mixture with each head's own score (eq. 9), their sum (eq. 11), and the regularisers of
the supplement (eq. 13 to 18).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.training import objectives, regularizers


@dataclass(frozen=True)
class SssConfig:
    """Weights and schedules of the recipe; regulariser weights are the supplement's (eq. 18).

    Head overlap weighs ten times DenseAV's 0.05 (001): cosines overlap far less than its
    unbounded products do.

    The small bundle starts from scratch, where the papers start from DINO and HuBERT: its
    spatial pooling begins soft (`sharpness_start`) and hardens to `sharpness_end` over the first
    `sharpness_steps`, and time is pooled by evidence. `sharpness_*` = inf and `evidence_floor` =
    None are the paper's maximum and plain mean.
    """

    weight_correspondence: float = 1.0
    weight_disentanglement: float = 1.0
    weight_head_overlap: float = 0.5
    weight_splice: float = 0.01
    weight_calibration: float = 0.1
    weight_non_negative: float = 0.01
    weight_total_variation: float = 0.01
    inverse_temperature_start: float = 12.0
    inverse_temperature_max: float = 100.0
    sharpness_start: float = 4.0
    sharpness_end: float = 15.0
    sharpness_steps: int = 1200
    evidence_floor: float | None = 2.0
    image_backbone_rate: float = 0.1
    """Factor on the image backbone's learning rate. The contrast rewards one bright cell, so at
    full rate the pretrained features lose the objects' outlines; the papers tune DINO by LoRA."""
    time_pool: int = 2
    cell_block: tuple[int, int] = (4, 2)

    def sharpness(self, step: int) -> float:
        if math.isinf(self.sharpness_end):
            return self.sharpness_end
        done = min(step / max(self.sharpness_steps, 1), 1.0)
        return self.sharpness_start * (self.sharpness_end / self.sharpness_start) ** done


class MixAndSeparate(nn.Module):
    """Owns the model and the temperature; `forward(batch, step)` gives weighted loss terms.

    The batch holds `pixels` (b,3,H,W) uint8, `sound`, `speech`, `mixture` (b,s), their
    `sound_silent`, `speech_silent` (b,t) in [0,1], and `sound_negative`, `speech_negative` (b,b)
    bool: clip i may be contrasted with image j. Image i shows what is heard in sound i and what
    is named in speech i, and mixture i is the sum of sound i and the next speech, i + 1: so one
    pass over b images gives both v^A and v^P, and they differ for every mixture. Were they one
    image, a head that answers for both objects would find it better than one that separates.
    """

    def __init__(self, model: DualEncoder, config: SssConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.log_gamma = nn.Parameter(torch.tensor(math.log(config.inverse_temperature_start)))
        self.sound_head = model.heads.index("sound")
        self.speech_head = model.heads.index("speech")

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Float[Tensor, ""]]:
        config = self.config
        cells = sample_cells(
            self.model.encode_image(batch["pixels"].float() / 255.0), config.cell_block
        )
        waveforms = torch.cat([batch["sound"], batch["speech"], batch["mixture"]])
        tokens = pool_tokens(self.model.encode_audio(waveforms), config.time_pool)
        sound, speech, mixture = tokens.chunk(3)

        terms = {}
        for name, audio in (("sound", sound), ("speech", speech)):
            scores = self.score_any_head(audio, cells, step)
            terms[f"correspondence_{name}"] = config.weight_correspondence * objectives.info_nce(
                scores, batch[f"{name}_negative"]
            )
        mixtures = (
            ("sound", self.sound_head, mixture),
            ("speech", self.speech_head, mixture.roll(1, dims=0)),
        )
        for name, head, audio in mixtures:
            scores = self.score_head(audio, cells, head, step)
            terms[f"disentanglement_{name}"] = config.weight_disentanglement * objectives.info_nce(
                scores, batch[f"{name}_negative"]
            )
        return terms | self.regularize(sound, speech, cells, batch)

    def score_any_head(self, audio: Tensor, cells: Tensor, step: int) -> Float[Tensor, "i j"]:
        peaks = objectives.head_max_peaks(audio, cells, self.config.sharpness(step))
        evidence = audio.norm(dim=2).amax(dim=1)
        return self.gamma * self.pool_time(peaks, evidence)

    def score_head(
        self, audio: Tensor, cells: Tensor, head: int, step: int
    ) -> Float[Tensor, "i j"]:
        one = slice(head, head + 1)
        peaks = objectives.pair_peaks(audio[:, one], cells[:, one], self.config.sharpness(step))
        return self.gamma * self.pool_time(peaks[0], audio[:, head].norm(dim=1))

    def pool_time(self, peaks: Tensor, evidence: Tensor) -> Float[Tensor, "i j"]:
        floor = self.config.evidence_floor
        if floor is None:
            return objectives.pool_time(peaks)
        return objectives.pool_time(peaks, evidence, floor)

    def rate_of(self, name: str) -> float:
        """Factor on the learning rate of the parameter `name`."""
        slow = name.startswith("model.image_backbone.")
        return self.config.image_backbone_rate if slow else 1.0

    @property
    def gamma(self) -> Float[Tensor, ""]:
        """Inverse temperature 1 / tau."""
        return self.log_gamma.exp().clamp(max=self.config.inverse_temperature_max)

    def regularize(
        self, sound: Tensor, speech: Tensor, cells: Tensor, batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        config = self.config
        volume = regularizers.paired_volume(torch.cat([sound, speech]), torch.cat([cells, cells]))
        silent = torch.cat([batch["sound_silent"], batch["speech_silent"]])
        silent = nn.functional.adaptive_avg_pool1d(silent[:, None], volume.shape[2])[:, 0]
        other = regularizers.paired_volume(
            torch.cat([sound, speech]), torch.cat([cells, cells]).roll(1, dims=0)
        )
        return {
            "head_overlap": config.weight_head_overlap * regularizers.disentanglement(volume),
            "splice": config.weight_splice * regularizers.splice(volume, silent),
            "calibration": config.weight_calibration * regularizers.calibration(self.log_gamma),
            "non_negative": config.weight_non_negative * regularizers.non_negative(other),
            "total_variation": config.weight_total_variation
            * regularizers.total_variation(volume),
        }


def pool_tokens(tokens: Float[Tensor, "b k c t"], factor: int) -> Float[Tensor, "b k c u"]:
    """Mean of `factor` neighbouring tokens: a cheaper volume in training."""
    return nn.functional.avg_pool2d(tokens, (1, factor)) if factor > 1 else tokens


def sample_cells(
    image: Float[Tensor, "b k c h w"], block: tuple[int, int]
) -> Float[Tensor, "b k c n"]:
    """One random cell of every `block` (rows, columns) of the grid, the same for all images.

    Stratified, so that no part of an image goes unseen: a fraction of the volume's cost, while
    the tokens keep their full resolution.
    """
    rows, columns = block
    height, width = image.shape[-2] // rows, image.shape[-1] // columns
    y = torch.arange(height)[:, None] * rows + torch.randint(rows, (height, width))
    x = torch.arange(width)[None] * columns + torch.randint(columns, (height, width))
    index = (y * image.shape[-1] + x).flatten().to(image.device)
    return image.flatten(-2)[..., index]
