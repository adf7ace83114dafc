"""The stream of a run that is recorded.

A live frame is answered with the sound that had been taken in by then, so a recording that is to
give the same answers must keep the order in which the model took things, not the order of their
stamps. `RecordedStream` therefore stands where the model is called, and log times count up in
that order; a replay follows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from av_grounding.audio import samples_to_ns
from av_grounding.streaming.config import StreamingConfig
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.types import AudioChunk, Backend, Frame, Grounding

if TYPE_CHECKING:
    from av_grounding.transports.bag.recorder import BagRecorder


class RecordedStream(GroundingStream):
    """A GroundingStream that shows a recorder everything it takes in and answers, in order."""

    def __init__(
        self, backend: Backend, config: StreamingConfig | None, recorder: BagRecorder
    ) -> None:
        super().__init__(backend, config)
        self._recorder = recorder

    def push_audio(self, samples: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        chunk = AudioChunk(samples, int(stamp_ns), int(sample_rate_hz))
        end_ns = chunk.stamp_ns + samples_to_ns(len(samples), max(1, chunk.sample_rate_hz))
        log_ns = self._recorder.log_time_ns(end_ns)
        super().push_audio(samples, stamp_ns, sample_rate_hz)
        if len(samples):
            self._recorder.take_audio(chunk, log_ns)

    def push_frame(self, image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Grounding:
        log_ns = self._recorder.log_time_ns(int(stamp_ns))
        heatmaps = super().push_frame(image, stamp_ns, frame_id)
        answer_ns = self._recorder.log_time_ns(int(stamp_ns))
        frame = Frame(image, heatmaps.stamp_ns, frame_id)
        self._recorder.take_frame(frame, heatmaps, log_ns, answer_ns)
        return heatmaps
