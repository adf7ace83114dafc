"""The eager PyTorch backend of models that answer for regions (paper 002)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.modeling.bundle import Bundle
from av_grounding.modeling.region_model import RegionModel, as_regions
from av_grounding.regions import Regions, painted
from av_grounding.types import MAX_LOGIT, ImageTokens

ELSEWHERE = -1e4
"""Similarity of a region in a map of another class: far below any that a region has."""


class RegionBackend(TorchBackend):
    """Image tokens are `RegionTokens` of one picture; r counts its regions.

    A head answers with one map for each class among the regions, which it is labelled with, or
    with one map where the bundle has no names. Their maximum is the map of all regions.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", names: Sequence[str] = ()) -> None:
        if not isinstance(bundle.model, RegionModel):
            raise TypeError(f"got a {type(bundle.model).__name__}, expected a RegionModel")
        super().__init__(bundle, device)
        self.names = tuple(names or bundle.info.get("things", ()))
        known = bundle.model.num_classes
        if self.names and known is not None and len(self.names) != known:
            raise ValueError(
                f"{len(self.names)} names for a model of {known} classes; expected one name a "
                "class, in the same order"
            )

    @property
    def sees_slowly(self) -> bool:
        return True

    @torch.inference_mode()
    def similarity(
        self, tokens: ImageTokens, queries: Float32[np.ndarray, "k n c"]
    ) -> Float32[np.ndarray, "k n r"]:
        audio = torch.from_numpy(np.ascontiguousarray(queries)).to(self.device)
        return self.model.score(tokens, audio[None])[0].float().cpu().numpy()

    def grid(self, tokens: ImageTokens) -> tuple[int, int]:
        height, width = tokens.masks.shape[-2:]
        return height, width

    def paint(
        self, tokens: ImageTokens, values: Float32[np.ndarray, "k n r"]
    ) -> Float32[np.ndarray, "k n h w"]:
        pictures = [[painted(tokens.masks[0], row, -MAX_LOGIT) for row in of] for of in values]
        return np.array(pictures, np.float32).reshape(*values.shape[:2], *self.grid(tokens))

    def maps(
        self,
        tokens: ImageTokens,
        head: str,
        query: Float32[np.ndarray, " c"],
        similarity: Float32[np.ndarray, " r"],
    ) -> Float32[np.ndarray, "m r"]:
        classes = self.classes(tokens)
        if classes is None:
            return similarity[None]
        shown = np.unique(classes)[:, None]
        return np.where(classes == shown, similarity, np.float32(ELSEWHERE))

    def labels(
        self, tokens: ImageTokens, head: str, maps: Float32[np.ndarray, "m r"]
    ) -> tuple[str, ...]:
        classes = self.classes(tokens)
        return () if classes is None else tuple(self.names[one] for one in np.unique(classes))

    def regions(self, tokens: ImageTokens, logits: Float32[np.ndarray, " r"]) -> Regions:
        classes = self.classes(tokens)
        labels = () if classes is None else tuple(self.names[one] for one in classes)
        return Regions(tokens.masks[0], logits, tokens.confidence[0], labels)

    def classes(self, tokens: ImageTokens) -> np.ndarray | None:
        """Each region's class as a number of `names`; None where the bundle has none."""
        return self.model.region_classes(tokens) if self.names else None

    def describe(self) -> dict[str, Any]:
        config = self.model.config
        return {**super().describe(), "proposals": config.proposals, "views": config.views}


def regions_of(bundle: Bundle, **options: Any) -> Bundle:
    """A bundle of a dual encoder as one that answers for regions, with the same weights.

    `options` as for `as_regions`. A region bundle is returned as it is.
    """
    if isinstance(bundle.model, RegionModel):
        return bundle
    return replace(bundle, model=as_regions(bundle.model, **options))
