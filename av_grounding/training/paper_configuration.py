"""Settings of the papers' own runs (`--preset paper`), and of which runs there are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from av_grounding.modeling.denseav import HOP_S, SHORT_SIDE_PX, WINDOW_S, denseav_config
from av_grounding.modeling.dual_encoder import ModelConfig
from av_grounding.modeling.region_model import RegionConfig
from av_grounding.modeling.separator import SeparatingConfig
from av_grounding.training.configuration import DenseavRun, OasslRun, OneAvmRun, SeacRun, SssRun
from av_grounding.training.data.augmentation import AugmentationConfig
from av_grounding.training.data.mixing import MixingConfig
from av_grounding.training.loop.config import LoopConfig
from av_grounding.training.recipes.denseav import DenseavConfig
from av_grounding.training.recipes.oassl import OasslConfig
from av_grounding.training.recipes.oneavm import OneAvmConfig
from av_grounding.training.recipes.seac import SeacConfig
from av_grounding.training.recipes.sss import SssConfig
from av_grounding.training.settings import run_to_json


@dataclass(frozen=True)
class PretrainedConfig:
    """The backbones' weights: a name on the Hugging Face hub or a local folder, and their LoRA."""

    image: str = "facebook/dino-vits8"
    """DINO with patches of 8 pixels (000 section 3.3.1; 001 section 3.3 and figure 6)."""
    audio: str = "facebook/hubert-large-ll60k"
    """HuBERT Large pretrained on Libri-Light (000 section 3.3.1)."""
    lora_rank: int = 8
    """On query, key and value of the image attention (000 section 3.3.2; 001 section 3.5)."""
    lora_alpha: int = 32
    """Not in the papers, as the dropout: 001's released code."""
    lora_dropout: float = 0.1


def paper_loop(steps: int, seed: int) -> LoopConfig:
    """Adam at 5e-5 after 1000 steps of warm-up, clipped at 10: 001's released code.

    Neither paper states the optimiser. Half precision is bf16 here, which needs no loss scaling;
    a CPU without it computes in fp32.
    """
    return LoopConfig(
        steps=steps, seed=seed, learning_rate=5e-5, final_learning_rate=5e-5, warmup_steps=1000,
        weight_decay=0.0, clip_norm=10.0, ema_decay=0.0, num_workers=4, checkpoint_every=2000,
        validate_every=2000,
    )  # fmt: skip


@dataclass(frozen=True)
class SssPaperRun:
    """`train sss --preset paper`: 800 000 steps with 64 pairs on 8 GPUs (000 section 3.3.2)."""

    recipe_name: ClassVar[str] = "sss"
    stage: ClassVar[str] = "mix-and-separate"

    name: str = "sss"
    window_s: float = WINDOW_S
    hop_s: float = HOP_S
    short_side_px: int = SHORT_SIDE_PX
    model: ModelConfig = field(default_factory=denseav_config)
    pretrained: PretrainedConfig = field(default_factory=PretrainedConfig)
    data: MixingConfig = field(default_factory=lambda: MixingConfig(batch_size=8))
    recipe: SssConfig = field(default_factory=SssConfig)
    aligners: LoopConfig = field(default_factory=lambda: paper_loop(3000, seed=1))
    """The warm-up of the aligners (000 section 3.3.2; 001 section 3.5)."""
    loop: LoopConfig = field(default_factory=lambda: paper_loop(800_000, seed=2))

    def to_json(self) -> dict[str, Any]:
        return run_to_json(self)


@dataclass(frozen=True)
class DenseavPaperRun(SssPaperRun):
    """`train denseav --preset paper`: 800 000 steps with 80 pairs on 8 GPUs (001 section 3.5)."""

    recipe_name: ClassVar[str] = "denseav"
    stage: ClassVar[str] = "head-max contrast"

    name: str = "denseav"
    data: MixingConfig = field(default_factory=lambda: MixingConfig(batch_size=10))
    recipe: DenseavConfig = field(default_factory=DenseavConfig)


@dataclass(frozen=True)
class ResNetWeights:
    """What the image backbone begins with: a name on the Hugging Face hub, or a local folder."""

    image: str = "microsoft/resnet-18"
    """ResNet-18 trained on ImageNet (003 section 4.1; 004 section 4.2); empty: from scratch, as
    the audio backbone always is."""


def plain_adam(steps: int) -> LoopConfig:
    """Adam at 1e-4 (003 section 4.1; 004 section 4.2) with its standard moments (004 section 6).

    Neither paper states a schedule, weight decay, clipping, averaged weights or half precision:
    none of them here. Masks and spectrograms want fp32.
    """
    return LoopConfig(
        steps=steps, seed=2, learning_rate=1e-4, final_learning_rate=1e-4, warmup_steps=0,
        weight_decay=0.0, beta2=0.999, clip_norm=math.inf, ema_decay=0.0, precision="fp32",
        num_workers=4,
    )  # fmt: skip


@dataclass(frozen=True)
class SoundsConfig:
    """Clips of sounds alone, and the batches drawn from them."""

    folder: str = "vggsound"
    """Below the run's data folder, where there is one of that name (003 section 4.1)."""
    batch_size: int = 128
    """003 section 4.1, of the whole run: with n processes set 128 / n. Each clip is mixed with
    the next of its batch. Batch-mates of the same class are negatives, as in the paper."""
    augmentation: AugmentationConfig = field(
        default_factory=lambda: AugmentationConfig(
            crop_scale=(1.0, 1.0), crop_side=1 / 1.1, jitter=0.0, grayscale=0.0, splice=0.0,
            keep_window=0.0,
        )
    )  # fmt: skip
    """Of pictures: crops and flips of the authors' earlier code; the paper states none."""
    num_calibration_samples: int = 300
    """Held-out clips, where there are as many; calibration is no part of the paper."""
    calibration_seed: int = 0


def resnet_separator() -> SeparatingConfig:
    """003 sections 3 and 4.1: two ResNet-18, linear projections to vectors of length 1.

    The width of the projections is that of the authors' earlier code, the decoder's `Separator`'s
    at the depth of 8. The waveform is heard as it was recorded; the paper states no normalisation.
    """
    return SeparatingConfig(
        image_backbone="resnet", audio_backbone="resnet", head_dim=512, embedding_dim=512,
        sample_rate_hz=8000, evidence=False, normalize_audio=False,
        audio_aligner_options={"unit_length": True},
    )  # fmt: skip


@dataclass(frozen=True)
class OneAvmPaperRun:
    """`train oneavm --preset paper`: 20 epochs of 40 908 clips (003 section 4.1)."""

    recipe_name: ClassVar[str] = "oneavm"
    stage: ClassVar[str] = "unified"

    name: str = "oneavm"
    start: str = ""
    """A bundle whose weights training begins with, where names and shapes fit (003 table 4, whose
    fine-tuning takes 10 epochs); where its image backbone fits, `pretrained` is not asked."""
    window_s: float = 3.2
    """128 frames of 25 ms. 003 section 4.1 states 3 s, which are 120, and 128 frames."""
    hop_s: float = 0.2
    """Of windows at run time; not in the paper."""
    short_side_px: int = 224
    """003 section 4.1."""
    model: SeparatingConfig = field(default_factory=resnet_separator)
    pretrained: ResNetWeights = field(default_factory=ResNetWeights)
    data: SoundsConfig = field(default_factory=SoundsConfig)
    recipe: OneAvmConfig = field(
        default_factory=lambda: OneAvmConfig(
            inverse_temperature_min=1.0 / 0.03, inverse_temperature_max=1.0 / 0.03
        )
    )
    """The temperature stays at .03, as in the authors' earlier code; the paper states none."""
    loop: LoopConfig = field(default_factory=lambda: plain_adam(6392))
    """003 section 4.1: 20 epochs of VGGSound-Music. Where there is a validation split, the best
    weights on it ship."""

    def to_json(self) -> dict[str, Any]:
        return run_to_json(self)


def paper_regions() -> RegionConfig:
    """002 section 3.2 and A.1. ViT-B/16 for the paper's ResNet-50, which `transformers` lacks."""
    vit_h = {
        "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
    }  # fmt: skip
    return RegionConfig(
        image_backbone="clip",
        audio_backbone="vggish",
        image_aligner_options={"width": 512},
        proposals="sam",
        proposals_options={"num_regions": 50, "vision_options": vit_h},
    )


@dataclass(frozen=True)
class SeacPretrained:
    """The frozen parts' weights: names on the Hugging Face hub or local folders."""

    image: str = "openai/clip-vit-base-patch16"
    audio: str = ""
    """VGGish's file: it is on no hub (see `modeling.pretrained.read_vggish`)."""
    segmenter: str = "facebook/sam-vit-huge"
    detector: str = "google/owlv2-base-patch16-ensemble"
    """For MDef-DETR, which no maintained library holds; only its class-free side is read."""


@dataclass(frozen=True)
class SeacDataConfig:
    batch_size: int = 256
    """Per process; the paper states none."""
    num_calibration_samples: int = 300
    calibration_seed: int = 0


@dataclass(frozen=True)
class SeacPaperRun:
    """`train seac --preset paper`: 144 000 clips, 30 epochs, AdamW at 1e-4 with linear decay (002
    section 3.2, A.1)."""

    recipe_name: ClassVar[str] = "seac"
    stage: ClassVar[str] = "association"

    name: str = "seac"
    window_s: float = 5.0
    """Of sound: the middle five seconds of a clip (section 3.2)."""
    hop_s: float = 0.48
    """Not in the paper, which has no stream: half of what a token of VGGish stands for."""
    short_side_px: int = 800
    """The detector's (MDef-DETR's code)."""
    views_per_clip: int = 5
    """One frame a second of five (section 3.2)."""
    model: RegionConfig = field(default_factory=paper_regions)
    pretrained: SeacPretrained = field(default_factory=SeacPretrained)
    data: SeacDataConfig = field(default_factory=SeacDataConfig)
    recipe: SeacConfig = field(default_factory=SeacConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=16_875, learning_rate=1e-4, final_learning_rate=0.0, decay="linear",
            warmup_steps=0, weight_decay=0.01, clip_norm=math.inf, ema_decay=0.0, num_workers=4,
            seed=2,
        )
    )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return run_to_json(self)


@dataclass(frozen=True)
class CaptionedConfig:
    """Clips with captions, and the batches drawn from them."""

    batch_size: int = 128
    """004 section 4.2, of the whole run: with n processes set 128 / n."""
    text: str = "google-bert/bert-base-uncased"
    """What encodes captions: BERT (004 section 4.2), by its name on the hub or its folder, or a
    fixed vector a word, `words`."""
    text_dim: int = 256
    """Of the fixed word vectors."""
    num_calibration_samples: int = 300
    """Held-out clips, where there are as many; calibration is no part of the paper."""
    calibration_seed: int = 0


def resnet_pair() -> ModelConfig:
    """004 sections 3.1, 4.2 and 6: two ResNet-18, the sound's with one input channel.

    The paper compares their features as they are, and its texts through a projection that it does
    not name; here each side has a linear layer of as many channels. The waveform is heard as it
    was recorded; the paper states no normalisation.
    """
    return ModelConfig(
        image_backbone="resnet", audio_backbone="resnet", audio_options={"front": "linear"},
        heads=("sound",), head_dim=512, evidence=False, normalize_audio=False,
    )  # fmt: skip


@dataclass(frozen=True)
class OasslPaperRun(OasslRun):
    """`train oassl --preset paper`: 100 epochs of VGGSound's 144 000 clips (004 section 4.2)."""

    name: str = "oassl"
    start: str = ""
    """A bundle with the same encoders, in place of `pretrained`; not in the paper."""
    window_s: float = 3.0
    """004 section 4.2, as the size of pictures."""
    hop_s: float = 0.25
    """Of windows at run time; not in the paper."""
    short_side_px: int = 224
    model: ModelConfig = field(default_factory=resnet_pair)
    pretrained: ResNetWeights = field(default_factory=ResNetWeights)
    data: CaptionedConfig = field(default_factory=CaptionedConfig)
    recipe: OasslConfig = field(default_factory=OasslConfig)
    loop: LoopConfig = field(default_factory=lambda: plain_adam(112_500))
    """004 section 4.2; the hours of table 9 are those of so many steps. The last weights ship:
    the paper says nothing of a validation split, which `validate_every` asks for."""


AnyRun = SssRun | SssPaperRun | OneAvmPaperRun


PRESETS = {
    "synthetic": {
        "sss": SssRun,
        "denseav": DenseavRun,
        "seac": SeacRun,
        "oneavm": OneAvmRun,
        "oassl": OasslRun,
    },
    "paper": {
        "sss": SssPaperRun,
        "denseav": DenseavPaperRun,
        "seac": SeacPaperRun,
        "oneavm": OneAvmPaperRun,
        "oassl": OasslPaperRun,
    },
}
