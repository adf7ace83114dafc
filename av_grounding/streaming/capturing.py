"""What the capture threads of a run do: read a source, paced where asked, and hand over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from av_grounding.audio import NS_PER_S, chunk_duration_ns
from av_grounding.streaming.age import arrival_s
from av_grounding.streaming.handover import END_S, Handover, Pacer
from av_grounding.types import AudioChunk, EncodedFrame, Frame, Source

LOGGER = logging.getLogger(__name__)


class Capturing:
    """Hands frames and sound over until their source ends or the run does.

    `video` and `audio` each run in a thread of their own.
    """

    def __init__(
        self, handover: Handover, *, is_paced: bool, num_sources: int, duration_s: float | None
    ) -> None:
        """Arguments as for `Runner`; all `num_sources` are waited for where they are paced."""
        self._handover = handover
        self._pacer = Pacer(num_sources) if is_paced else None
        self._duration_s = duration_s

    def video(self, source: Source, on_frame: Callable[[], None]) -> None:
        """Frames up to the duration; `on_frame` is called for each."""
        first_ns: int | None = None
        try:
            kinds = (Frame, EncodedFrame)
            for frame in self._items(source, kinds, lambda frame: frame.stamp_ns):
                if first_ns is None:
                    first_ns = frame.stamp_ns
                    if self._duration_s is not None:
                        self._handover.ends_s = time.monotonic() + self._duration_s + END_S
                elapsed_s = (frame.stamp_ns - first_ns) / NS_PER_S
                if self._duration_s is not None and elapsed_s >= self._duration_s:
                    break
                self._handover.put_frame(self._handover.frames, frame, arrival_s(frame))
                on_frame()
        finally:
            self._handover.end_frames(self._handover.frames)

    def audio(self, source: Source) -> None:
        """All of its sound; what the queue does not hold is said once and counted."""
        try:
            # A driver hands a chunk over once its last sample is in.
            for chunk in self._items(
                source, (AudioChunk,), lambda chunk: chunk.stamp_ns + chunk_duration_ns(chunk)
            ):
                with self._handover.changed:
                    num_lost = self._handover.chunks.put(chunk)
                    self._handover.changed.notify_all()
                if num_lost == self._handover.chunks.num_overruns > 0:  # said once, counted on
                    LOGGER.warning("the model is too slow: audio is dropped, and counted")
        finally:
            with self._handover.changed:
                self._handover.chunks.has_ended = True
                self._handover.changed.notify_all()

    def _items(
        self, source: Source, kinds: tuple[type, ...], due_ns: Callable[[Any], int]
    ) -> Iterable[Any]:
        """What the source gives, paced where asked, until the run is stopped."""
        has_entered = False
        try:
            for item in source:
                if self._handover.stopped.is_set():
                    return
                if not isinstance(item, kinds):
                    expected = kinds[0].__name__
                    raise TypeError(f"source gave {type(item).__name__}: expected {expected}")
                if self._pacer is not None:
                    if not has_entered:
                        has_entered = True
                        self._pacer.enter(item.stamp_ns)
                    self._pacer.wait(due_ns(item), self._handover.stopped)
                    if self._handover.stopped.is_set():
                        return
                yield item
        finally:
            if self._pacer is not None and not has_entered:
                self._pacer.enter(None)
