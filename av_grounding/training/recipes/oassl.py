"""Recipe of paper 004, object-aware sound source localisation (OA-SSL).

Captions say what sounds in a picture and what is silent. They are read in training alone: the
sounding part of the image is aligned with the one, the rest with the other (OCA, eq. 4 to 6), and
the maps of the captions are to be each other's complements (ORI, eq. 7). Sound takes part through
the masks that its similarity draws (eq. 1 to 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.training.loop.distributed import gather_with_gradient
from av_grounding.training.losses import object_aware
from av_grounding.training.losses.optimal_transport import PAIRS, cell_centres, isolation
from av_grounding.training.recipes.base import Recipe
from av_grounding.training.recipes.contrast import to_unit_range

FALSE_NEGATIVES = ("visual", "reference")

# A temperature, since cosines from scratch span too little for none.
# The audio-visual contrast of LVS beside the paper's terms: they give the audio encoder no other
# reason to tell sounds apart, and no reason to tell a twin from what sounds where the mask holds
# both (after 250 steps of OCA and LVS one way, 50 % of the peaks lay on what sounds and 43 % on
# its twin). Both ways, so that for one sound the image in which its object shakes is compared with
# one in which such an object is still.
# Masks that never saturate, so that the higher of two peaks has the more weight: under the paper's
# a twin at 0.7 counts as much as what sounds at 0.9.
# Captions of one class are equal, so equal captions are told exactly ("reference"); the threshold
# lies between clips that share a class and clips that share the word for sounding alone.
SYNTHETIC: dict[str, Any] = {
    "weight_contrast": 1.0,
    "positive_threshold": 0.9,
    "negative_threshold": 0.3,
    "mask_width": 0.06,
    "temperature": 0.1,
    "false_negatives": "reference",
    "false_negative_threshold": 0.8,
    "pairs": "isolating",
    "transport_grid": 8,
    "transport_iterations": 30,
    "contrasts_both_ways": True,
    "image_backbone_rate": 1.0,
}


@dataclass(frozen=True)
class OasslConfig:
    """Weights, masks and transport; defaults are the paper's, `synthetic()` the small model's."""

    weight_oca: float = 1.0
    """λ1 of 004 eq. 8."""
    weight_ori: float = 0.1
    """λ2 of 004 eq. 8 and table 8."""
    weight_contrast: float = 0.0
    """Of LVS's contrast: 1, with the other two 0, is the first row of 004 table 3."""
    positive_threshold: float = 0.65
    """α_p of 004 eq. 2; the next two are α_n and ω (section 3.3)."""
    negative_threshold: float = 0.4
    mask_width: float = 0.03
    temperature: float = 1.0
    """Of OCA; the paper has none."""
    contrast_temperature: float = 0.07
    """LVS's."""
    contrasts_both_ways: bool = False
    """Also sounds with other images, not only images with other sounds as LVS does."""
    false_negatives: str = "visual"
    """What s_ij compares: image j with text i, as eq. 4 says, or the captions of both, as the
    text around it does."""
    false_negative_threshold: float = 0.7
    """τ of 004 eq. 4 and table 4: a clip above it is no negative."""
    pairs: str = "printed"
    """Of maps in ORI, see `optimal_transport.isolation`."""
    transport_grid: int = 0
    """Cells a side of the maps in ORI; 0 leaves the model's grid."""
    transport_regularisation: float = 0.05
    transport_iterations: int = 100
    """At most 100 (004 section 6)."""
    image_backbone_rate: float = 1.0
    """Factor on the image backbone's learning rate."""

    def __post_init__(self) -> None:
        for name, known in (("false_negatives", FALSE_NEGATIVES), ("pairs", PAIRS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )
        for name in ("mask_width", "temperature", "transport_regularisation"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected above 0")
        if not self.weight_oca + self.weight_ori + self.weight_contrast > 0.0:
            raise ValueError("all weights are 0; expected one above 0")

    @classmethod
    def synthetic(cls, **changes: Any) -> OasslConfig:
        """The values for the small model of the synthetic world."""
        return cls(**{**SYNTHETIC, **changes})


class ObjectAware(Recipe):
    """`forward(batch, step)` gives weighted loss terms; the projection of text stays here.

    The batch holds `pixels` (b,3,H,W), uint8 or in [0,1]; `audio` (b,s), the mixture; text
    features of its captions `foreground` (b,K,d) and `background` (b,d), with
    `foreground_valid` (b,K) and `background_valid` (b,) bool, for clips with fewer sources and
    for captions that are missing; and `heard` (b, classes) bool for the contrast alone: which
    classes sound in a clip.
    """

    def __init__(self, model: DualEncoder, config: OasslConfig, text_dim: int) -> None:
        super().__init__()
        self.model, self.config = model, config
        # The paper's image and text features differ in width, and it names no projection.
        self.project_text = nn.Linear(text_dim, model.config.head_dim)

    def rate_of(self, name: str) -> float:
        slow = name.startswith("model.image_backbone.")
        return self.config.image_backbone_rate if slow else 1.0

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Float[Tensor, ""]]:
        config = self.config
        image = self.model.encode_image(to_unit_range(batch["pixels"]))[:, 0].float()
        cells = F.normalize(image, dim=1)
        audio = F.normalize(self.model.encode_audio(batch["audio"])[:, 0].float().mean(-1), dim=1)
        terms = {}
        if config.weight_oca:
            foreground, background = self.align(batch, cells.flatten(2), audio)
            terms["oca_foreground"] = 0.5 * config.weight_oca * foreground
            terms["oca_background"] = 0.5 * config.weight_oca * background
        if config.weight_ori:
            terms["ori"] = config.weight_ori * self.isolate(batch, cells)
        if config.weight_contrast:
            contrast = self.contrast(batch, cells.flatten(2), audio)
            terms["contrast"] = config.weight_contrast * contrast
        return terms

    def align(
        self,
        batch: dict[str, Tensor],
        cells: Float[Tensor, "b c n"],
        audio: Float[Tensor, "b c"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """L_frg and L_bkg (004 eq. 4 and 5) on the clips of all ranks."""
        config = self.config
        similarity = torch.einsum("bcn,bc->bn", cells, audio)
        width = config.mask_width
        positive = object_aware.masked_mean(
            cells, object_aware.positive_weights(similarity, config.positive_threshold, width)
        )
        negative = object_aware.masked_mean(
            cells, object_aware.negative_weights(similarity, config.negative_threshold, width)
        )
        foreground, background = self.texts(batch)
        # l_r^p: one mean over a clip's captions, so that their order means nothing.
        captions = F.normalize(mean_of_valid(foreground, batch["foreground_valid"]), dim=1)
        gathered = map(gather_with_gradient, (positive, negative, captions, background[:, 0]))
        positive, negative, captions, background = gathered
        with torch.no_grad():
            if config.false_negatives == "visual":
                known = captions @ F.normalize(positive, dim=1).T
            else:
                # Before the projection, which could make all captions alike.
                raw = F.normalize(batch["foreground"].float(), dim=2)
                raw = mean_of_valid(raw, batch["foreground_valid"])
                raw = F.normalize(gather_with_gradient(raw), dim=1)
                known = raw @ raw.T
        valid = object_aware.true_negatives(known, config.false_negative_threshold)
        is_known = gather_with_gradient(batch["background_valid"])
        temperature = config.temperature
        return (
            object_aware.foreground_alignment(positive, negative, captions, valid, temperature),
            object_aware.background_alignment(
                positive, negative, background, is_known, temperature
            ),
        )

    def isolate(
        self, batch: dict[str, Tensor], cells: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, ""]:
        """L_ori (004 eq. 7), each rank's from its own clips: no other clip is a negative."""
        config = self.config
        texts = torch.cat(self.texts(batch), dim=1)
        maps = torch.einsum("bmc,bchw->bmhw", texts, cells)
        if config.transport_grid:
            maps = F.adaptive_avg_pool2d(maps, config.transport_grid)
        valid = torch.cat([batch["foreground_valid"], batch["background_valid"][:, None]], dim=1)
        own = isolation(
            maps.flatten(2), valid, cell_centres(*maps.shape[2:], maps.device), config.pairs,
            regularisation=config.transport_regularisation,
            num_iterations=config.transport_iterations,
        )  # fmt: skip
        # Told alike on all ranks, as the other terms are.
        return gather_with_gradient(own[None]).mean()

    def contrast(
        self,
        batch: dict[str, Tensor],
        cells: Float[Tensor, "b c n"],
        audio: Float[Tensor, "b c"],
    ) -> Float[Tensor, ""]:
        """LVS's contrast over the clips of all ranks; those that share a class are no negatives.

        A class that a picture shows and nobody hears stays one: it is not what sounds.
        """
        config = self.config
        cells, audio = gather_with_gradient(cells), gather_with_gradient(audio)
        heard = gather_with_gradient(batch["heard"]).float()
        return object_aware.localising_contrast(
            torch.einsum("icn,jc->ijn", cells, audio),
            heard @ heard.T == 0.0,
            thresholds=(config.positive_threshold, config.negative_threshold),
            width=config.mask_width,
            temperature=config.contrast_temperature,
            is_symmetric=config.contrasts_both_ways,
        )

    def texts(
        self, batch: dict[str, Tensor]
    ) -> tuple[Float[Tensor, "b K c"], Float[Tensor, "b 1 c"]]:
        """Projected captions at unit length: of the foreground, and of the background."""
        foreground = F.normalize(self.project_text(batch["foreground"]).float(), dim=2)
        background = F.normalize(self.project_text(batch["background"]).float(), dim=1)
        return foreground, background[:, None]


def mean_of_valid(
    vectors: Float[Tensor, "b K c"], valid: Bool[Tensor, "b K"]
) -> Float[Tensor, "b c"]:
    """Mean over the valid ones of each clip."""
    weights = valid.to(vectors.dtype)
    total = weights.sum(dim=1, keepdim=True).clamp_min(1.0)
    return torch.einsum("bkc,bk->bc", vectors, weights) / total
