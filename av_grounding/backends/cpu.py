"""A bundle's exported encoders on the CPU, by OpenVINO.

OpenVINO's CPU device is named in every call and computes in the precision that the export
states; nothing is replaced by another device or precision in silence.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.backends.economy import encode_in_batches, is_small, num_cpu_threads
from av_grounding.backends.image_sizes import check_input_size
from av_grounding.backends.openvino_import import import_quietly, shared_core
from av_grounding.modeling.streaming_front import StreamingFront
from av_grounding.types import Backend, ImageTokens, ModelSpec

if TYPE_CHECKING:
    import openvino

DEVICE = "CPU"
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What is computed in where the graph does not say int8. OpenVINO's own choice is bf16 where the
processor has it, so that a model would answer differently on another robot."""
MAX_SHAPES = 4
Shapes = tuple[tuple[int, ...], ...]


class CpuBackend(Backend):
    """The calls of a backend on graphs and one matrix product."""

    name = "cpu"

    def __init__(self, directory: str | Path, spec: ModelSpec, facts: dict[str, Any]) -> None:
        """`directory` holds image.xml, audio.xml and perhaps front.xml and masks.xml with their
        .bin; `facts` is its export.json.

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
            "INFERENCE_NUM_THREADS": num_cpu_threads(),
        }
        directory = Path(directory)
        self._image = _Graph(core, directory / "image.xml", properties)
        self._image_outputs = tuple(facts["image_outputs"])
        self._audio = _Graph(core, directory / "audio.xml", properties)
        self._front = None
        if "front" in facts:
            self._front = _Graph(core, directory / "front.xml", properties)
        self._masks = None
        if "masks.xml" in facts["files"]:
            # In full precision always: the spectrum that it masks spans twelve decades.
            exact = {**properties, "INFERENCE_PRECISION_HINT": "f32"}
            self._masks = _Graph(core, directory / "masks.xml", exact)
        graphs = (self._image, self._audio, self._front, self._masks)
        self._graphs = [graph for graph in graphs if graph]
        self._num_window_samples = spec.num_window_samples

    @property
    def num_parameters(self) -> int:
        return self.facts["num_parameters"]

    def use_threads(self, num_threads: int) -> None:
        for graph in self._graphs:
            graph.use_threads(num_threads)

    @property
    def hears_slowly(self) -> bool:
        return not is_small(self.num_parameters)

    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        return ImageTokens(self._see(image, "tokens"))

    @property
    def is_resizable(self) -> bool:
        """Whether the image encoder takes any size."""
        return self.facts["is_resizable"]

    def takes_size(self, size: tuple[int, int]) -> bool:
        """Whether the image encoder takes pictures of this size (H, W)."""
        return self.is_resizable or size == tuple(self.facts["image_size"])

    def image_features(
        self, images: UInt8[np.ndarray, "b H W 3"]
    ) -> Float32[np.ndarray, "b d h w"]:
        """As `DualEncoder.image_features`; ValueError for an export from before it had them."""
        return np.stack([self._see(image, "features") for image in images])

    def _see(self, image: UInt8[np.ndarray, "H W 3"], what: str) -> Float32[np.ndarray, "..."]:
        if what not in self._image_outputs:
            raise ValueError(f"this export gives no image {what}: export again")
        size = tuple(image.shape[:2])
        if not self.is_resizable:
            check_input_size(tuple(self.facts["image_size"]), size)
        if any(side % self.spec.patch_px for side in size):
            raise ValueError(
                f"image of {size[0]}x{size[1]} pixels; expected multiples of "
                f"{self.spec.patch_px}: resize it with av_grounding.image.ResizeTransform"
            )
        number = self._image_outputs.index(what)
        return self._image(np.ascontiguousarray(image)[None], output=number)[0]

    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        self._check_window(len(waveform))
        return self._encode_windows(np.ascontiguousarray(waveform)[None])[0]

    def _encode_windows(
        self, windows: Float32[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, "n k c t"]:
        return self._audio(windows if self._front is None else self._front(windows))

    def audio_stream(self) -> CpuAudioStream | None:
        """Keeps the frames of the audio front, where the export has it apart."""
        if self._front is None:
            return None
        front = StreamingFront(
            self._front, concatenate=partial(np.concatenate, axis=-1), **self.facts["front"]
        )
        return CpuAudioStream(front, self._audio)

    @property
    def max_audio_batch(self) -> int:
        return self.facts["max_audio_batch"]

    def encode_audio_batch(
        self, waveforms: Float32[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, "n k c t"]:
        self._check_window(waveforms.shape[1])
        return encode_in_batches(self._encode_windows, waveforms, self.max_audio_batch)

    def _check_window(self, num_samples: int) -> None:
        if num_samples != self._num_window_samples:
            raise ValueError(
                f"waveform of {num_samples} samples; this export takes windows of "
                f"{self._num_window_samples}: pad or cut it, or use backend 'torch' for other "
                "windows"
            )

    def similarity(
        self, tokens: ImageTokens, queries: Float32[np.ndarray, "k n c"]
    ) -> Float32[np.ndarray, "k n r"]:
        cells = np.asarray(tokens)
        return queries @ cells.reshape(*cells.shape[:2], -1)

    @property
    def separates(self) -> bool:
        return self._masks is not None

    def separation_masks(
        self,
        tokens: ImageTokens,
        window: Float32[np.ndarray, " s"],
        maps: Float32[np.ndarray, "m r"],
    ) -> Float32[np.ndarray, "m f t"] | None:
        if self._masks is None:
            return None
        self._check_window(len(window))
        cells = np.asarray(tokens)[self.spec.head_names.index("sound")]
        # As `SeparatingEncoder.condition` has it.
        empty = maps.sum(axis=1, keepdims=True) <= 0.0
        mean = (maps + empty) @ cells.reshape(len(cells), -1).T
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        conditions = (mean / np.maximum(length, 1e-12)).astype(np.float32)
        window = np.ascontiguousarray(window)[None]
        return np.concatenate([self._masks(window, one[None]) for one in conditions])

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


class CpuAudioStream:
    """An `AudioStream`: the front's frames are kept, the transformer hears the whole window."""

    def __init__(self, front: StreamingFront, rest: Callable[[np.ndarray], np.ndarray]) -> None:
        self._front, self._rest = front, rest

    def reset(self) -> None:
        self._front.reset()

    def encode(
        self, waveform: Float32[np.ndarray, " s"], num_new: int
    ) -> Float32[np.ndarray, "k c t"]:
        # A copy: what is kept must not change with the caller's buffer.
        return self._rest(self._front(waveform[None].copy(), num_new))[0]


class _Graph:
    """A graph, compiled for each output and shape of inputs that it meets; the latest are kept."""

    def __init__(self, core: openvino.Core, path: Path, properties: dict[str, Any]) -> None:
        self._core, self._path, self._properties = core, path, properties
        # Damage shows at once; what is compiled waits for the shape and the number of threads.
        self._read()
        self._requests: OrderedDict[tuple, openvino.InferRequest] = OrderedDict()
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
            self._requests.clear()

    def __call__(self, *values: np.ndarray, output: int = 0) -> np.ndarray:
        with self._lock:
            request = self._request(tuple(one.shape for one in values), output)
            return request.infer(list(values), share_inputs=True)[0]

    def _request(self, shapes: Shapes, output: int) -> openvino.InferRequest:
        key = (shapes, output)
        if key not in self._requests:
            while len(self._requests) >= MAX_SHAPES:
                self._requests.popitem(last=False)
            self._requests[key] = self._compile(shapes, output)
        self._requests.move_to_end(key)
        return self._requests[key]

    def _compile(self, shapes: Shapes, output: int) -> openvino.InferRequest:
        model = self._read()
        try:
            # What leads to the others alone is then left out of what is compiled.
            for number, result in enumerate(model.get_results()):
                if number != output:
                    model.remove_result(result)
            model.reshape(
                {given: list(one) for given, one in zip(model.inputs, shapes, strict=True)}
            )
            return self._core.compile_model(model, DEVICE, self._properties).create_infer_request()
        except RuntimeError as error:
            listed = " and ".join(map(str, shapes))
            raise self._unusable(f" for an input of {listed}", error) from None

    def _read(self) -> openvino.Model:
        try:
            return self._core.read_model(self._path)
        except RuntimeError as error:
            raise self._unusable("", error) from None

    def _unusable(self, what_for: str, error: RuntimeError) -> ValueError:
        reason = " ".join(str(error).split())[-200:]
        return ValueError(f"{self._path} cannot be loaded{what_for} ({reason}): export again")
