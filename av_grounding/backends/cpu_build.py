"""A bundle's encoders as OpenVINO graphs: converted, quantised, written.

The ground step is one small matrix product, for which a graph costs more than it saves: the
runtime leaves it to NumPy (see `cpu`). Where the audio front's frames can be kept from window to
window, front and transformer are two graphs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from av_grounding.backends.economy import AUDIO_BATCH, is_small
from av_grounding.backends.graphs import (
    AudioFront,
    AudioRest,
    FeatureEncoder,
    Graph,
    Graphs,
    WithFeatures,
)
from av_grounding.backends.openvino_import import import_quietly, shared_core
from av_grounding.modeling.conv_audio import ConvAudioBackbone

if TYPE_CHECKING:
    import openvino

PRECISIONS = ("fp32", "bf16", "int8")
MAX_CELLS = 512
"""Longest side of a resizable graph, in patches."""


def build_cpu(
    graphs: Graphs,
    directory: str | Path,
    precision: str,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]] = (),
    waveforms: Sequence[Float32[np.ndarray, " s"]] = (),
) -> dict[str, Any]:
    """Write `image`, `audio`, where its frames can be kept `front`, and of a model that separates
    `masks` (.xml and .bin) into a directory; return facts for loading them.

    `images` and `waveforms` are real inputs in the graphs' shapes, from which int8 learns its
    ranges; the other precisions need none. Raises ImportError without OpenVINO (for int8: NNCF)
    and ValueError for a precision that this runtime does not have.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision {precision!r} for backend cpu; expected one of {', '.join(PRECISIONS)}"
        )
    if precision == "int8" and not (images and waveforms):
        raise ValueError("int8 without images and waveforms; expected real inputs to measure")
    directory = Path(directory)
    inputs = {
        "image": [image.transpose(2, 0, 1)[None].astype(np.float32) / 255.0 for image in images],
        "audio": [waveform[None] for waveform in waveforms],
    }
    parameters = {p for g in (graphs.image, graphs.audio) for p in g.module.parameters()}
    num_parameters = sum(p.numel() for p in parameters)
    max_audio_batch = _max_audio_batch(graphs, num_parameters)
    core = shared_core()
    front = graphs.audio.module.model.streaming_front()
    with warnings.catch_warnings():
        # Deprecations between the two libraries, which concern their authors.
        warnings.simplefilter("ignore", FutureWarning)
        image, image_outputs = _image_graph(graphs)
        models = {"image": _image_model(graphs, image)}
        if front is None:
            models["audio"] = _audio_model(graphs.audio, max_audio_batch)
        else:
            models |= _split_audio(graphs.audio)
            inputs["front"] = inputs["audio"]
        if front is not None and precision == "int8":
            compute = core.compile_model(
                models["front"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
            )
            inputs["audio"] = [compute([window])[0] for window in inputs["front"]]
        if graphs.masks is not None:
            models["masks"] = _converted(graphs.masks, *(one.shape for one in graphs.masks.inputs))
        for name, model in models.items():
            if precision == "int8" and name in inputs:
                model = _quantized(model, inputs[name])
            if name == "image":
                model = _taking_images(model)
            _save(model, directory / f"{name}.xml")
    facts = {
        "is_resizable": graphs.is_any_size,
        "num_parameters": num_parameters,
        "max_audio_batch": max_audio_batch,
        "image_outputs": image_outputs,
    }
    if front is None:
        return facts
    samples = {
        "receptive_samples": front.receptive_samples,
        "stride_samples": front.stride_samples,
    }
    return {**facts, "front": samples}


def _image_graph(graphs: Graphs) -> tuple[Graph, list[str]]:
    """The image encoder, and what it gives: what is not asked for is not computed."""
    image = graphs.image
    if isinstance(image.module, FeatureEncoder):
        return image, ["features"]
    return replace(image, module=WithFeatures(image.module).eval()), ["tokens", "features"]


def _image_model(graphs: Graphs, image: Graph) -> openvino.Model:
    """Of any size each is compiled when its first frame comes."""
    if not graphs.is_any_size:
        return _converted(image, (1, 3, *graphs.image_size))
    patch_px = graphs.spec.patch_px
    height, width = (torch.export.Dim(name, min=2, max=MAX_CELLS) for name in ("rows", "columns"))
    any_size = ({2: patch_px * height, 3: patch_px * width},)
    return _converted(replace(image, dynamic_shapes=any_size))


def _max_audio_batch(graphs: Graphs, num_parameters: int) -> int:
    """One window of a large model keeps a CPU busy, and its activations fill memory.

    A transformer is large, and its graph knows one window alone.
    """
    backbone = graphs.audio.module.model.audio_backbone
    pays = is_small(num_parameters) and isinstance(backbone, ConvAudioBackbone)
    return AUDIO_BATCH if pays else 1


def _audio_model(audio: Graph, max_batch: int) -> openvino.Model:
    """For one window, or for any number to `max_batch`, of which each is compiled for itself."""
    (window,) = audio.inputs
    if max_batch == 1:
        return _converted(audio, window.shape)
    windows = torch.export.Dim("windows", min=1, max=max_batch)
    # An example of one would fix their number at one.
    example = window.repeat(2, 1)
    return _converted(replace(audio, inputs=(example,), dynamic_shapes=({0: windows},)))


def _split_audio(audio: Graph) -> dict[str, openvino.Model]:
    """The front for any number of samples, and the transformer for the frames of a window."""
    model, (window,) = audio.module.model, audio.inputs
    front = Graph("front", AudioFront(model).eval(), (window,))
    with torch.inference_mode():
        frames = front.module(window)
    rest = Graph("audio", AudioRest(model).eval(), (torch.zeros(frames.shape),))
    backbone = model.audio_backbone
    # At least two frames: an example of several is traced as such.
    fewest = backbone.receptive_samples + backbone.stride_samples
    samples = torch.export.Dim("samples", min=fewest)
    return {
        "front": _converted(replace(front, dynamic_shapes=({1: samples},))),
        "audio": _converted(rest, frames.shape),
    }


def _converted(graph: Graph, *shapes: Sequence[int]) -> openvino.Model:
    """Taking inputs of `shapes`; without them as the graph states."""
    import openvino

    model = openvino.convert_model(graph.export())
    if shapes:
        model.reshape(
            {given: list(shape) for given, shape in zip(model.inputs, shapes, strict=True)}
        )
    return model


def _quantized(model: openvino.Model, batches: list[np.ndarray]) -> openvino.Model:
    nncf = import_quietly("nncf", "int8 on the CPU")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    kinds = {op.get_type_name() for op in model.get_ops()}
    has_attention = bool(kinds & {"Softmax", "ScaledDotProductAttention"})
    # Its bars of progress go to where our results belong.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model,
            nncf.Dataset(batches),
            subset_size=len(batches),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if has_attention else None,
            ignored_scope=nncf.IgnoredScope(names=_before_logarithm(model), validate=False),
        )


def _before_logarithm(model: openvino.Model) -> list[str]:
    """Names of all that a logarithm is taken of: a power spectrum spans more than 8 bits."""
    waiting = [op for op in model.get_ops() if op.get_type_name() == "Log"]
    names = set()
    while waiting:
        op = waiting.pop()
        if op.get_friendly_name() not in names:
            names.add(op.get_friendly_name())
            waiting += [value.get_source_output().get_node() for value in op.inputs()]
    kinds = {op.get_friendly_name(): op.get_type_name() for op in model.get_ops()}
    return sorted(name for name in names if kinds[name] not in ("Constant", "Parameter"))


def _taking_images(model: openvino.Model) -> openvino.Model:
    """The graph with (1, H, W, 3) uint8 as input instead of (1, 3, H, W) in [0, 1]."""
    import openvino
    from openvino.preprocess import PrePostProcessor

    processor = PrePostProcessor(model)
    given = processor.input()
    given.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    given.model().set_layout(openvino.Layout("NCHW"))
    given.preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    return processor.build()


def _save(model: openvino.Model, path: Path) -> None:
    import openvino

    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"{path} could not be written: {error}") from None
