"""Graphs compiled ahead of time by PyTorch's inductor: machine code for one kind of machine.

The compiler runs at export; loading needs none and takes no warm-up. On the CPU it needs a C++
compiler at export, on a CUDA device Triton.

A package (`.pt2`) holds a shared library: loading it runs its code, with all the rights of the
program. It is opened only from the directory that the user named, after its hash and this machine
have been compared with the JSON beside it. That finds damage and the wrong machine, not malice:
load a package only from whom you would run a program from.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch._inductor
import torch._inductor.exc
from torch import Tensor
from torch.export import ExportedProgram

from av_grounding.backends import artefact
from av_grounding.backends.compiled import CompiledBackend, Functions
from av_grounding.backends.graphs import Graph, Graphs
from av_grounding.backends.image_sizes import ImageSizes
from av_grounding.backends.machine import (
    cuda_device,
    machine_facts,
    memory_advice,
    missing_flags,
    processor_flags,
    without_tf32,
)
from av_grounding.backends.precision import in_precision
from av_grounding.types import ModelSpec

LOGGER = logging.getLogger(__name__)
SUFFIX = ".pt2"
MIN_VECTORS = 2
COMPILERS = ("g++", "clang++")
GRAPH_NAMES = ("image", "audio", "ground")
REMEDY = "export it again on this machine with --backend aot"


def build_aot(
    graphs: Graphs, directory: str | Path, precision: str = "fp32", *, device: str = "cpu"
) -> dict[str, Any]:
    """Compile the graphs for this machine into `directory`: a package and its facts each.

    Takes from half a minute to many minutes. Raises RuntimeError where no compiler is found.
    """
    _check_torch()
    place = torch.device("cpu") if device == "cpu" else cuda_device(device, precision)
    if place.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise RuntimeError(
            f"no C++ compiler for an export with --backend aot: install {' or '.join(COMPILERS)}"
        )
    facts = machine_facts(place) | {"precision": precision, "image_size": str(graphs.sizes)}
    if place.type == "cpu":
        facts["cpu_flags"] = processor_flags()
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for graph in in_precision(graphs, precision):
        LOGGER.info("compiling the %s graph", graph.name)
        with memory_advice(f"compiling the {graph.name} graph"):
            program = _exported(graph, place)
            artefact.store(
                directory / f"{graph.name}{SUFFIX}",
                facts | {"graph": graph.name},
                lambda path, program=program: compile_package(program, path),
            )
    return facts


def compile_package(program: ExportedProgram, path: Path) -> None:
    try:
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    except torch._inductor.exc.CppCompileError as error:
        last_line = str(error).strip().splitlines()[-1]
        raise RuntimeError(
            f"the C++ compiler failed on {path.name} ({last_line}): is it complete, with its "
            "headers, and is there room in the temporary directory?"
        ) from error


def load_aot(
    directory: str | Path,
    spec: ModelSpec,
    sizes: ImageSizes,
    *,
    device: str = "cpu",
    is_captured: bool = True,
    is_hashed: bool = False,
) -> CompiledBackend:
    """The packages of a directory, exported for `sizes`, as a backend.

    `is_hashed`: their hashes have been compared already. Runs native code from that directory: see
    the module. Raises FileNotFoundError where a file is missing and ValueError, in one line, where
    it was built for another kind of machine or other sizes, or is damaged.
    """
    _check_torch()
    place = torch.device("cpu") if device == "cpu" else cuda_device(device)
    directory = Path(directory)
    runners = {}
    for name in GRAPH_NAMES:
        path = directory / f"{name}{SUFFIX}"
        facts = check_package(path, place, sizes, is_hashed=is_hashed)
        with memory_advice(f"loading {path.name}"):
            runners[name] = load_package(path, place, is_captured=name != "ground")
    if place.type == "cuda" and facts["precision"] == "fp32":
        without_tf32()
    functions = Functions(
        image_for=lambda size: runners["image"],
        audio=runners["audio"],
        ground=runners["ground"],
        sizes=sizes,
        min_vectors=MIN_VECTORS,
        num_window_samples=spec.num_window_samples,
    )
    told = {
        "precision": facts["precision"],
        "image_size": [sizes.height, sizes.width],
        "widths": sizes.widths,
        "artefacts": str(directory),
    }
    return CompiledBackend("aot", functions, spec, place, told, is_captured=is_captured)


def check_package(
    path: Path, device: torch.device, sizes: ImageSizes, *, is_hashed: bool = False
) -> dict[str, str]:
    """What a package was built for, after checking that this machine can run it."""
    expected = machine_facts(device) | {"image_size": str(sizes)}
    facts = artefact.check(path, expected, REMEDY, is_hashed=is_hashed)
    missing = missing_flags(facts.get("cpu_flags", ""), processor_flags())
    if device.type == "cpu" and missing:
        raise ValueError(
            f"{path.name} may use {', '.join(missing)}, which this processor lacks: {REMEDY}"
        )
    return facts


def load_package(
    path: Path, device: torch.device, *, is_captured: bool = False
) -> Callable[..., Tensor]:
    """Runs the package's code; to be called after `check_package` alone.

    What is captured as a CUDA graph is called by one thread at a time, and must not ask the
    device for events, as the runtime does to share a package among threads.
    """
    options: dict[str, Any] = {"run_single_threaded": is_captured and device.type == "cuda"}
    if device.index:
        # Not in every release: without it the first device is taken.
        options["device_index"] = device.index
    package = torch._inductor.aoti_load_package(str(path), **options)

    def call(*inputs: Tensor) -> Tensor:
        # The code takes the strides of the example for granted, and checks nothing.
        return package(*(tensor.contiguous() for tensor in inputs))

    return call


def _check_torch() -> None:
    if not hasattr(torch._inductor, "aoti_load_package"):
        raise RuntimeError(
            f"backend aot needs torch 2.6 or later, this is {torch.__version__}: choose backend "
            "'torch' or 'tensorrt'"
        )


def _exported(graph: Graph, device: torch.device) -> ExportedProgram:
    """The graph on `device`; the ground step for any number of vectors."""
    inputs = tuple(tensor.to(device) for tensor in graph.inputs)
    # A copy: the caller's graphs stay where they are.
    module = deepcopy(graph.module).to(device) if device.type != "cpu" else graph.module
    if graph.name != "ground":
        return replace(graph, module=module, inputs=inputs).export()
    tokens, vectors = inputs
    # An example of one vector would fix their number at one.
    inputs = (tokens, vectors[:, :, :1].expand(-1, -1, MIN_VECTORS + 1, -1).contiguous())
    cells, _ = graph.dynamic_shapes or (None, None)
    shapes = (cells, {2: torch.export.Dim("num_vectors", min=MIN_VECTORS)})
    return replace(graph, module=module, inputs=inputs, dynamic_shapes=shapes).export()
