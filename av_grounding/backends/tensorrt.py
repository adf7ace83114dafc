"""The encoders as TensorRT engines, built on the machine that they run on.

The first start builds for minutes; the next ones load from the cache (see `engine_cache`). The
ground step is one small matrix product, which PyTorch does on the same device.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from av_grounding.backends.compiled import CompiledBackend, Functions
from av_grounding.backends.engine_cache import EngineCache, EngineKey
from av_grounding.backends.graphs import Graphs, Ground, build_graphs, default_image_size
from av_grounding.backends.machine import cuda_device, gpu_facts, memory_advice
from av_grounding.backends.precision import dtype_of, in_precision
from av_grounding.backends.tensorrt_build import build_engine, import_tensorrt
from av_grounding.modeling.bundle import load_bundle, read_config, spec_from_json
from av_grounding.types import ModelSpec

GRAPH_VERSION = "1"
"""To be raised when the graphs of the same bundle change, so that old engines are not taken."""
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
    versions = {name: import_tensorrt(name).__version__ for name in ("tensorrt", "torch_tensorrt")}
    spec = spec_from_json(read_config(Path(bundle))["spec"])
    image_size = image_size or default_image_size(spec)
    engine_cache = EngineCache(cache_directory)

    @cache
    def graphs() -> Graphs:
        return in_precision(build_graphs(load_bundle(bundle), image_size), precision)

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
        build = lambda name=name: build_engine(  # noqa: E731
            getattr(graphs(), name), precision, place, engine_cache.directory
        )
        content, source = engine_cache.get(key, build)
        with memory_advice(f"loading the {name} engine"):
            engines[name] = Engine(content, place)
        sources.append(source)
        keys.append(key.digest)
    facts = {
        "precision": precision,
        "engine_key": " ".join(keys),
        "engine_source": " ".join(sources),
        "engine_cache": str(engine_cache.directory),
        **versions,
        **gpu_facts(place),
    }
    functions = Functions(engines["image"], engines["audio"], Ground(), image_size=image_size)
    return CompiledBackend("tensorrt", functions, spec, place, facts, is_captured=is_captured)


class Engine:
    """A deserialised engine of one input and one output of fixed shapes, as a function."""

    def __init__(self, content: bytes, device: torch.device) -> None:
        trt = import_tensorrt("tensorrt")
        self.device = device
        # The runtime must live as long as its engine, which lives as long as its context.
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise RuntimeError(
                f"TensorRT {trt.__version__} does not take the engine (its log above says why): "
                "delete the engine cache, so that it is built again"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise RuntimeError(
                "TensorRT has no memory for the engine's activations: use a smaller image size or "
                "precision fp16, or close other programs on the GPU"
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = {
            name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names
        }
        (self._input,) = (name for name in names if is_input[name])
        (self._output,) = (name for name in names if not is_input[name])
        self.input_shape = tuple(self._engine.get_tensor_shape(self._input))
        self.output_shape = tuple(self._engine.get_tensor_shape(self._output))
        self._dtypes = {
            name: torch_dtype(trt, self._engine.get_tensor_dtype(name)) for name in names
        }

    def __call__(self, x: Tensor) -> Tensor:
        """Queue the engine on the current stream."""
        if tuple(x.shape) != self.input_shape:
            raise ValueError(f"input of {tuple(x.shape)}; the engine takes {self.input_shape}")
        x = x.to(self._dtypes[self._input]).contiguous()
        output = torch.empty(
            self.output_shape, dtype=self._dtypes[self._output], device=self.device
        )
        self._context.set_tensor_address(self._input, x.data_ptr())
        self._context.set_tensor_address(self._output, output.data_ptr())
        if not self._context.execute_async_v3(stream_handle(self.device)):
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
    return f"1x3x{height}x{width}" if name == "image" else f"1x{spec.num_window_samples}"


def bundle_hash(bundle: str | Path) -> str:
    """Of the architecture and the weights: calibrating a bundle does not change its engines.

    The weights' own hash is the one that config.json states, which is checked when they are read.
    """
    config = read_config(Path(bundle))
    text = json.dumps([config["model"], config["weights"]["sha256"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
