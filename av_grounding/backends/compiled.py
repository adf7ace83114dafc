"""A bundle as three compiled functions behind the backend's contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from av_grounding.backends.cuda_graph import CudaGraphRunner, Result
from av_grounding.backends.economy import encode_in_batches
from av_grounding.backends.image_sizes import check_input_size
from av_grounding.types import Backend, ImageTokens, ModelSpec

Size = tuple[int, int]
"""(H, W) in pixels."""


@dataclass(frozen=True)
class Functions:
    """Image encoder (1,3,H,W), audio encoder (n,s) and ground step, as `Graphs` defines them.

    `image_for` gives the encoder of one size, which is kept as long as frames of that size come.
    `image_size` is the one (H, W) that it is asked for, None for any. `max_audio_batch` is the
    highest n: every call is of one window or of that many. `num_window_samples` is the one s that
    the audio encoder was compiled for, None for any: compiled code does not look at how much it is
    given, and would read beyond a shorter one.
    """

    image_for: Callable[[Size], Callable[[Tensor], Tensor]]
    audio: Callable[[Tensor], Tensor]
    ground: Callable[[Tensor, Tensor], Tensor]
    image_size: Size | None = None
    max_audio_batch: int = 1
    num_window_samples: int | None = None


class CompiledBackend(Backend):
    """The three calls of a backend on compiled functions, on the CPU or a CUDA device.

    Image and audio run on streams of their own, so that neither waits for the other; image tokens
    come back before they are computed.
    """

    def __init__(
        self,
        name: str,
        functions: Functions,
        spec: ModelSpec,
        device: torch.device,
        facts: Mapping[str, Any],
        *,
        is_captured: bool = True,
    ) -> None:
        self.name, self.spec, self.device = name, spec, device
        self.functions = functions
        self._facts = dict(facts)
        self.image_runner = CudaGraphRunner(
            lambda shape: _from_image(functions.image_for(shape[:2])),
            device, is_captured=is_captured, name="encoding an image",
        )  # fmt: skip
        self.audio_runner = CudaGraphRunner(
            lambda shape: _from_windows(functions.audio),
            device, is_captured=is_captured, ends_on_host=True, name="encoding sound",
        )  # fmt: skip

    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        if self.functions.image_size is not None:
            check_input_size(self.functions.image_size, image.shape[:2])
        return ImageTokens(self.image_runner(np.ascontiguousarray(image)))

    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        self._check_window(len(waveform))
        return self.audio_runner(np.ascontiguousarray(waveform)[None]).numpy()[0]

    @property
    def max_audio_batch(self) -> int:
        return self.functions.max_audio_batch

    def encode_audio_batch(
        self, waveforms: Float32[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, "n k c t"]:
        self._check_window(waveforms.shape[1])
        encode = lambda windows: self.audio_runner(windows).numpy()  # noqa: E731
        return encode_in_batches(encode, waveforms, self.max_audio_batch)

    def _check_window(self, num_samples: int) -> None:
        expected = self.functions.num_window_samples or self.spec.num_window_samples
        if num_samples != expected:
            raise ValueError(
                f"waveform of {num_samples} samples; this model was compiled for windows of "
                f"{expected}: pad or cut it, or use backend 'torch' for other windows"
            )

    @torch.inference_mode()
    def similarity(
        self, tokens: ImageTokens, queries: Float32[np.ndarray, "k n c"]
    ) -> Float32[np.ndarray, "k n r"]:
        assert isinstance(tokens, Result)
        audio = torch.from_numpy(np.ascontiguousarray(queries)).to(self.device)[None]
        maps = self.functions.ground(tokens.wait()[None], audio)
        return maps[0].flatten(2).float().cpu().numpy()

    def grid(self, tokens: ImageTokens) -> tuple[int, int]:
        assert isinstance(tokens, Result)
        height, width = tokens.tensor.shape[-2:]
        return height, width

    def describe(self) -> dict[str, Any]:
        return {
            "backend": self.name,
            "device": str(self.device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            **self._facts,
            "reason": self.reason,
        }


def _from_image(encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda image: encode(to_pixels(image))[0]


def _from_windows(encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    # Without a batch axis it is one window.
    return lambda samples: encode(samples.reshape(-1, samples.shape[-1])).float()


def to_pixels(image: Tensor) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) float32 in [0, 1]; a quarter of the bytes are copied up."""
    return (image.permute(2, 0, 1)[None].float() / 255.0).contiguous()
