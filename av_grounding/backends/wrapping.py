"""What stands around a backend: it has all that the backend has, and adds one thing."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.regions import Regions
from av_grounding.types import AudioStream, Backend, ImageTokens, ModelSpec


class BackendWrapper(Backend):
    """A backend that passes every call on to the one that it holds."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def spec(self) -> ModelSpec:
        return self.backend.spec

    @property
    def reason(self) -> str:
        return self.backend.reason

    @reason.setter
    def reason(self, reason: str) -> None:
        self.backend.reason = reason

    def with_spec(self, spec: ModelSpec) -> BackendWrapper:
        other = copy(self)
        other.backend = self.backend.with_spec(spec)
        return other

    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        return self.backend.encode_image(image)

    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        return self.backend.encode_audio(waveform)

    @property
    def max_audio_batch(self) -> int:
        return self.backend.max_audio_batch

    def encode_audio_batch(
        self, waveforms: Float32[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, "n k c t"]:
        return self.backend.encode_audio_batch(waveforms)

    def audio_stream(self) -> AudioStream | None:
        return self.backend.audio_stream()

    def similarity(
        self, tokens: ImageTokens, queries: Float32[np.ndarray, "k n c"]
    ) -> Float32[np.ndarray, "k n r"]:
        return self.backend.similarity(tokens, queries)

    def grid(self, tokens: ImageTokens) -> tuple[int, int]:
        return self.backend.grid(tokens)

    def paint(
        self, tokens: ImageTokens, values: Float32[np.ndarray, "k n r"]
    ) -> Float32[np.ndarray, "k n h w"]:
        return self.backend.paint(tokens, values)

    def maps(
        self,
        tokens: ImageTokens,
        head: str,
        query: Float32[np.ndarray, " c"],
        similarity: Float32[np.ndarray, " r"],
    ) -> Float32[np.ndarray, "m r"]:
        return self.backend.maps(tokens, head, query, similarity)

    def labels(
        self, tokens: ImageTokens, head: str, maps: Float32[np.ndarray, "m r"]
    ) -> tuple[str, ...]:
        return self.backend.labels(tokens, head, maps)

    def regions(self, tokens: ImageTokens, logits: Float32[np.ndarray, " r"]) -> Regions | None:
        return self.backend.regions(tokens, logits)

    def embed(
        self, image: UInt8[np.ndarray, "H W 3"], window: Float32[np.ndarray, " s"]
    ) -> tuple[Float32[np.ndarray, " e"], Float32[np.ndarray, " e"]] | None:
        return self.backend.embed(image, window)

    @property
    def separates(self) -> bool:
        return self.backend.separates

    def separation_masks(
        self,
        tokens: ImageTokens,
        window: Float32[np.ndarray, " s"],
        maps: Float32[np.ndarray, "m r"],
    ) -> Float32[np.ndarray, "m f t"] | None:
        return self.backend.separation_masks(tokens, window, maps)

    @property
    def num_parameters(self) -> int:
        return self.backend.num_parameters

    def use_threads(self, num_threads: int) -> None:
        self.backend.use_threads(num_threads)

    @property
    def sees_slowly(self) -> bool:
        return self.backend.sees_slowly

    @property
    def hears_slowly(self) -> bool:
        return self.backend.hears_slowly

    def describe(self) -> dict[str, Any]:
        return self.backend.describe()
