"""The stream of a run that is recorded.

A live frame is answered with the sound that had been taken in by then, so a recording that is to
give the same answers must keep the order in which the model took things, not the order of their
stamps. `RecordedStream` therefore stands where the model is called, and log times count up in
that order; a replay follows them.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from av_grounding.audio import chunk_duration_ns
from av_grounding.streaming.wrapping import StreamWrapper
from av_grounding.types import AudioChunk, Frame, Grounding, Stream


@runtime_checkable
class Tape(Protocol):
    """What a recorded stream is kept on."""

    def log_time_ns(self, due_ns: int) -> int: ...

    def take_audio(self, chunk: AudioChunk, log_ns: int) -> None: ...

    def take_frame(
        self, frame: Frame, grounding: Grounding, log_ns: int, answer_ns: int
    ) -> None: ...


class RecordedStream(StreamWrapper):
    """A stream that shows a recorder everything it takes in and answers, in order.

    Of a frame that is answered again the recording keeps the first answer.
    """

    def __init__(self, stream: Stream, tape: Tape) -> None:
        super().__init__(stream)
        self._tape = tape

    def push_audio(self, samples: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        chunk = AudioChunk(samples, int(stamp_ns), int(sample_rate_hz))
        log_ns = self._tape.log_time_ns(chunk.stamp_ns + chunk_duration_ns(chunk))
        self.stream.push_audio(samples, stamp_ns, sample_rate_hz)
        if len(samples):
            self._tape.take_audio(chunk, log_ns)

    def push_frame(self, image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Grounding:
        log_ns = self._tape.log_time_ns(int(stamp_ns))
        grounding = self.stream.push_frame(image, stamp_ns, frame_id)
        answer_ns = self._tape.log_time_ns(int(stamp_ns))
        frame = Frame(image, grounding.stamp_ns, frame_id)
        self._tape.take_frame(frame, grounding, log_ns, answer_ns)
        return grounding
