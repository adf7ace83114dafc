"""The encoders in half precision: the type of every weight stands in the network itself.

Newer releases of TensorRT know no other way, and the other runtimes compute what they are given.
What would lose the signal stays in float32: normalising the input, and the power spectrum, whose
values span twelve decades. Inputs and outputs stay float32.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from av_grounding.backends.graphs import Graph, Graphs, ImageEncoder
from av_grounding.modeling.dual_encoder import DualEncoder

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def dtype_of(precision: str) -> torch.dtype:
    if precision not in DTYPES:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[precision]


def in_precision(graphs: Graphs, precision: str) -> Graphs:
    """The same graphs with encoders in `precision`; the ground step stays float32, as its sums.

    The given graphs stay as they are.
    """
    dtype = dtype_of(precision)
    if dtype is torch.float32:
        return graphs
    audio = HalfAudioEncoder(deepcopy(graphs.audio.module.model), dtype).eval()
    return replace(
        graphs,
        image=image_in_precision(graphs.image, precision),
        audio=replace(graphs.audio, module=audio),
    )


def image_in_precision(graph: Graph, precision: str) -> Graph:
    """The image encoder alone, as `in_precision` does it."""
    dtype = dtype_of(precision)
    if dtype is torch.float32:
        return graph
    return replace(graph, module=HalfImageEncoder(deepcopy(graph.module), dtype).eval())


class HalfImageEncoder(nn.Module):
    """RGB in [0, 1] to image tokens; takes `encoder`'s parts over."""

    def __init__(self, encoder: ImageEncoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("pixel_mean", encoder.pixel_mean)
        self.register_buffer("pixel_std", encoder.pixel_std)
        self.backbone, self.aligner = encoder.backbone.to(dtype), encoder.aligner.to(dtype)

    def forward(self, pixels: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 k c h w"]:
        normalized = (pixels - self.pixel_mean) / self.pixel_std
        return self.aligner(self.backbone(normalized.to(self.dtype))).float()


class HalfAudioEncoder(nn.Module):
    """Windows of mono sound in [-1, 1] to audio tokens; takes `model`'s parts over."""

    def __init__(self, model: DualEncoder, dtype: torch.dtype) -> None:
        super().__init__()
        backbone = model.audio_backbone
        if hasattr(backbone, "log_mel"):
            log_mel, backbone.log_mel = backbone.log_mel, nn.Identity()
            backbone.to(dtype).log_mel = nn.Sequential(log_mel, Cast(dtype))
            self.cast: nn.Module = nn.Identity()
        else:
            backbone.to(dtype)
            self.cast = Cast(dtype)
        model.audio_aligner.to(dtype)
        self.model = model

    def forward(self, waveform: Float[Tensor, "n s"]) -> Float[Tensor, "n k c t"]:
        normalized = self.cast(self.model.normalize_waveform(waveform))
        return self.model.audio_aligner(self.model.audio_backbone(normalized)).float()


class Cast(nn.Module):
    """Its input in another type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)
