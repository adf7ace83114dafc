"""The region model of paper 002, SeAC: segment, associate, classify.

A dual encoder whose image side answers for regions, not for cells: proposals, the image encoder's
embedding of each (eq. 1 to 3), and an aligner over the set of them. All else, sound and heads and
streaming, is the dual encoder's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.modeling.proposals import ClassicalProposals, GridProposals, Proposals
from av_grounding.modeling.region_views import global_views, local_views, mask_weights
from av_grounding.modeling.sam import SamProposals
from av_grounding.modeling.segmenters import KINDS
from av_grounding.types import MAX_LOGIT

PROPOSALS: dict[str, Any] = {
    "classical": ClassicalProposals,
    "grid": GridProposals,
    **{kind: partial(SamProposals, kind) for kind in KINDS},
}
VIEWS = ("crops", "pooled")
See = Callable[[UInt8[np.ndarray, "b H W 3"]], Float[Tensor, "b d h w"]]
"""Dense features of RGB pictures of one size."""
MAX_VIEWS = 16
"""Views that the encoder takes at once: more of them only take memory."""


@dataclass(frozen=True)
class RegionConfig(ModelConfig):
    """A `ModelConfig` whose image side answers for regions.

    `proposals` and their options say where regions come from. `views`: "crops" shows each region
    to the backbone twice, alone and in its surroundings, and mixes the embeddings with
    `local_weight` (eq. 1, lambda); "pooled" takes the mean of the picture's dense features over
    the mask, with one pass a picture. `num_classes` is the number of class embeddings that the
    bundle holds beside its names (section 2.3); 0: none.
    """

    heads: tuple[str, ...] = ("sound",)
    head_dim: int = 128
    evidence: bool = False
    normalize_audio: bool = False
    image_aligner: str = "regions"
    audio_aligner: str = "attention"
    proposals: str = "classical"
    proposals_options: dict[str, Any] = field(default_factory=dict)
    views: str = "crops"
    crop_px: int = 224
    blur_px: float = 10.0
    local_weight: float = 0.6
    num_classes: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("proposals", tuple(PROPOSALS)), ("views", VIEWS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )
        if self.image_backbone == "clip" and self.views != "crops":
            raise ValueError(
                f"views is {self.views!r} with image_backbone 'clip', which has no map of "
                "features to pool: expected 'crops'"
            )
        if not 0.0 <= self.local_weight <= 1.0:
            raise ValueError(f"local_weight is {self.local_weight}; expected 0 to 1")


@dataclass(frozen=True)
class RegionTokens:
    """Regions of b pictures, padded to the same number n; `tokens[i]` are those of one.

    `vectors` in the shared space, `features` of the image encoder (f of eq. 1, where class texts
    live), `masks`, the proposals' `confidence`, and which regions are no padding.
    """

    vectors: Float[Tensor, "b k c n"]
    features: Float[Tensor, "b n d"]
    masks: Bool[np.ndarray, "b n h w"]
    confidence: np.ndarray
    valid: Bool[Tensor, "b n"]

    def __getitem__(self, number: int) -> RegionTokens:
        """The regions of one picture, still with an axis for it, without padding."""
        rows, num = slice(number, number + 1), int(self.valid[number].sum())
        return RegionTokens(
            self.vectors[rows, ..., :num],
            self.features[rows, :num],
            self.masks[rows, :num],
            self.confidence[rows, :num],
            self.valid[rows, :num],
        )


class RegionModel(DualEncoder):
    """Regions with vectors (b, k, c, n), sound tokens (b, k, c, t), and each region's score."""

    def __init__(self, config: RegionConfig) -> None:
        super().__init__(config)
        expected = getattr(self.image_backbone, "picture_px", config.crop_px)
        if config.crop_px != expected:
            raise ValueError(
                f"crop_px is {config.crop_px}; expected {expected}, the one size that "
                f"image_backbone {config.image_backbone!r} takes"
            )
        self.proposals = PROPOSALS[config.proposals](**config.proposals_options)
        # Each row of unit length; the names stand in the bundle's info.
        self.class_embeddings = nn.Parameter(
            torch.zeros(config.num_classes, self.image_backbone.dim), requires_grad=False
        )

    def propose(self, image: UInt8[np.ndarray, "H W 3"]) -> Proposals:
        """The regions of one picture."""
        return self.proposals(image)

    def region_features(
        self, image: UInt8[np.ndarray, "H W 3"], masks: Bool[np.ndarray, "n h w"]
    ) -> Float[Tensor, "n d"]:
        """The image encoder's embedding of each region: f of eq. 1, or the mean over the mask."""
        if self.config.views == "pooled":
            return pooled_features(self.see(image[None])[0], masks)
        return self.crop_features(image, masks, self.see)

    def crop_features(
        self, image: UInt8[np.ndarray, "H W 3"], masks: Bool[np.ndarray, "n h w"], see: See
    ) -> Float[Tensor, "n d"]:
        """f of eq. 1, by an image encoder that gives dense features of a few pictures."""
        config = self.config
        mixed = torch.zeros(len(masks), self.image_backbone.dim, device=self.pixel_mean.device)
        if config.local_weight > 0.0:
            views = local_views(image, masks, config.crop_px)
            mixed = mixed + config.local_weight * _embedded(views, see)
        if config.local_weight < 1.0:
            views = global_views(image, masks, config.crop_px, config.blur_px)
            mixed = mixed + (1.0 - config.local_weight) * _embedded(views, see)
        return mixed

    def see(self, images: UInt8[np.ndarray, "b H W 3"]) -> Float[Tensor, "b d h w"]:
        """This model's own dense features of RGB pictures."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.pixel_mean.device)
        return self.image_features(pixels.permute(0, 3, 1, 2).float() / 255.0)

    def encode_regions(
        self, features: Float[Tensor, "b n d"], valid: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b k c n"]:
        """Embeddings of regions to vectors of the shared space."""
        if self.config.image_aligner == "regions":
            return self.image_aligner(features, valid)
        # An aligner of cells: a region is a cell of a grid that is one cell wide.
        return self.image_aligner(features.transpose(1, 2)[..., None])[..., 0]

    def encode_image(self, pixels: Float[Tensor, "b 3 H W"]) -> RegionTokens:
        """RGB in [0, 1] to regions and their vectors."""
        bytes_ = (255.0 * pixels).round().clamp(0, 255).to(torch.uint8)
        images = bytes_.permute(0, 2, 3, 1).cpu().numpy()
        proposed = [self.propose(image) for image in images]
        features = [
            self.region_features(image, one.masks)
            for image, one in zip(images, proposed, strict=True)
        ]
        return self.tokens(proposed, features)

    def tokens(
        self, proposed: Sequence[Proposals], features: Sequence[Float[Tensor, "_ d"]]
    ) -> RegionTokens:
        """The tokens of b pictures' regions with their embeddings, padded to the longest."""
        counts = [len(one) for one in features]
        padded = nn.utils.rnn.pad_sequence(features, batch_first=True)
        valid = torch.arange(padded.shape[1]) < torch.tensor(counts)[:, None]
        valid = valid.to(padded.device)
        masks = np.zeros((len(features), *padded.shape[1:2], *proposed[0].masks.shape[1:]), bool)
        confidence = np.zeros(masks.shape[:2], np.float32)
        for number, one in enumerate(proposed):
            masks[number, : counts[number]] = one.masks
            confidence[number, : counts[number]] = one.confidence
        vectors = self.encode_regions(padded, valid)
        return RegionTokens(vectors, padded, masks, confidence, valid)

    def score(
        self, tokens: RegionTokens, vectors: Float[Tensor, "b k m c"]
    ) -> Float[Tensor, "b k m n"]:
        """Inner products of sound vectors with every region; padding has the least of all."""
        scores = torch.einsum("bkmc,bkcn->bkmn", vectors, tokens.vectors)
        return scores.masked_fill(~tokens.valid[:, None, None], float("-inf"))

    def ground(
        self, image_tokens: RegionTokens, vectors: Float[Tensor, "b k m c"]
    ) -> Float[Tensor, "b k m h w"]:
        """In each pixel the largest score of the regions that cover it; off them -`MAX_LOGIT`."""
        scores = self.score(image_tokens, vectors)
        masks = torch.from_numpy(image_tokens.masks).to(scores.device)
        covered = masks[:, None, None]
        spread = scores[..., None, None].expand(*scores.shape, *masks.shape[-2:])
        return spread.masked_fill(~covered, -MAX_LOGIT).amax(dim=3).clamp_min(-MAX_LOGIT)

    @property
    def num_classes(self) -> int | None:
        """How many classes its regions are told apart by; None: it names none."""
        is_by_channel = self.config.image_aligner == "classes"
        return self.config.num_classes or (self.config.head_dim if is_by_channel else None)

    def region_classes(self, tokens: RegionTokens) -> Int[np.ndarray, " n"] | None:
        """The class of each region of one picture (section 2.3), None where there are no names.

        By the embedding before the aligner, where class texts live; a model whose channels are
        things reads its own vectors.
        """
        if self.config.num_classes:
            features = F.normalize(tokens.features[0].float(), dim=1)
            return (features @ self.class_embeddings.float().T).argmax(dim=1).cpu().numpy()
        if self.config.image_aligner == "classes":
            return tokens.vectors[0, 0].argmax(dim=0).cpu().numpy()
        return None

    def streaming_front(self) -> None:
        """None: see `DualEncoder.streaming_front`; regions are paired with any audio backbone."""


def pooled_features(
    dense: Float[Tensor, "d h w"], masks: Bool[np.ndarray, "n h2 w2"]
) -> Float[Tensor, "n d"]:
    """The mean of a picture's features over each mask."""
    weights = mask_weights(masks, dense.shape[-2:], device=dense.device)
    return weights @ dense.flatten(1).T


def _embedded(views: UInt8[np.ndarray, "n s s 3"], see: See) -> Float[Tensor, "n d"]:
    parts = [
        see(views[first : first + MAX_VIEWS]).mean(dim=(2, 3))
        for first in range(0, len(views), MAX_VIEWS)
    ]
    return torch.cat(parts)


def as_regions(model: DualEncoder, **options: Any) -> RegionModel:
    """A dual encoder as a region model: the same weights, which answer for regions.

    `options` are fields of `RegionConfig`. By default the regions are classical proposals and
    their embeddings the dual encoder's dense features over each mask. ValueError for a model
    whose image side is bound to its grid.
    """
    names = {one.name for one in fields(ModelConfig)}
    values = {name: value for name, value in asdict(model.config).items() if name in names}
    config = RegionConfig(**{**values, "views": "pooled", **options})
    with torch.device("meta"):
        regions = RegionModel(config)
    state = model.state_dict()
    state["class_embeddings"] = torch.zeros(regions.class_embeddings.shape)
    # Proposals, which a dual encoder has none of, come with weights of their own, if any.
    own = {name for name, value in regions.state_dict().items() if value.is_meta}
    regions.load_state_dict({name: state[name] for name in own}, strict=False, assign=True)
    return regions.train(model.training)
