"""What stands around a stream: it has all that the stream has, and adds one thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.separating import LOOKAHEAD_S, Place
from av_grounding.types import AudioChunk, Backend, Grounding, Stream, VoiceMarks


class StreamWrapper:
    """A `Stream` that passes every call on to the one that it holds."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    @property
    def backend(self) -> Backend:
        return self.stream.backend

    @property
    def config(self) -> StreamingConfig:
        return self.stream.config

    @property
    def on_voice(self) -> Callable[[VoiceMarks], None] | None:
        return self.stream.on_voice

    @on_voice.setter
    def on_voice(self, told: Callable[[VoiceMarks], None] | None) -> None:
        self.stream.on_voice = told

    @property
    def is_idle(self) -> bool:
        return self.stream.is_idle

    @is_idle.setter
    def is_idle(self, is_idle: bool) -> None:
        self.stream.is_idle = is_idle

    @property
    def stats(self) -> dict[str, Any]:
        return self.stream.stats

    def push_audio(self, samples: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        self.stream.push_audio(samples, stamp_ns, sample_rate_hz)

    def push_frame(self, image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Grounding:
        return self.stream.push_frame(image, stamp_ns, frame_id)

    def look(self, image: np.ndarray) -> None:
        self.stream.look(image)

    def answer_again(self) -> Grounding | None:
        return self.stream.answer_again()

    def separate(self, place: Place | None, *, lookahead_s: float = LOOKAHEAD_S) -> float:
        return self.stream.separate(place, lookahead_s=lookahead_s)

    def separated(self) -> AudioChunk | None:
        return self.stream.separated()

    def end_sound(self) -> None:
        self.stream.end_sound()

    def reset(self) -> None:
        self.stream.reset()

    def hear_apart(self) -> None:
        self.stream.hear_apart()

    def finish(self, timeout_s: float | None = None) -> None:
        self.stream.finish(timeout_s)
