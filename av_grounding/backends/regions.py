"""A backend's encoders as one that answers for regions (paper 002).

Both encoders run as they do for cells, compiled or not. Regions are proposed by code, which stands
in no graph: that, their aligner and their scores are PyTorch's, a few milliseconds a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from av_grounding.backends.cpu import CpuBackend
from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.backends.wrapping import BackendWrapper
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.bundle_config import read_config
from av_grounding.modeling.region_model import (
    RegionModel,
    RegionTokens,
    as_regions,
    pooled_features,
)
from av_grounding.regions import Regions, painted
from av_grounding.types import MAX_LOGIT, ImageTokens

ELSEWHERE = -1e4
"""Similarity of a region in a map of another class: far below any that a region has."""


class RegionBackend(BackendWrapper):
    """Image tokens are `RegionTokens` of one picture; r counts its regions.

    A head answers with one map for each class among the regions, which it is labelled with, or
    with one map where the bundle has no names. Their maximum is the map of all regions.
    """

    def __init__(
        self, encoders: TorchBackend | CpuBackend, model: RegionModel, names: Sequence[str] = ()
    ) -> None:
        """`model` has the weights of `encoders`, on their device; `names` are its classes'."""
        super().__init__(encoders)
        self.model, self.device = model, model.pixel_mean.device
        self.names = tuple(names)
        known = model.num_classes
        if self.names and known is not None and len(self.names) != known:
            raise ValueError(
                f"{len(self.names)} names for a model of {known} classes; expected one name a "
                "class, in the same order"
            )
        # Crops are pictures of another size than the camera's.
        self._is_compiled = model.config.views == "pooled" or encoders.takes_size(
            (model.config.crop_px,) * 2
        )
        self._proposing = ThreadPoolExecutor(1, "proposals")

    @property
    def sees_slowly(self) -> bool:
        return True

    @property
    def separates(self) -> bool:
        """Never: what is separated belongs to cells."""
        return False

    def separation_masks(self, *args: Any) -> None:
        return None

    def use_threads(self, num_threads: int) -> None:
        super().use_threads(num_threads)
        if self.device.type == "cpu":
            torch.set_num_threads(num_threads)

    @torch.inference_mode()
    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        """Regions are proposed beside the image encoder, where it need not know them."""
        if self.model.config.views == "pooled":
            proposing = self._proposing.submit(self.model.propose, image)
            dense = self._see(image[None])[0]
            proposed = proposing.result()
            features = pooled_features(dense, proposed.masks)
        else:
            proposed = self.model.propose(image)
            see = self._see if self._is_compiled else self.model.see
            features = self.model.crop_features(image, proposed.masks, see)
        return ImageTokens(self.model.tokens([proposed], [features])[0])

    def _see(self, images: UInt8[np.ndarray, "b H W 3"]) -> Float[Tensor, "b d h w"]:
        return torch.as_tensor(self.backend.image_features(images), device=self.device)

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

    def classes(self, tokens: RegionTokens) -> np.ndarray | None:
        """Each region's class as a number of `names`; None where the bundle has none."""
        return self.model.region_classes(tokens) if self.names else None

    def describe(self) -> dict[str, Any]:
        config = self.model.config
        told = {**super().describe(), "proposals": config.proposals, "views": config.views}
        if isinstance(self.backend, CpuBackend):
            told["torch"] = torch.__version__
            crops = [] if self._is_compiled else ["crops"]
            told["eager"] = ", ".join(["proposals", *crops, "region aligner", "scores"])
        return told


def with_regions(
    encoders: TorchBackend | CpuBackend, bundle: Path, **options: Any
) -> RegionBackend:
    """The encoders of a bundle as a backend that answers for regions, by the same weights.

    `options` as for `as_regions`; a bundle of a region model has its own.
    """
    if isinstance(encoders, TorchBackend):
        model, device = encoders.model, encoders.device
    else:
        model, device = load_bundle(bundle).model, torch.device("cpu")
    if not isinstance(model, RegionModel):
        model = as_regions(model, **options)
    names = read_config(bundle)["info"].get("things", ())
    return RegionBackend(encoders, model.to(device), names)
