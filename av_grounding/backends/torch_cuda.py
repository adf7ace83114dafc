"""PyTorch on a CUDA device at its fastest: half precision, compiled kernels, CUDA graphs.

Nothing is written to disk: the first frame of each size waits for the compiler. See `tensorrt`
and `aot` for engines that are built beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from av_grounding.backends.compiled import CompiledBackend, Functions
from av_grounding.backends.graphs import build_graphs
from av_grounding.backends.lane import MAX_SHAPES
from av_grounding.backends.machine import cuda_device, gpu_facts, memory_advice
from av_grounding.backends.precision import image_in_precision, in_precision
from av_grounding.modeling.bundle import Bundle

COMPILE_MODE = "max-autotune-no-cudagraphs"
"""The graphs are captured by `lane`, with their own buffers: twice would be once too often."""


def load_torch_cuda(
    bundle: Bundle,
    device: str = "cuda",
    precision: str = "bf16",
    *,
    compile_mode: str | None = COMPILE_MODE,
    is_captured: bool = True,
) -> CompiledBackend:
    """A bundle on a GPU in `precision`; with `compile_mode` None its kernels are PyTorch's own.

    Raises RuntimeError where there is no GPU that can do this.
    """
    place = cuda_device(device, precision)
    facts = {"precision": precision, "compile_mode": compile_mode, "is_captured": is_captured}
    with memory_advice("loading the model"):
        functions = torch_functions(bundle, place, precision, compile_mode=compile_mode)
    return CompiledBackend(
        "compiled",
        functions,
        bundle.spec,
        place,
        facts | gpu_facts(place),
        is_captured=is_captured,
    )


def torch_functions(
    bundle: Bundle, device: torch.device, precision: str, *, compile_mode: str | None = None
) -> Functions:
    """The graphs as PyTorch modules on `device`, for images of any size."""
    graphs = in_precision(build_graphs(bundle), precision)
    first = _compiled(graphs.image.module.to(device), compile_mode)

    def image_encoder(size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
        graph = image_in_precision(build_graphs(bundle, size).image, precision)
        return _compiled(graph.module.to(device), compile_mode)

    return Functions(
        AnySize(image_encoder, {graphs.image_size: first}),
        _compiled(graphs.audio.module.to(device), compile_mode),
        graphs.ground.module.to(device),
    )


class AnySize:
    """Image encoders of one size each, built when the first image of that size comes."""

    def __init__(
        self,
        build: Callable[[tuple[int, int]], Callable[[Tensor], Tensor]],
        encoders: dict[tuple[int, int], Callable[[Tensor], Tensor]],
    ) -> None:
        self._build, self._encoders = build, encoders

    def __call__(self, pixels: Tensor) -> Tensor:
        size = (pixels.shape[-2], pixels.shape[-1])
        if size not in self._encoders:
            while len(self._encoders) >= MAX_SHAPES:
                del self._encoders[next(iter(self._encoders))]
            self._encoders[size] = self._build(size)
        return self._encoders[size](pixels)


def _compiled(module: nn.Module, mode: str | None) -> Callable[[Tensor], Tensor]:
    if mode is None:
        return module
    return torch.compile(module, mode=mode, dynamic=False, fullgraph=True)
