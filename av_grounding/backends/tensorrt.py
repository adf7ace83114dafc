"""The encoders as TensorRT engines, built on the machine that they run on.

The first start builds for minutes; the next ones load from the cache (see `engine_cache`). The
ground step is one small matrix product, which PyTorch does on the same device.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from av_grounding.backends.compiled import CompiledBackend, Functions
from av_grounding.backends.engine_cache import EngineCache, EngineKey
from av_grounding.backends.graphs import Graphs, Ground, build_graphs
from av_grounding.backends.image_sizes import checked_image_size
from av_grounding.backends.machine import cuda_device, gpu_facts, memory_advice, on_device
from av_grounding.backends.precision import dtype_of, in_precision
from av_grounding.backends.tensorrt_build import build_engine, import_tensorrt, installed_version
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.bundle_config import read_config, spec_from_json
from av_grounding.types import ModelSpec

GRAPH_VERSION = "2"
"""To be raised when the graphs of the same bundle, or how they are built, change, so that old
engines are not taken."""
ENGINE_NAMES = ("image", "audio")


def load_tensorrt(
    bundle: str | Path,
    device: str = "cuda",
    precision: str = "fp16",
    *,
    image_size: tuple[int, int] | None = None,
    cache_directory: str | Path | None = None,
    is_captured: bool = True,
) -> CompiledBackend:
    """A bundle directory on TensorRT, for images of one size (H, W), by default a 4:3 camera's.

    Engines come from the cache, or are built into it. Raises ImportError without TensorRT,
    RuntimeError without a GPU that can do this, ValueError for a graph that TensorRT cannot take
    whole, and OSError where the cache cannot be written.
    """
    dtype_of(precision)
    place = cuda_device(device, precision)
    versions = {
        "tensorrt": str(import_tensorrt("tensorrt").__version__),
        "torch_tensorrt": installed_version("torch_tensorrt"),
    }
    spec = spec_from_json(read_config(Path(bundle))["spec"])
    image_size = checked_image_size(spec, image_size)
    engine_cache = EngineCache(cache_directory)

    @cache
    def graphs() -> Graphs:
        return in_precision(build_graphs(load_bundle(bundle), image_size), precision)

    def build(name: str) -> bytes:
        return build_engine(getattr(graphs(), name), precision, place, engine_cache.directory)

    engines, sources, keys = {}, [], []
    for name in ENGINE_NAMES:
        key = EngineKey(
            bundle=bundle_hash(bundle),
            graph=name,
            precision=precision,
            shapes=input_shape(name, spec, image_size),
            graph_version=GRAPH_VERSION,
            **versions,
            **gpu_facts(place),
        )
        with on_device(place):
            content, source = engine_cache.get(key, partial(build, name))
            with memory_advice(f"loading the {name} engine"):
                engines[name] = Engine(content, place)
        sources.append(source)
        keys.append(key.digest)
    facts = {
        "precision": precision,
        "image_size": list(image_size),
        "engine_key": " ".join(keys),
        "engine_source": " ".join(sources),
        "engine_cache": str(engine_cache.directory),
        **versions,
        **gpu_facts(place),
    }
    functions = Functions(
        image_for=lambda size: engines["image"].for_shape((1, 3, *size)),
        audio=engines["audio"].for_shape((1, spec.num_window_samples)),
        ground=Ground(),
        image_size=image_size,
        num_window_samples=spec.num_window_samples,
    )
    return CompiledBackend("tensorrt", functions, spec, place, facts, is_captured=is_captured)


class Engine:
    """A deserialised engine of one input and one output, which makes functions of it."""

    def __init__(self, content: bytes, device: torch.device) -> None:
        trt = import_tensorrt("tensorrt")
        self.device = device
        # The runtime must live as long as its engine, which lives as long as its contexts.
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self.engine = self._runtime.deserialize_cuda_engine(content)
        if self.engine is None:
            raise RuntimeError(
                f"TensorRT {trt.__version__} does not take the engine (its log above says why): "
                "delete the engine cache, so that it is built again"
            )
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        is_input = {
            name: self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names
        }
        (self.input,) = (name for name in names if is_input[name])
        (self.output,) = (name for name in names if not is_input[name])
        self.dtypes = {
            name: torch_dtype(trt, self.engine.get_tensor_dtype(name)) for name in names
        }

    def for_shape(self, shape: tuple[int, ...]) -> EngineFunction:
        """The engine for inputs of one shape, with memory of its own."""
        with on_device(self.device):
            return EngineFunction(self, shape)


class EngineFunction:
    """An engine for one input shape.

    A CUDA graph that was recorded from it uses the memory of its execution context, which another
    shape would change: each shape has a context, that lives as long as this object.
    """

    def __init__(self, engine: Engine, shape: tuple[int, ...]) -> None:
        self._engine, self._shape = engine, shape
        self._context = engine.engine.create_execution_context()
        if self._context is None:
            raise RuntimeError(
                "TensorRT has no memory for the engine's activations: use a smaller image size or "
                "precision fp16, or close other programs on the GPU"
            )
        if not self._context.set_input_shape(engine.input, shape):
            built = tuple(engine.engine.get_tensor_shape(engine.input))
            raise ValueError(f"input of {shape}; the engine takes {built}")
        self._output_shape = tuple(self._context.get_tensor_shape(engine.output))

    def __call__(self, x: Tensor) -> Tensor:
        """Queue the engine on the current stream."""
        engine = self._engine
        if tuple(x.shape) != self._shape:
            raise ValueError(f"input of {tuple(x.shape)}; the engine takes {self._shape}")
        x = x.to(engine.dtypes[engine.input]).contiguous()
        output = torch.empty(
            self._output_shape, dtype=engine.dtypes[engine.output], device=engine.device
        )
        self._context.set_tensor_address(engine.input, x.data_ptr())
        self._context.set_tensor_address(engine.output, output.data_ptr())
        if not self._context.execute_async_v3(stream_handle(engine.device)):
            raise RuntimeError("TensorRT refused to run the engine: its log above says why")
        return output.float()


def stream_handle(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream


def torch_dtype(trt: Any, dtype: Any) -> torch.dtype:
    names = ("float32", "float16", "bfloat16")
    for name in names:
        if dtype == getattr(trt, name, None):
            return getattr(torch, name)
    raise ValueError(f"the engine has a tensor of {dtype}; expected one of {', '.join(names)}")


def input_shape(name: str, spec: ModelSpec, image_size: tuple[int, int]) -> str:
    height, width = image_size
    return f"1x3 of {height}x{width}" if name == "image" else f"1x{spec.num_window_samples}"


def bundle_hash(bundle: str | Path) -> str:
    """Of the architecture and the weights: calibrating a bundle does not change its engines.

    The weights' own hash is the one that config.json states, which is checked when they are read.
    """
    config = read_config(Path(bundle))
    text = json.dumps([config["model"], config["weights"]["sha256"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
