"""PyTorch on a CUDA device at its fastest: half precision, compiled kernels, CUDA graphs.

Nothing is written to disk: the first frame of each size waits for the compiler. See `tensorrt`
for engines that are built beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from av_grounding.backends.compiled import CompiledBackend, Functions, Size
from av_grounding.backends.economy import AUDIO_BATCH
from av_grounding.backends.graphs import build_graphs
from av_grounding.backends.machine import cuda_device, gpu_facts, memory_advice, without_tf32
from av_grounding.backends.precision import image_in_precision, in_precision
from av_grounding.modeling.bundle import Bundle

COMPILE_MODE = "max-autotune-no-cudagraphs"
"""`CudaGraphRunner` captures the graphs, with its own buffers: twice would be once too often."""


def load_torch_cuda(
    bundle: Bundle,
    device: str = "cuda",
    precision: str = "bf16",
    *,
    compile_mode: str | None = COMPILE_MODE,
    is_captured: bool = True,
) -> CompiledBackend:
    """A bundle on a GPU in `precision`; with `compile_mode` None its kernels are PyTorch's own.

    In fp32 cuDNN's TF32 is switched off for the process. Raises RuntimeError where there is no GPU
    that can do this.
    """
    place = cuda_device(device, precision)
    if precision == "fp32":
        without_tf32()
    facts = {"precision": precision, "compile_mode": compile_mode, "is_captured": is_captured}
    with memory_advice("loading the model"):
        functions = torch_functions(bundle, place, precision, compile_mode=compile_mode)
    return CompiledBackend(
        "torch-compiled",
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

    def ready(module: nn.Module) -> Callable[[Tensor], Tensor]:
        # A copy: moving a module moves the weights that it shares with the bundle's model.
        return _compiled(deepcopy(module).to(device), compile_mode)

    def image_for(size: Size) -> Callable[[Tensor], Tensor]:
        return ready(image_in_precision(build_graphs(bundle, size).image, precision).module)

    return Functions(
        image_for, ready(graphs.audio.module), graphs.ground.module, max_audio_batch=AUDIO_BATCH
    )


def _compiled(module: nn.Module, mode: str | None) -> Callable[[Tensor], Tensor]:
    if mode is None:
        return module
    return torch.compile(module, mode=mode, dynamic=False, fullgraph=True)
