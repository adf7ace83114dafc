"""What every compiled backend starts from: a bundle as modules of known shapes.

Image encoder, audio encoder, the ground step and, of a model that separates, its masks, with
normalisation inside, ready for `torch.export`. Nothing here needs a compiler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from av_grounding.backends.folding import folded
from av_grounding.backends.image_sizes import checked_image_size
from av_grounding.modeling.bundle import Bundle
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.modeling.region_model import RegionModel
from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.modeling.similarity import ground
from av_grounding.types import ModelSpec


class ImageEncoder(nn.Module):
    """RGB in [0, 1] to image tokens."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.backbone, self.aligner = model.image_backbone, model.image_aligner
        self.register_buffer("pixel_mean", model.pixel_mean)
        self.register_buffer("pixel_std", model.pixel_std)

    def features(self, pixels: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 d h w"]:
        return self.backbone((pixels - self.pixel_mean) / self.pixel_std)

    def forward(self, pixels: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 k c h w"]:
        return self.aligner(self.features(pixels))


class FeatureEncoder(ImageEncoder):
    """RGB in [0, 1] to the backbone's features alone, of which a model of regions takes means."""

    def forward(self, pixels: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 d h w"]:
        return self.features(pixels)


class WithFeatures(nn.Module):
    """RGB in [0, 1] to image tokens, and to the features that they are made of."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, pixels: Float[Tensor, "1 3 H W"]
    ) -> tuple[Float[Tensor, "1 k c h w"], Float[Tensor, "1 d h w"]]:
        features = self.encoder.features(pixels)
        return self.encoder.aligner(features), features


class AudioEncoder(nn.Module):
    """Windows of mono sound in [-1, 1] to audio tokens."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Float[Tensor, "n s"]) -> Float[Tensor, "n k c t"]:
        return self.model.encode_audio(waveform)


class AudioFront(nn.Module):
    """Windows to the frames of a front that looks at its own samples alone, for `AudioRest`."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.backbone = model.audio_backbone

    def forward(self, waveform: Float[Tensor, "n s"]) -> Float[Tensor, "n d f"]:
        return self.backbone.front(waveform)


class AudioRest(nn.Module):
    """Frames of `AudioFront` to audio tokens."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Float[Tensor, "n d f"]) -> Float[Tensor, "n k c t"]:
        return self.model.encode_front(frames)


class Masker(nn.Module):
    """A window, and what lies at a place (see `SeparatingEncoder.condition`), to its mask."""

    def __init__(self, model: SeparatingEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, waveform: Float[Tensor, "1 s"], condition: Float[Tensor, "1 c"]
    ) -> Float[Tensor, "1 f t"]:
        return self.model.masks(waveform, condition[:, None])[:, 0]


class Ground(nn.Module):
    """Similarity of n vectors per head with every cell of the image."""

    def forward(
        self, image_tokens: Float[Tensor, "1 k c h w"], vectors: Float[Tensor, "1 k n c"]
    ) -> Float[Tensor, "1 k n h w"]:
        return ground(image_tokens, vectors)


@dataclass(frozen=True)
class Graph:
    """A module in eval mode with example inputs, whose shapes and types are the graph's.

    `dynamic_shapes` says which sizes may change, as `torch.export` takes it.
    """

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    dynamic_shapes: tuple | None = None

    def export(self) -> ExportedProgram:
        """The graph of plain operators."""
        with torch.no_grad():
            return torch.export.export(
                self.module, self.inputs, dynamic_shapes=self.dynamic_shapes, strict=False
            )


@dataclass(frozen=True)
class Graphs:
    """The graphs of a bundle, on the CPU in float32, for images of one size (H, W).

    To iterate gives the three that every bundle has.
    """

    image: Graph
    audio: Graph
    ground: Graph
    image_size: tuple[int, int]
    spec: ModelSpec
    is_any_size: bool = False
    """Whether the image encoder's module takes any size; its example has `image_size`."""
    masks: Graph | None = None
    """None: the model does not separate."""

    def __iter__(self) -> Iterator[Graph]:
        return iter((self.image, self.audio, self.ground))


def build_graphs(
    bundle: Bundle,
    image_size: tuple[int, int] | None = None,
    num_vectors: int = 1,
    *,
    is_any_size: bool = False,
) -> Graphs:
    """The graphs for images of `image_size` (H, W), windows of the spec's length, and n vectors.

    Of a model of regions the image encoder is a `FeatureEncoder`: which regions there are stands
    in no graph. Where it is shown crops alone, and the size is not left open, it takes those.
    `is_any_size`: leave the image size open, for a model that allows it (`folding.is_resizable`).
    The bundle's model is left as it is. Raises ValueError for a size that the model does not take.
    """
    spec = bundle.spec
    sees_crops = isinstance(bundle.model, RegionModel) and bundle.model.config.views == "crops"
    if sees_crops and not is_any_size:
        image_size = (bundle.model.config.crop_px,) * 2
    image_size = checked_image_size(spec, image_size)
    model = folded(bundle.model, *image_size, is_any_size=is_any_size)
    pixels = torch.rand(1, 3, *image_size)
    waveform = 0.1 * torch.randn(1, spec.num_window_samples)
    encoder = FeatureEncoder if isinstance(model, RegionModel) else ImageEncoder
    image, audio = encoder(model).eval(), AudioEncoder(model).eval()
    with torch.inference_mode():
        grid = image(pixels).shape[-2:]
    num_heads, dim = len(model.heads), model.config.head_dim
    image_tokens = torch.randn(1, num_heads, dim, *grid)
    vectors = torch.randn(1, num_heads, num_vectors, dim)
    masks = None
    if spec.separation is not None:
        condition = F.normalize(torch.randn(1, dim), dim=-1)
        masks = Graph("masks", Masker(model).eval(), (waveform, condition))
    return Graphs(
        Graph("image", image, (pixels,)),
        Graph("audio", audio, (waveform,)),
        Graph("ground", Ground().eval(), (image_tokens, vectors)),
        image_size,
        spec,
        is_any_size,
        masks,
    )
