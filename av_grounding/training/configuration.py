"""Settings of the small runs: typed dataclasses, on the synthetic world or on clips."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from av_grounding.modeling.dual_encoder import ModelConfig
from av_grounding.modeling.region_model import RegionConfig
from av_grounding.modeling.separator import SeparatingConfig
from av_grounding.synthetic.objects import CLASSES
from av_grounding.training.loop.config import LoopConfig
from av_grounding.training.recipes.denseav import DenseavConfig
from av_grounding.training.recipes.oassl import OasslConfig
from av_grounding.training.recipes.oneavm import OneAvmConfig
from av_grounding.training.recipes.seac import SeacConfig
from av_grounding.training.recipes.sss import SssConfig
from av_grounding.training.settings import run_to_json


@dataclass(frozen=True)
class DataConfig:
    """The synthetic banks and the batches drawn from them."""

    num_scene_groups: int = 3000
    num_sounds_per_class: int = 80
    num_utterances_per_class: int = 250
    bank_seed: int = 1
    batch_size: int = 32
    pretext_groups: int = 4
    pretext_clips: int = 64
    num_calibration_samples: int = 300
    calibration_seed: int = 0
    voices: tuple[str, ...] = ()
    """Of other engines than espeak-ng, "engine:voice"; they say every second utterance."""


def small_model() -> ModelConfig:
    return ModelConfig(audio_options={"widths": (32, 64, 96), "dim": 192})


@dataclass(frozen=True)
class SssRun:
    """Everything that `train sss` needs for the small bundle of the synthetic world."""

    recipe_name: ClassVar[str] = "sss"
    stage: ClassVar[str] = "mix-and-separate"

    name: str = "synthetic-small"
    start: str = ""
    """A bundle whose weights training begins with, where names and shapes fit; empty: the
    backbones begin with their pretext."""
    window_s: float = 2.56
    hop_s: float = 0.16
    short_side_px: int = 160
    salience_power: float = 2.0
    """How strongly the speech head prefers tokens whose own map is peaked (see ModelSpec)."""
    model: ModelConfig = field(default_factory=small_model)
    data: DataConfig = field(default_factory=DataConfig)
    recipe: SssConfig = field(default_factory=SssConfig.synthetic)
    pretext: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1200, seed=1))
    aligners: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=0, learning_rate=3e-3, warmup_steps=50, seed=4)
    )
    """The warm-up of the aligners (000 section 3.3.2; 001 section 3.5); 0 steps leaves it out."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=3200, seed=2))
    tuning: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=800, learning_rate=3e-4, warmup_steps=50, seed=3)
    )
    """A last stage in which the image backbone learns too; 0 steps leaves it out."""
    tuning_image_rate: float = 0.1
    """Its factor on the learning rate: enough to tell look-alikes apart, and outlines stay."""

    def to_json(self) -> dict[str, Any]:
        return run_to_json(self)


@dataclass(frozen=True)
class DenseavRun(SssRun):
    """The same model, data and schedule under 001's recipe: the other side of a comparison."""

    recipe_name: ClassVar[str] = "denseav"
    stage: ClassVar[str] = "head-max contrast"

    name: str = "synthetic-denseav"
    recipe: DenseavConfig = field(default_factory=DenseavConfig.synthetic)


def small_separator() -> SeparatingConfig:
    """Half of the class's mel bands: they cost a step least where two cores train."""
    return SeparatingConfig(audio_options={"num_mels": 64, "dim": 96})


@dataclass(frozen=True)
class OneAvmRun(SssRun):
    """`train oneavm`: locate, separate and recognise in the synthetic world (003)."""

    recipe_name: ClassVar[str] = "oneavm"
    stage: ClassVar[str] = "unified"

    name: str = "synthetic-separator"
    model: SeparatingConfig = field(default_factory=small_separator)
    data: DataConfig = field(
        default_factory=lambda: DataConfig(
            num_scene_groups=300, num_utterances_per_class=1, batch_size=16
        )
    )
    recipe: OneAvmConfig = field(default_factory=OneAvmConfig.synthetic)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=1500, learning_rate=2e-3, seed=2, ema_decay=0.99, precision="fp32",
            checkpoint_every=50,
        )
    )  # fmt: skip
    tuning: LoopConfig = field(default_factory=lambda: LoopConfig(steps=0, seed=3))


def small_regions() -> RegionConfig:
    """Regions of the drawn world: embeddings of one dense pass, an encoder of half a million."""
    return RegionConfig(
        views="pooled",
        head_dim=64,
        image_aligner_options={"width": 128, "depth": 2, "dropout": 0.0},
        proposals_options={"num_regions": 16},
        num_classes=len(CLASSES),
    )


@dataclass(frozen=True)
class SeacRun:
    """Everything that `train seac` needs for the small bundle of regions (002)."""

    recipe_name: ClassVar[str] = "seac"
    stage: ClassVar[str] = "association"

    name: str = "synthetic-regions"
    start: str = ""
    """The bundle whose frozen backbones it has; empty: the shipped one of the drawn world, for
    clips the default one."""
    window_s: float = 2.56
    hop_s: float = 0.16
    short_side_px: int = 160
    num_scenes: int = 1200
    """Drawn scenes whose regions are kept, in two views each."""
    views_per_clip: int = 2
    """Pictures of each clip whose regions are kept, where it trains on clips."""
    model: RegionConfig = field(default_factory=small_regions)
    data: DataConfig = field(
        default_factory=lambda: DataConfig(
            num_scene_groups=300, num_utterances_per_class=1, batch_size=48,
            num_calibration_samples=60,
        )
    )  # fmt: skip
    recipe: SeacConfig = field(default_factory=lambda: SeacConfig(masks_negatives=True))
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=600, warmup_steps=30, seed=2, weight_decay=0.01, ema_decay=0.99,
            precision="fp32", checkpoint_every=50,
        )
    )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return run_to_json(self)


@dataclass(frozen=True)
class StagesConfig:
    """The banks of stages and sounds, and the batches drawn from them."""

    num_stages: int = 4500
    num_sounds_per_class: int = 80
    bank_seed: int = 1
    batch_size: int = 20
    text: str = "words"
    """What encodes captions: a fixed vector a word, or BERT by its name on the hub or its folder
    (004 section 4.2: google-bert/bert-base-uncased)."""
    text_dim: int = 256
    """Of the fixed word vectors."""
    lookalike_share: float = 0.5
    """Of a batch's stages, chosen since a class sounds there that another of the batch shows still
    and silent, as its caption says: by chance one pair in ten is of that kind."""
    captions: str = "full"
    """Of stages: full; labels, "an image of LABEL" without a background; shuffled, another clip's.
    The latter two are controls of what captions add."""
    num_calibration_samples: int = 150
    num_counting_samples: int = 4000
    """Mixtures from which it learns how many sources are heard; no picture is needed."""
    calibration_seed: int = 0


@dataclass(frozen=True)
class OasslRun:
    """Everything that `train oassl` needs for the small bundle of several sources."""

    recipe_name: ClassVar[str] = "oassl"
    stage: ClassVar[str] = "object-aware"

    name: str = "synthetic-sources"
    start: str = ""
    """A bundle whose encoders and sound head it begins with, where the paper begins with
    backbones trained on photographs; empty: from scratch."""
    window_s: float = 2.56
    hop_s: float = 0.16
    short_side_px: int = 160
    max_sources: int = 4
    model: ModelConfig = field(default_factory=lambda: replace(small_model(), heads=("sound",)))
    data: StagesConfig = field(default_factory=StagesConfig)
    recipe: OasslConfig = field(default_factory=OasslConfig.synthetic)
    # Masks as narrow as the paper's want fp32; and many CPUs are slower at bf16.
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=1500, seed=2, precision="fp32", ema_decay=0.99)
    )

    def to_json(self) -> dict[str, Any]:
        return run_to_json(self)
