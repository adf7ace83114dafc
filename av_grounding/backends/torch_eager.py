"""The eager PyTorch backend: runs a bundle as it was trained, on the CPU or a CUDA device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from av_grounding.backends.economy import AUDIO_BATCH, is_small
from av_grounding.modeling.bundle import Bundle
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.modeling.streaming_front import StreamingFront
from av_grounding.types import Backend, ImageTokens


class TorchBackend(Backend):
    """The three calls of a backend on a loaded bundle. Image tokens stay on the device."""

    name = "torch"

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise RuntimeError(
                f"device {device!r} asked for, but torch {torch.__version__} sees no CUDA device: "
                "use device='cpu' or install torch with CUDA"
            )
        self.device = torch.device(device)
        self.model = bundle.model.to(self.device)
        self.spec = bundle.spec

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def use_threads(self, num_threads: int) -> None:
        if self.device.type == "cpu":
            torch.set_num_threads(num_threads)

    @property
    def hears_slowly(self) -> bool:
        return self.device.type == "cpu" and not is_small(self.num_parameters)

    @torch.inference_mode()
    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        return ImageTokens(self.model.encode_image(self._pixels(image))[0])

    def takes_size(self, size: tuple[int, int]) -> bool:
        """Whether the image encoder takes pictures of this size (H, W): of any."""
        return True

    @torch.inference_mode()
    def image_features(
        self, images: UInt8[np.ndarray, "b H W 3"]
    ) -> Float32[torch.Tensor, "b d h w"]:
        """As `DualEncoder.image_features`, on the device."""
        return self.model.image_features(torch.cat([self._pixels(image) for image in images]))

    def _pixels(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[torch.Tensor, "1 3 H W"]:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        return pixels.permute(2, 0, 1)[None].float() / 255.0

    @torch.inference_mode()
    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        samples = torch.from_numpy(np.ascontiguousarray(waveform)).to(self.device)
        return self.model.encode_audio(samples[None])[0].float().cpu().numpy()

    @property
    def max_audio_batch(self) -> int:
        """A large model keeps a CPU busy with one window, and its activations fill memory."""
        pays = self.device.type == "cuda" or is_small(self.num_parameters)
        return AUDIO_BATCH if pays else 1

    @torch.inference_mode()
    def encode_audio_batch(
        self, waveforms: Float32[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, "n k c t"]:
        samples = torch.from_numpy(np.ascontiguousarray(waveforms)).to(self.device)
        return self.model.encode_audio(samples).float().cpu().numpy()

    def audio_stream(self) -> TorchAudioStream | None:
        """Keeps the frames of a convolutional front, where the model has one that allows it."""
        front = self.model.streaming_front()
        return None if front is None else TorchAudioStream(self.model, front, self.device)

    @torch.inference_mode()
    def similarity(
        self, tokens: ImageTokens, queries: Float32[np.ndarray, "k n c"]
    ) -> Float32[np.ndarray, "k n r"]:
        audio = torch.from_numpy(np.ascontiguousarray(queries)).to(self.device)
        # What `model.ground` computes, without the pages of Python around one product.
        return torch.bmm(audio, tokens.flatten(2)).float().cpu().numpy()

    @torch.inference_mode()
    def embed(
        self, image: UInt8[np.ndarray, "H W 3"], window: Float32[np.ndarray, " s"]
    ) -> tuple[Float32[np.ndarray, " e"], Float32[np.ndarray, " e"]] | None:
        model = self.model
        if not isinstance(model, SeparatingEncoder) or not model.config.embedding_dim:
            return None
        samples = torch.from_numpy(np.ascontiguousarray(window)).to(self.device)[None]
        embedded = (
            model.embed_image(model.image_features(self._pixels(image))),
            model.embed_audio(model.audio_features(samples)),
        )
        return tuple(one[0].cpu().numpy() for one in embedded)

    @property
    def separates(self) -> bool:
        return self.spec.separation is not None

    @torch.inference_mode()
    def separation_masks(
        self,
        tokens: ImageTokens,
        window: Float32[np.ndarray, " s"],
        maps: Float32[np.ndarray, "m r"],
    ) -> Float32[np.ndarray, "m f t"] | None:
        if self.spec.separation is None:
            return None
        samples, weights = (
            torch.from_numpy(np.ascontiguousarray(one)).to(self.device)[None]
            for one in (window, maps)
        )
        conditions = self.model.condition(tokens[None], weights)
        return self.model.masks(samples, conditions)[0].cpu().numpy()

    def grid(self, tokens: ImageTokens) -> tuple[int, int]:
        height, width = tokens.shape[-2:]
        return height, width

    def describe(self) -> dict[str, Any]:
        return {
            "backend": self.name,
            "device": str(self.device),
            "precision": "fp32",
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "reason": self.reason,
        }


class TorchAudioStream:
    """An `AudioStream`: the front's frames are kept, the transformer hears the whole window."""

    def __init__(self, model: DualEncoder, front: StreamingFront, device: torch.device) -> None:
        self._model, self._front, self._device = model, front, device

    def reset(self) -> None:
        self._front.reset()

    @torch.inference_mode()
    def encode(
        self, waveform: Float32[np.ndarray, " s"], num_new: int
    ) -> Float32[np.ndarray, "k c t"]:
        # A copy: what is kept must not change with the caller's buffer.
        samples = torch.tensor(waveform, device=self._device)[None]
        return self._model.encode_front(self._front(samples, num_new))[0].float().cpu().numpy()
