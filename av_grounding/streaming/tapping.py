"""A stream whose separated sound goes to all who want it: a file, the page, a topic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.separating import LOOKAHEAD_S, LiveSeparation, Place
from av_grounding.streaming.wrapping import StreamWrapper
from av_grounding.types import AudioChunk, Backend, Frame, Grounding, Stream

Ask = Callable[[tuple[int, int]], Place | None]
"""The place that is wanted on a frame of (H, W) pixels; None: none."""
Take = Callable[[AudioChunk, Frame], None]
"""Given what is done of the sound, and the frame after which it was."""


class TappedStream(StreamWrapper):
    """Separates one place at a time: that of the first, in the order of `tap`, who asks for one.

    Everybody who tapped takes its sound. Places are asked for before every frame and sound is
    handed on after it, by the thread that runs the stream.
    """

    def __init__(self, stream: Stream, *, lookahead_s: float = LOOKAHEAD_S) -> None:
        super().__init__(stream)
        self._lookahead_s = lookahead_s
        self._taps: list[tuple[Ask, Take]] = []
        self._place: Place | None = None
        self.first_frame_ns: int | None = None
        """The stamp of the first frame; None before it."""
        self._frame: Frame | None = None

    def tap(self, ask: Ask, take: Take) -> None:
        """From the next frame on."""
        self._taps.append((ask, take))

    def begin(self, place: Place) -> None:
        """Separate a place from the first sound on, which comes before any frame asks for it."""
        self._place = place
        self.stream.separate(place, lookahead_s=self._lookahead_s)

    def push_frame(self, image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Grounding:
        asked = (ask(image.shape[:2]) for ask, _ in self._taps)
        place = next((one for one in asked if one is not None), None)
        if place != self._place:
            self._place = place
            self.stream.separate(place, lookahead_s=self._lookahead_s)
        grounding = self.stream.push_frame(image, stamp_ns, frame_id)
        self._frame = Frame(image, stamp_ns, frame_id)
        if self.first_frame_ns is None:
            self.first_frame_ns = stamp_ns
        self._hand_on(self._frame)
        return grounding

    def end_sound(self) -> None:
        self.stream.end_sound()
        if self._frame is not None:
            self._hand_on(self._frame)

    def _hand_on(self, frame: Frame) -> None:
        while self._place is not None and (chunk := self.stream.separated()) is not None:
            for _, take in self._taps:
                take(chunk, frame)


def separation_latency_s(
    backend: Backend, config: StreamingConfig, lookahead_s: float = LOOKAHEAD_S
) -> float:
    """Of such a stream's separation; ValueError, before a run begins, where there can be none."""
    hop = round((config.hop_s or backend.spec.hop_s) * backend.spec.sample_rate_hz)
    return LiveSeparation(backend, hop, "peak", lookahead_s=lookahead_s).latency_s
