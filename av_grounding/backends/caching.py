"""A backend that encodes nothing twice: for comparing few pictures and clips in many pairs."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.backends.wrapping import BackendWrapper
from av_grounding.types import Backend, ImageTokens

MAX_KEPT = 512


class CachingBackend(BackendWrapper):
    """Another backend, whose encoders' latest answers are kept."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        # Shared with what `with_spec` gives: a spec does not change the encoders.
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        key = ("image", image.shape, digest(image))
        return self._once(key, lambda: self.backend.encode_image(image))

    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        key = ("audio", digest(waveform))
        return self._once(key, lambda: self.backend.encode_audio(waveform))

    def encode_audio_batch(
        self, waveforms: Float32[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, "n k c t"]:
        # One by one, so that what is kept does not depend on what came with it.
        return np.stack([self.encode_audio(waveform) for waveform in waveforms])

    def audio_stream(self) -> None:
        """None: an encoder that goes on from the last window could not be asked twice."""

    def _once(self, key: Hashable, encode: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = encode()
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def digest(values: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest()
