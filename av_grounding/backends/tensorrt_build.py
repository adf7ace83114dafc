"""One graph to one TensorRT engine, through the dynamo front end of torch-tensorrt.

For both generations of torch-tensorrt: up to 2.9 (TensorRT 10, as on JetPack) it is told which
precisions it may use, from then on the types in the network say so. Either way the network is
cast beforehand and typed throughout where the release can do that.

An engine holds the whole graph or is not built. What comes out is the bare engine, for which the
TensorRT runtime alone is enough: nothing is unpickled when it is loaded.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import inspect
import io
import logging
import re
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from av_grounding.backends.graphs import Graph
from av_grounding.backends.machine import memory_advice
from av_grounding.backends.precision import dtype_of

LOGGER = logging.getLogger(__name__)
INSTALL = (
    "install torch-tensorrt for your torch (on a Jetson: JetPack's own), or choose backend 'torch'"
)


def import_tensorrt(name: str) -> ModuleType:
    """`torch_tensorrt` or `tensorrt`, or ImportError that says how to get it."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise ImportError(f"backend tensorrt needs {name} ({error}): {INSTALL}") from None


def installed_version(name: str) -> str:
    """The version of `torch_tensorrt` without importing it: that takes seconds, and an engine
    that is built already needs nothing of it.
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        # Installed by other means than pip, as a system's own packages may be.
        return str(import_tensorrt(name).__version__)


def build_engine(graph: Graph, precision: str, device: torch.device, work: Path) -> bytes:
    """The serialised engine of a graph that is in `precision` already; takes minutes.

    `work` keeps the timings of kernels from one build to the next. Raises ValueError naming the
    operators where TensorRT cannot take the whole graph, RuntimeError where the build fails.
    """
    torch_tensorrt = import_tensorrt("torch_tensorrt")
    inputs = tuple(tensor.to(device) for tensor in graph.inputs)
    # A copy: the caller's graphs stay where they are.
    module = deepcopy(graph.module).to(device)
    program = replace(graph, module=module, inputs=inputs).export()
    dynamo = torch_tensorrt.dynamo
    check_convertible(dynamo, program, graph, inputs, precision, device)
    convert = dynamo.convert_exported_program_to_serialized_trt_engine
    options = {"timing_cache_path": str(work / "timing_cache.bin"), "immutable_weights": True}
    options = supported(convert, options) | common_options(convert, precision, device)
    LOGGER.info("TensorRT builds the %s graph in %s", graph.name, precision)
    try:
        with memory_advice(f"building the {graph.name} engine"):
            engine = convert(program, arg_inputs=inputs, require_full_compilation=True, **options)
    # Releases up to 2.8 log what went wrong and then fail over the engine that is not there.
    except (RuntimeError, UnboundLocalError) as error:
        raise RuntimeError(
            f"TensorRT could not build the {graph.name} graph in {precision} "
            f"({str(error).strip().splitlines()[0]}): its log above says why; lower the image "
            "size, try another precision, or choose backend 'torch'"
        ) from error
    return bytes(engine)


def check_convertible(
    dynamo: Any,
    program: Any,
    graph: Graph,
    inputs: tuple[Any, ...],
    precision: str,
    device: torch.device,
) -> str:
    """torch-tensorrt's own report on the graph, which ValueError names the operators from."""
    with tempfile.TemporaryDirectory() as folder:
        report_path = Path(folder) / "report.txt"
        options = common_options(dynamo.compile, precision, device)
        # It prints what it writes.
        with contextlib.redirect_stdout(io.StringIO()):
            dynamo.compile(program, arg_inputs=inputs, dryrun=str(report_path), **options)
        report = report_path.read_text(encoding="utf-8") if report_path.exists() else ""
    LOGGER.debug("%s", report)
    rejected, num_engines = read_report(report)
    if rejected or num_engines != 1:
        listed = ", ".join(f"{name} ({count})" for name, count in rejected.items())
        raise ValueError(
            f"TensorRT does not take the whole {graph.name} graph: it splits into {num_engines} "
            f"engines around {listed or 'no operator that it names'}; use backend 'torch', or "
            "express these operators by others"
        )
    return report


def read_report(report: str) -> tuple[dict[str, int], int]:
    """Operators without a converter with their counts, and the number of engines, of a dry run."""
    rejected: dict[str, int] = {}
    _, _, listed = report.partition("listed with their op-count in the graph:")
    for line in listed.split("\n\n", 1)[0].splitlines():
        if match := re.fullmatch(r"\s*(\S+): (\d+)\s*", line):
            rejected[match[1]] = int(match[2])
    return rejected, len(re.findall(r"TRT Engine #\d+", report))


def common_options(function: Any, precision: str, device: torch.device) -> dict[str, Any]:
    """What a dry run must be told as a build is, so that it speaks of the same engine."""
    return {
        "device": device,
        "min_block_size": 1,
        # TensorRT would multiply float32 in TF32, with the ten bits of fp16.
        "disable_tf32": precision == "fp32",
    } | precision_options(function, precision)


def precision_options(function: Any, precision: str) -> dict[str, Any]:
    """How this release of torch-tensorrt is told to keep to the types in the network."""
    names = inspect.signature(function).parameters
    if "use_explicit_typing" in names:
        return {"use_explicit_typing": True}
    if "enabled_precisions" in names:
        # Before 2.6 layers are free to choose among these; the weights are cast all the same.
        return {"enabled_precisions": {torch.float32, dtype_of(precision)}}
    return {}


def supported(function: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Those options that this release's function has."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in names}
