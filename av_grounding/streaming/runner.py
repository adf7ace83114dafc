"""Live running: one thread per capture, one for the model; the caller's thread feeds the sinks."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from av_grounding.audio import NS_PER_S, samples_to_ns
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.report import RunReport
from av_grounding.streaming.waiting import Inbox, Pacer
from av_grounding.types import AudioChunk, Frame, Grounding, Sink, Source

LOGGER = logging.getLogger(__name__)
POLL_S = 0.1
"""How long a wait may last before it looks at the stop flag again."""
MAX_AUDIO_BACKLOG_S = 0.5
"""Beyond this much waiting audio, audio goes before frames, or it would never catch up."""
CATCH_UP_S = 0.1
"""How long a waiting frame lets late audio go first: with too slow a machine it never ends."""
MAX_UNWRITTEN_RESULTS = 4


class Runner:
    """Runs a stream from sources to sinks in real time until the video ends or it is stopped.

    A frame waits for nothing: it is grounded as soon as the model is free, newest first, with the
    sound that has arrived. Audio waits in a queue and is never dropped silently. Sinks are
    written in the thread that calls `run`; where they are slow, frames are dropped and counted.
    """

    def __init__(
        self,
        stream: GroundingStream,
        video: Source,
        audio: Source | None = None,
        sinks: Sequence[Sink] = (),
        *,
        is_paced: bool = False,
        max_image_age_s: float = 0.1,
        max_audio_queue_s: float = 10.0,
        duration_s: float | None = None,
        clock_ns: Callable[[], int] | None = None,
        on_progress: Callable[[float], None] | None = None,
        join_timeout_s: float = 5.0,
    ) -> None:
        """`is_paced`: release files at the pace of their stamps; devices pace themselves.

        `max_image_age_s`: a frame older than this when its turn comes is dropped and counted.
        Ages and latencies count from `clock_ns`'s reading at the frame's stamp, where that clock
        is given (the one that stamps the frames), or else from the frame's arrival.
        `on_progress` hears how many seconds of video were answered.
        """
        if max_image_age_s <= 0.0 or max_audio_queue_s <= 0.0:
            raise ValueError(
                f"max_image_age_s {max_image_age_s}, max_audio_queue_s {max_audio_queue_s}: "
                "expected positive seconds"
            )
        self._stream = stream
        self._video = video
        self._audio = audio
        self._sinks = list(sinks)
        self._pacer = Pacer(1 if audio is None else 2) if is_paced else None
        self._max_image_age_s = max_image_age_s
        self._duration_s = duration_s
        self._clock_ns = clock_ns
        self._on_progress = on_progress
        self._join_timeout_s = join_timeout_s
        self._inbox = Inbox(max_audio_queue_s)
        self._results: queue.Queue[tuple[Frame, Grounding] | None] = queue.Queue(
            MAX_UNWRITTEN_RESULTS
        )
        self._stopped = threading.Event()
        self._errors: list[BaseException] = []
        self._report = RunReport()

    def stop(self) -> None:
        """End the run soon, from any thread; what was published is kept."""
        self._stopped.set()
        with self._inbox.changed:
            self._inbox.changed.notify_all()

    def forget_waiting(self) -> None:
        """Drop the frame and the sound that wait for the model, from any thread."""
        with self._inbox.changed:
            self._inbox.clear()

    def run(self) -> RunReport:
        """Run to the end, then close sources and sinks, also on an error or Ctrl-C.

        Raises the first error of a source, the model or a sink, once everything is closed.
        """
        started_s = time.monotonic()
        threads = [self._thread("video", self._capture_video), self._thread("model", self._model)]
        if self._audio is not None:
            threads.append(self._thread("audio", self._capture_audio))
        try:
            for thread in threads:
                thread.start()
            self._write_results()
        finally:
            self._shut_down(threads)
            self._fill_report(time.monotonic() - started_s)
        if self._errors:
            raise self._errors[0]
        return self._report

    @property
    def report(self) -> RunReport:
        """The counters; complete once `run` has returned or raised."""
        return self._report

    @property
    def max_image_age_s(self) -> float:
        """As given to the constructor; may change while it runs."""
        return self._max_image_age_s

    @max_image_age_s.setter
    def max_image_age_s(self, seconds: float) -> None:
        self._max_image_age_s = seconds

    @property
    def counters(self) -> dict[str, Any]:
        """The counters so far, from any thread; numbers only, the stream's own under "stream"."""
        report, inbox = self._report, self._inbox
        return {
            "num_frames_captured": inbox.num_frames,
            "num_frames_published": report.num_frames_published,
            "num_frames_replaced": inbox.num_replaced,
            "num_frames_too_old": report.num_frames_too_old,
            "num_published_late": report.num_published_late,
            "num_audio_chunks": inbox.num_chunks,
            "num_audio_overruns": inbox.num_overruns,
            "queued_audio_s": inbox.queued_audio_s,
            "stream": self._stream.stats,
        }

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        # Daemon: a driver that hangs in a read must not keep the process alive.
        return threading.Thread(
            target=self._surface_errors, args=(target,), name=f"av-{name}", daemon=True
        )

    def _surface_errors(self, target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:
            # Closing a source while it is read may well raise there: the run is over already.
            if not self._stopped.is_set():
                self._errors.append(error)
            self.stop()

    def _capture_video(self) -> None:
        first_ns: int | None = None
        try:
            for frame in self._items(self._video, Frame, lambda frame: frame.stamp_ns):
                first_ns = frame.stamp_ns if first_ns is None else first_ns
                elapsed_s = (frame.stamp_ns - first_ns) / NS_PER_S
                if self._duration_s is not None and elapsed_s >= self._duration_s:
                    break
                with self._inbox.changed:
                    self._inbox.put_frame(frame, time.monotonic())
        finally:
            with self._inbox.changed:
                self._inbox.video_ended = True
                self._inbox.changed.notify_all()

    def _capture_audio(self) -> None:
        assert self._audio is not None
        # A driver hands a chunk over once its last sample is in.
        for chunk in self._items(
            self._audio,
            AudioChunk,
            lambda chunk: (
                chunk.stamp_ns + samples_to_ns(len(chunk.samples), max(1, chunk.sample_rate_hz))
            ),
        ):
            with self._inbox.changed:
                num_lost = self._inbox.put_chunk(chunk)
            if num_lost == self._inbox.num_overruns > 0:  # said once, counted on
                LOGGER.warning("the model is too slow: audio is dropped, and counted")

    def _items(
        self, source: Source, kind: type, due_ns: Callable[[Frame | AudioChunk], int]
    ) -> Iterable[Frame | AudioChunk]:
        """What the source gives, paced where asked, until the run is stopped."""
        has_entered = False
        try:
            for item in source:
                if self._stopped.is_set():
                    return
                if not isinstance(item, kind):
                    raise TypeError(f"source gave {type(item).__name__}: expected {kind.__name__}")
                if self._pacer is not None:
                    if not has_entered:
                        has_entered = True
                        self._pacer.enter(item.stamp_ns)
                    self._pacer.wait(due_ns(item), self._stopped)
                    if self._stopped.is_set():
                        return
                yield item
        finally:
            if self._pacer is not None and not has_entered:
                self._pacer.enter(None)

    def _model(self) -> None:
        """Frames first; between two frames, the audio that waits, hop by hop."""
        try:
            while not self._stopped.is_set():
                with self._inbox.changed:
                    self._inbox.changed.wait_for(self._has_work, POLL_S)
                    taken = self._inbox.take_frame()
                    is_over = taken is None and self._inbox.video_ended
                if taken is not None:
                    self._answer(*taken)
                elif is_over:
                    return
                self._push_waiting_audio()
        finally:
            self._put_result(None)

    def _has_work(self) -> bool:
        inbox = self._inbox
        has_input = inbox.frame is not None or bool(inbox.chunks)
        return has_input or inbox.video_ended or self._stopped.is_set()

    def _push_waiting_audio(self) -> None:
        patience_ends_s = time.monotonic() + CATCH_UP_S
        while not self._stopped.is_set():
            with self._inbox.changed:
                is_behind = self._inbox.queued_audio_s > MAX_AUDIO_BACKLOG_S
                may_catch_up = is_behind and time.monotonic() < patience_ends_s
                if self._inbox.frame is not None and not may_catch_up:
                    return
                chunk = self._inbox.take_chunk()
            if chunk is None:
                return
            self._stream.push_audio(chunk.samples, chunk.stamp_ns, chunk.sample_rate_hz)

    def _age_s(self, frame: Frame, arrived_s: float) -> float:
        if self._clock_ns is not None:
            return (self._clock_ns() - frame.stamp_ns) / NS_PER_S
        return time.monotonic() - arrived_s

    def _answer(self, frame: Frame, arrived_s: float) -> None:
        if self._age_s(frame, arrived_s) > self._max_image_age_s:
            self._report.num_frames_too_old += 1
            return
        heatmaps = self._stream.push_frame(frame.image, frame.stamp_ns, frame.frame_id)
        age_s = self._age_s(frame, arrived_s)
        if self._put_result((frame, heatmaps)):
            self._report.latency.record(age_s)
            self._report.num_published_late += age_s > self._max_image_age_s

    def _put_result(self, result: tuple[Frame, Grounding] | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._results.put(result, timeout=POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def _write_results(self) -> None:
        first_ns: int | None = None
        while True:
            try:
                result = self._results.get(timeout=POLL_S)
            except queue.Empty:
                if self._stopped.is_set():
                    return
                continue
            if result is None:
                return
            frame, heatmaps = result
            for sink in self._sinks:
                sink.write(frame, heatmaps)
            self._report.num_frames_published += 1
            first_ns = frame.stamp_ns if first_ns is None else first_ns
            if self._on_progress is not None:
                self._on_progress((frame.stamp_ns - first_ns) / NS_PER_S)

    def _shut_down(self, threads: list[threading.Thread]) -> None:
        """Flag, wake, join, close: in this order, so that nothing is closed while in use."""
        self.stop()
        deadline_s = time.monotonic() + self._join_timeout_s
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, min(0.5, deadline_s - time.monotonic())))
        # A capture that still hangs in a read comes back when its source is closed.
        for source in (self._video, self._audio):
            if source is not None:
                self._close(source)
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))
                if thread.is_alive():
                    LOGGER.warning("thread %s did not end and is left behind", thread.name)
        for sink in self._sinks:
            self._close(sink)

    def _close(self, resource: Source | Sink) -> None:
        try:
            resource.close()
        except Exception as error:
            LOGGER.warning("closing %s failed: %s", type(resource).__name__, error)
            self._errors.append(error)

    def _fill_report(self, duration_s: float) -> None:
        report, inbox = self._report, self._inbox
        report.duration_s = duration_s
        report.num_frames_captured = inbox.num_frames
        report.num_frames_replaced = inbox.num_replaced
        report.num_audio_chunks = inbox.num_chunks
        report.num_audio_overruns = inbox.num_overruns
        report.num_frames_unanswered = (
            report.num_frames_captured
            - report.num_frames_published
            - report.num_frames_replaced
            - report.num_frames_too_old
        )
        report.stream = self._stream.stats
