"""A bundle's exported encoders on the CPU, by OpenVINO.

OpenVINO's CPU device is named in every call and computes in the precision that the export
states; nothing is replaced by another device or precision in silence.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from av_grounding.backends.economy import encode_in_batches, use_one_thread
from av_grounding.backends.image_sizes import check_input_size
from av_grounding.backends.openvino_import import import_quietly, shared_core
from av_grounding.modeling.similarity import ground
from av_grounding.types import Backend, ImageTokens, ModelSpec

if TYPE_CHECKING:
    import openvino

DEVICE = "CPU"
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What is computed in where the graph does not say int8. OpenVINO's own choice is bf16 where the
processor has it, so that a model would answer differently on another robot."""
MAX_SHAPES = 4


class CpuBackend(Backend):
    """The three calls of a backend on two graphs and one matrix product."""

    name = "cpu"

    def __init__(self, directory: str | Path, spec: ModelSpec, facts: dict[str, Any]) -> None:
        """`directory` holds image.xml and audio.xml with their .bin; `facts` is its export.json.

        Raises ImportError without OpenVINO, RuntimeError where the processor lacks the precision
        and ValueError for a graph that cannot be read.
        """
        openvino = import_quietly("openvino", "backend 'cpu'")
        self.spec = spec
        self.facts = facts
        self.version = openvino.__version__.partition("-")[0]
        core = shared_core()
        precision = facts["precision"]
        capabilities = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in capabilities:
            raise RuntimeError(
                f"this processor ({core.get_property(DEVICE, 'FULL_DEVICE_NAME')}) does not "
                "compute in bf16: export again with --precision fp32 or int8"
            )
        properties = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": _num_threads(),
        }
        directory = Path(directory)
        self._image = _Graph(core, directory / "image.xml", properties)
        self._audio = _Graph(core, directory / "audio.xml", properties)
        self._image.prepare((1, *facts["image_size"], 3))
        self._num_window_samples = spec.num_window_samples
        self._audio.prepare((1, self._num_window_samples))

    def settle_threads(self) -> None:
        if use_one_thread(self.facts["num_parameters"]):
            for graph in (self._image, self._audio):
                graph.use_threads(1)

    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        size = tuple(image.shape[:2])
        if not self.facts["is_resizable"]:
            check_input_size(tuple(self.facts["image_size"]), size)
        if any(side % self.spec.patch_px for side in size):
            raise ValueError(
                f"image of {size[0]}x{size[1]} pixels; expected multiples of "
                f"{self.spec.patch_px}: resize it with av_grounding.image.ResizeTransform"
            )
        return ImageTokens(self._image(np.ascontiguousarray(image)[None])[0])

    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        self._check_window(len(waveform))
        return self._audio(np.ascontiguousarray(waveform)[None])[0]

    @property
    def max_audio_batch(self) -> int:
        return self.facts["max_audio_batch"]

    def encode_audio_batch(
        self, waveforms: Float32[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, "n k c t"]:
        self._check_window(waveforms.shape[1])
        return encode_in_batches(self._audio, waveforms, self.max_audio_batch)

    def _check_window(self, num_samples: int) -> None:
        if num_samples != self._num_window_samples:
            raise ValueError(
                f"waveform of {num_samples} samples; this export takes windows of "
                f"{self._num_window_samples}: pad or cut it, or use backend 'torch' for other "
                "windows"
            )

    @torch.inference_mode()
    def similarity(
        self, tokens: ImageTokens, queries: Float32[np.ndarray, "k n c"]
    ) -> Float32[np.ndarray, "k n r"]:
        cells = torch.from_numpy(np.asarray(tokens))
        audio = torch.from_numpy(np.ascontiguousarray(queries))
        return ground(cells[None], audio[None])[0].flatten(2).numpy()

    def grid(self, tokens: ImageTokens) -> tuple[int, int]:
        height, width = np.shape(tokens)[-2:]
        return height, width

    def describe(self) -> dict[str, Any]:
        return {
            "backend": self.name,
            "device": "cpu",
            "precision": self.facts["precision"],
            "openvino": self.version,
            "threads": self._image.num_threads,
            "image_size": list(self.facts["image_size"]),
            "reason": self.reason,
        }


class _Graph:
    """A graph of one input, compiled for each shape that it meets; the latest few are kept."""

    def __init__(self, core: openvino.Core, path: Path, properties: dict[str, Any]) -> None:
        self._core, self._path, self._properties = core, path, properties
        self._requests: OrderedDict[tuple[int, ...], openvino.InferRequest] = OrderedDict()
        # Several streams may share a backend, and a request holds one input at a time.
        self._lock = threading.Lock()

    @property
    def num_threads(self) -> int:
        return self._properties["INFERENCE_NUM_THREADS"]

    def use_threads(self, num_threads: int) -> None:
        with self._lock:
            if num_threads == self.num_threads:
                return
            self._properties = {**self._properties, "INFERENCE_NUM_THREADS": num_threads}
            shapes = list(self._requests)
            self._requests.clear()
            for shape in shapes:
                self._request(shape)

    def prepare(self, shape: tuple[int, ...]) -> None:
        with self._lock:
            self._request(shape)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        with self._lock:
            return self._request(values.shape).infer([values], share_inputs=True)[0]

    def _request(self, shape: tuple[int, ...]) -> openvino.InferRequest:
        if shape not in self._requests:
            while len(self._requests) >= MAX_SHAPES:
                self._requests.popitem(last=False)
            self._requests[shape] = self._compile(shape)
        self._requests.move_to_end(shape)
        return self._requests[shape]

    def _compile(self, shape: tuple[int, ...]) -> openvino.InferRequest:
        try:
            model = self._core.read_model(self._path)
            model.reshape(list(shape))
            return self._core.compile_model(model, DEVICE, self._properties).create_infer_request()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise ValueError(
                f"{self._path} cannot be loaded for an input of {shape} ({reason}): export again"
            ) from None


def _num_threads() -> int:
    """OMP_NUM_THREADS, which OpenVINO does not read itself, or as many as PyTorch takes."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    return int(named) if named.isdigit() and int(named) > 0 else torch.get_num_threads()
