"""A bundle as three compiled functions behind the backend's contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from av_grounding.backends.lane import Lane, Result
from av_grounding.types import ImageTokens, ModelSpec


@dataclass(frozen=True)
class Functions:
    """Image encoder (1,3,H,W), audio encoder (1,s) and ground step, as `Graphs` defines them.

    `image_size` (H, W) is the only one that the image encoder takes, None for any; `min_vectors`
    is how many vectors the ground step takes at least.
    """

    image: Callable[[Tensor], Tensor]
    audio: Callable[[Tensor], Tensor]
    ground: Callable[[Tensor, Tensor], Tensor]
    image_size: tuple[int, int] | None = None
    min_vectors: int = 1


class CompiledBackend:
    """The three calls of a backend on compiled functions, on the CPU or a CUDA device.

    Image and audio run on streams of their own, so that neither waits for the other; image tokens
    come back before they are computed.
    """

    reason = ""
    """Why this backend was taken; written by `load_backend`."""

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
        self.image_lane = Lane(
            lambda pixels: functions.image(to_pixels(pixels))[0],
            device, is_captured=is_captured, name="encoding an image",
        )  # fmt: skip
        self.audio_lane = Lane(
            lambda samples: functions.audio(samples[None])[0].float(),
            device, is_captured=is_captured, ends_on_host=True, name="encoding sound",
        )  # fmt: skip

    def with_spec(self, spec: ModelSpec) -> CompiledBackend:
        """The same functions, not loaded again, under another spec."""
        other = copy(self)
        other.spec = spec
        return other

    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        expected = self.functions.image_size
        if expected is not None and image.shape[:2] != expected:
            height, width = image.shape[:2]
            raise ValueError(
                f"image of {height}x{width} pixels; this model was compiled for "
                f"{expected[0]}x{expected[1]}: export it again with --image-size {height}x{width}"
            )
        return ImageTokens(self.image_lane(np.ascontiguousarray(image)))

    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        expected = self.spec.num_window_samples
        if len(waveform) != expected:
            raise ValueError(
                f"waveform of {len(waveform)} samples; this model was compiled for windows of "
                f"{expected}: pad or cut it"
            )
        return self.audio_lane(np.ascontiguousarray(waveform)).numpy()

    @torch.inference_mode()
    def ground(
        self, image_tokens: ImageTokens, vectors: Float32[np.ndarray, "k n c"]
    ) -> Float32[np.ndarray, "k n h w"]:
        assert isinstance(image_tokens, Result)
        tokens = image_tokens.wait()[None]
        audio = torch.from_numpy(np.ascontiguousarray(vectors)).to(self.device)[None]
        num_given = audio.shape[2]
        missing = max(self.functions.min_vectors - num_given, 0)
        maps = self.functions.ground(tokens, F.pad(audio, (0, 0, 0, missing)))
        return maps[0, :, :num_given].float().cpu().numpy()

    def describe(self) -> dict[str, Any]:
        return {
            "backend": self.name,
            "device": str(self.device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            **self._facts,
            "reason": self.reason,
        }


def to_pixels(image: Tensor) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) float32 in [0, 1]; a quarter of the bytes are copied up."""
    return (image.permute(2, 0, 1)[None].float() / 255.0).contiguous()
