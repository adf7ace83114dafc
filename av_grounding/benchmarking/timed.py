"""A backend and a stream that tell the time of the encoders from all other time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.backends.wrapping import BackendWrapper
from av_grounding.streaming.wrapping import StreamWrapper
from av_grounding.types import AudioStream, Backend, Grounding, ImageTokens, Stream


class TimedBackend(BackendWrapper):
    """A backend that adds up the time its encoders take, a thread; `clock` gives seconds."""

    def __init__(self, backend: Backend, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(backend)
        self.clock = clock
        self._spent = threading.local()

    @property
    def encoder_s(self) -> float:
        """Seconds that this thread spent in the encoders."""
        return getattr(self._spent, "seconds", 0.0)

    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        return self.timed(self.backend.encode_image, image)

    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        return self.timed(self.backend.encode_audio, waveform)

    def encode_audio_batch(
        self, waveforms: Float32[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, "n k c t"]:
        return self.timed(self.backend.encode_audio_batch, waveforms)

    def audio_stream(self) -> TimedAudioStream | None:
        stream = self.backend.audio_stream()
        return None if stream is None else TimedAudioStream(self, stream)

    def timed(self, encode: Callable[[Any], Any], value: np.ndarray) -> Any:
        """`encode(value)`, whose time counts as an encoder's."""
        began = self.clock()
        try:
            return encode(value)
        finally:
            self._spent.seconds = self.encoder_s + self.clock() - began


class TimedAudioStream:
    """An audio stream whose time counts as its backend's encoders'."""

    def __init__(self, backend: TimedBackend, stream: AudioStream) -> None:
        self._backend, self._stream = backend, stream

    def encode(
        self, waveform: Float32[np.ndarray, " s"], num_new: int
    ) -> Float32[np.ndarray, "k c t"]:
        return self._backend.timed(lambda window: self._stream.encode(window, num_new), waveform)

    def reset(self) -> None:
        self._stream.reset()


class TimedStream(StreamWrapper):
    """A stream that records, frame by frame, what was spent outside the encoders.

    A frame's entry holds its own share and that of the sound which came since the last frame.
    """

    def __init__(self, stream: Stream, encoders: TimedBackend) -> None:
        super().__init__(stream)
        self._encoders = encoders
        self.not_encoder_s: list[float] = []
        self._waiting_s = 0.0

    def push_audio(self, samples: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        began = self._own_time()
        self.stream.push_audio(samples, stamp_ns, sample_rate_hz)
        self._waiting_s += self._own_time() - began

    def push_frame(self, image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Grounding:
        began = self._own_time()
        grounding = self.stream.push_frame(image, stamp_ns, frame_id)
        self.not_encoder_s.append(self._waiting_s + self._own_time() - began)
        self._waiting_s = 0.0
        return grounding

    def _own_time(self) -> float:
        return self._encoders.clock() - self._encoders.encoder_s
