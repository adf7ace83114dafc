"""What papers 000 and 001 share: tokens, pair scores, temperature and regularisers."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.training.loop.distributed import gather_with_gradient, num_ranks
from av_grounding.training.losses import all_pairs, objectives, regularizers
from av_grounding.training.losses.aggregation import AGGREGATIONS, GlobalPooling
from av_grounding.training.recipes.base import Recipe

# The small model starts from scratch, where the papers start from DINO and HuBERT. So its spatial
# pooling begins soft and hardens, and time is pooled by evidence. As the papers freeze DINO (but
# for LoRA), the image backbone keeps its pretext's weights: the contrast rewards one bright cell,
# wherever it is, so features that learn from it lose the objects' outlines, even at a tenth of
# the rate. Head overlap weighs ten times 001's: cosines overlap far less than unbounded products
# do. One in eight cells and pairs of tokens keep a step cheap.
SYNTHETIC: dict[str, Any] = {
    "weight_head_overlap": 0.5,
    "num_non_negative": 0,
    "inverse_temperature_start": 12.0,
    "sharpness_start": 4.0,
    "sharpness_end": 15.0,
    "sharpness_steps": 1200,
    "evidence_floor": 2.0,
    "image_backbone_rate": 0.0,
    "time_pool": 2,
    "cell_block": (4, 2),
    "score_precision": "autocast",
}


@dataclass(frozen=True)
class ContrastConfig:
    """Weights and pooling. Defaults are the papers'; `synthetic()` has the small model's.

    ValueError for an unknown aggregation or precision, and for a sharpness below zero.
    """

    weight_head_overlap: float = 0.05
    """λ_Dis of 001 section 3.4 (000 eq. 13 states none)."""
    weight_splice: float = 0.01
    """λ_Splice of 000 eq. 18 and 001 eq. 15, as the next three."""
    weight_calibration: float = 0.1
    weight_non_negative: float = 0.01
    weight_total_variation: float = 0.01
    weight_silence: float = 0.0
    """On |S| where a clip is silent: 0.01 in 001's released code, not in the papers."""
    weight_foreign_cells: float = 0.1
    """On the foreign cells of quad-mixup (001's released code); idle unless `quad_mixup` > 0."""
    quad_mixup: float = 0.0
    """Share of images that become a 2 x 2 grid with three others; not in the papers."""
    num_non_negative: int = 250
    """|Ω| of 001 eq. 11; 0 takes every coordinate of each clip with another pair's image."""
    inverse_temperature_start: float = 1.0
    """γ = 1 / τ; neither paper states where it starts or its bounds: 001's released code does."""
    inverse_temperature_min: float = 0.01
    inverse_temperature_max: float = 100.0
    aggregation: str = "max"
    """max: heads and space by their maximum (000 eq. 5, 001 eq. 2); average, cls, simpool: the
    global ones of 001 table 4."""
    audible_mean: bool = False
    """Leave silence out of the time mean, as 001's released code does; the papers do not."""
    sharpness_start: float = math.inf
    """Of the spatial pooling: infinity is the papers' maximum, less is a softmax-weighted mean.
    It goes geometrically to `sharpness_end` over the first `sharpness_steps`."""
    sharpness_end: float = math.inf
    sharpness_steps: int = 0
    evidence_floor: float | None = None
    """None is the papers' plain time mean; a number of tokens weighs time by evidence."""
    image_backbone_rate: float = 1.0
    """Factor on the image backbone's learning rate; 0 freezes it, batch statistics included."""
    time_pool: int = 1
    cell_block: tuple[int, int] = (1, 1)
    """One random cell of every block (rows, columns) of the grid enters the scores."""
    score_precision: str = "fp32"
    """Of the products: fp32, or autocast's, which is faster and serves cosines only."""
    compile_scores: bool = False
    """Fuse the blocks of the all-pairs scores with torch.compile; pays on a GPU."""

    def __post_init__(self) -> None:
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(
                f"aggregation is {self.aggregation!r}; expected one of {', '.join(AGGREGATIONS)}"
            )
        if self.score_precision not in ("fp32", "autocast"):
            raise ValueError(
                f"score_precision is {self.score_precision!r}; expected fp32 or autocast"
            )
        if not min(self.sharpness_start, self.sharpness_end) > 0.0:
            raise ValueError("sharpness is not above 0; expected a positive number or inf")
        if math.isinf(self.sharpness_start) and not math.isinf(self.sharpness_end):
            raise ValueError(
                f"sharpness goes from inf to {self.sharpness_end}; expected it to rise: lower "
                "sharpness_start"
            )

    @classmethod
    def synthetic(cls, **changes: Any) -> Any:
        """The values for the small model of the synthetic world, which starts from scratch."""
        return cls(**{**SYNTHETIC, **changes})

    def sharpness(self, step: int) -> float:
        if math.isinf(self.sharpness_end):
            return self.sharpness_end
        done = min(step / max(self.sharpness_steps, 1), 1.0)
        return self.sharpness_start * (self.sharpness_end / self.sharpness_start) ** done


class Contrast(Recipe):
    """Owns the model, the temperature and, for global aggregations, their pooling."""

    def __init__(self, model: DualEncoder, config: ContrastConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.log_gamma = nn.Parameter(torch.tensor(math.log(config.inverse_temperature_start)))
        self.frozen: tuple[nn.Module, ...] = ()
        if config.image_backbone_rate == 0.0:
            self.freeze(model.image_backbone)
        self.pooling = None
        if config.aggregation != "max":
            self.pooling = GlobalPooling(
                config.aggregation,
                len(model.heads),
                model.config.head_dim,
                unit_length=model.config.unit_length,
            )

    @property
    def gamma(self) -> Float[Tensor, ""]:
        """Inverse temperature 1 / tau."""
        config = self.config
        return self.log_gamma.exp().clamp(
            config.inverse_temperature_min, config.inverse_temperature_max
        )

    def rate_of(self, name: str) -> float:
        slow = name.startswith("model.image_backbone.")
        return self.config.image_backbone_rate if slow else 1.0

    def warm_up(self) -> Contrast:
        """Aligners and temperature alone (001 section 3.5); pooling does not harden yet."""
        warm = deepcopy(self)
        warm.config = replace(self.config, sharpness_end=self.config.sharpness_start)
        warm.freeze(warm.model.image_backbone, warm.model.audio_backbone)
        return warm

    def freeze(self, *modules: nn.Module) -> None:
        self.frozen = modules
        for module in modules:
            module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Contrast:
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def encode_cells(self, pixels: Tensor) -> Float[Tensor, "b k c n"]:
        image = self.model.encode_image(to_unit_range(pixels))
        return sample_cells(image, self.config.cell_block)

    def encode_tokens(self, waveforms: Float[Tensor, "b s"]) -> Float[Tensor, "b k c t"]:
        return pool_tokens(self.model.encode_audio(waveforms), self.config.time_pool)

    def score_any_head(
        self,
        audio: Float[Tensor, "i k c t"],
        cells: Float[Tensor, "j k c n"],
        step: int,
        audible: Float[Tensor, "i t"] | None = None,
    ) -> Float[Tensor, "i j"]:
        """gamma s_M (000 eq. 5; 001 eq. 2)."""
        if self.pooling is not None:
            return self.gamma * objectives.global_scores(*self.pooling(audio, cells)).amax(dim=0)
        peaks = all_pairs.head_max_peaks(audio, cells, **self.score_options(audio, step))
        return self.gamma * self.pool_time(peaks, audio.norm(dim=2).amax(dim=1), audible)

    def score_head(
        self,
        audio: Float[Tensor, "i k c t"],
        cells: Float[Tensor, "j k c n"],
        head: int,
        step: int,
    ) -> Float[Tensor, "i j"]:
        """gamma s_N of one head (000 eq. 6)."""
        if self.pooling is not None:
            return self.gamma * objectives.global_scores(*self.pooling(audio, cells))[head]
        peaks = all_pairs.head_peaks(audio, cells, head, **self.score_options(audio, step))
        return self.gamma * self.pool_time(peaks, audio[:, head].norm(dim=1))

    def score_options(self, audio: Tensor, step: int) -> dict[str, Any]:
        dtype, kind = None, audio.device.type
        if self.config.score_precision == "autocast" and torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        compiled = self.config.compile_scores
        return {"sharpness": self.config.sharpness(step), "dtype": dtype, "compiled": compiled}

    def pool_time(
        self, peaks: Tensor, evidence: Tensor, audible: Tensor | None = None
    ) -> Float[Tensor, "i j"]:
        if self.config.evidence_floor is not None:
            return objectives.pool_time(peaks, evidence, self.config.evidence_floor)
        if audible is not None and self.config.audible_mean:
            return objectives.masked_time_mean(peaks, audible)
        return objectives.pool_time(peaks)

    def regularize(
        self,
        audio: Float[Tensor, "b k c t"],
        cells: Float[Tensor, "b k c n"],
        foreign: Float[Tensor, "b t"],
        silent: Float[Tensor, "b t"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Terms of 000 eq. 13 and 18 on matching pairs.

        `foreign` says how much of a token another clip's splice or padding is, `silent` how much
        of it nothing is.
        """
        config = self.config
        volume = regularizers.paired_volume(audio, cells)
        if config.num_non_negative:
            others = regularizers.sampled_similarities(audio, cells, config.num_non_negative)
        else:
            others = regularizers.paired_volume(audio, cells.roll(1, dims=0))
        terms = {
            "head_overlap": config.weight_head_overlap * regularizers.disentanglement(volume),
            "splice": config.weight_splice * regularizers.splice(volume, foreign),
            "calibration": config.weight_calibration * regularizers.calibration(self.log_gamma),
            "non_negative": config.weight_non_negative * regularizers.non_negative(others),
            "total_variation": config.weight_total_variation
            * regularizers.total_variation(volume),
        }
        if config.weight_silence:
            terms["silence"] = config.weight_silence * regularizers.silence(volume, 1.0 - silent)
        return terms


def negatives(batch: dict[str, Tensor], name: str) -> Bool[Tensor, "i j"] | None:
    """Which images may be contrasted with which clips of `name`; None for all.

    From `{name}_negative` (b,b), or from `{name}_class` (b,) and `present` (b, classes), which
    can be gathered over ranks, where a mask of one rank's own pairs cannot.
    """
    mask = batch.get(f"{name}_negative")
    if num_ranks() == 1 and mask is not None:
        return mask
    if f"{name}_class" in batch:
        classes = gather_with_gradient(batch[f"{name}_class"])
        return ~gather_with_gradient(batch["present"])[:, classes].T
    if mask is not None:
        raise ValueError(
            f"the batch has {name}_negative for its own pairs alone; expected {name}_class and "
            "present, which ranks can exchange: train in one process"
        )
    return None


def per_token(values: Float[Tensor, "b u"], num_tokens: int) -> Float[Tensor, "b t"]:
    """A clip's mask at the pace of the pooled tokens."""
    return nn.functional.adaptive_avg_pool1d(values[:, None], num_tokens)[:, 0]


def to_unit_range(pixels: Tensor) -> Tensor:
    return pixels.float() / 255.0 if pixels.dtype == torch.uint8 else pixels


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
