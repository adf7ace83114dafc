"""A backend that encodes nothing twice: for comparing few pictures and clips in many pairs."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from copy import copy
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.grounder import Grounder
from av_grounding.types import Backend, ImageTokens, ModelSpec

MAX_REMEMBERED = 512


def economical(grounder: Grounder) -> Grounder:
    """The same grounder, encoding every picture and every window once."""
    return Grounder(RememberingBackend(grounder.backend), grounder.config)


def clip_hop_s(spec: ModelSpec) -> float | None:
    """Step between the windows of a clip; None leaves it to the grounder.

    A model that attends to its whole window needs no overlap: its windows follow one another.
    """
    return spec.window_s if spec.context_s == 0.0 else None


class RememberingBackend:
    """The three calls of another backend, remembering the latest answers of the encoders."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = backend.name
        self._remembered: OrderedDict[Hashable, Any] = OrderedDict()

    @property
    def spec(self) -> ModelSpec:
        return self.backend.spec

    def with_spec(self, spec: ModelSpec) -> RememberingBackend:
        """Under another spec, with what is remembered: a spec does not change the encoders."""
        other = copy(self)
        other.backend = self.backend.with_spec(spec)
        return other

    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        key = ("image", image.shape, digest(image))
        return self._once(key, lambda: self.backend.encode_image(image))

    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        key = ("audio", digest(waveform))
        return self._once(key, lambda: self.backend.encode_audio(waveform))

    def ground(
        self, image_tokens: ImageTokens, vectors: Float32[np.ndarray, "k n c"]
    ) -> Float32[np.ndarray, "k n h w"]:
        return self.backend.ground(image_tokens, vectors)

    def describe(self) -> dict[str, Any]:
        return self.backend.describe()

    def _once(self, key: Hashable, encode: Callable[[], Any]) -> Any:
        if key not in self._remembered:
            self._remembered[key] = encode()
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        self._remembered.move_to_end(key)
        return self._remembered[key]


def digest(values: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest()
