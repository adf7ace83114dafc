"""Live running: a thread a capture, one for the model; the caller's thread feeds the sinks."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from av_grounding.audio import NS_PER_S
from av_grounding.streaming.age import AgeLimit
from av_grounding.streaming.answering import Answering
from av_grounding.streaming.capturing import Capturing
from av_grounding.streaming.handover import POLL_S, Handover
from av_grounding.streaming.report import RunReport
from av_grounding.streaming.unanswered import UnansweredWatch
from av_grounding.types import Sink, Source, Stream

LOGGER = logging.getLogger(__name__)


class Runner:
    """Runs a stream from sources to sinks in real time until the video ends or it is stopped.

    A frame waits for nothing: it is decoded and grounded as soon as the model is free, newest
    first, with the sound that has arrived. Audio waits in a queue and is never dropped silently.
    Where the backend `hears_slowly`, sound is encoded in a thread of its own; where it
    `sees_slowly`, so are frames: sound waits for none, and each is answered with what it shows.
    Sinks are written in the thread that calls `run`; where they are slow, frames are dropped and
    counted.
    """

    def __init__(
        self,
        stream: Stream,
        video: Source,
        audio: Source | None = None,
        sinks: Sequence[Sink] = (),
        *,
        is_paced: bool = False,
        max_image_age_s: float = 0.1,
        max_audio_queue_s: float = 10.0,
        duration_s: float | None = None,
        is_sound_watched: bool = False,
        is_wanted: Callable[[], bool] = lambda: True,
        on_progress: Callable[[float], None] | None = None,
        answers_again: bool = False,
        takes_last_sound: bool = False,
        join_timeout_s: float = 5.0,
    ) -> None:
        """`is_paced`: release files at the pace of their stamps; devices pace themselves.

        `max_image_age_s`: a frame older than this when its turn comes is dropped and counted
        (`AgeLimit`: ages and latencies count from arrival). Where frames come and nothing is
        answered for five seconds, or without sound, one line in the log says why;
        `is_sound_watched` says that somebody else does so for sound that does not come.
        `is_wanted` says whether anybody takes answers now: if not, nothing is decoded or encoded,
        and frames are counted as unwanted. `on_progress` hears how many seconds of video were
        answered. `answers_again`: newer sound answers the last frame again, once a hop, until the
        next one is there; sinks get it with the same frame. `takes_last_sound`: what waits when
        the run ends, or comes in the second after the last frame, is taken in first.
        """
        if max_audio_queue_s <= 0.0:
            raise ValueError(f"max_audio_queue_s {max_audio_queue_s}: expected positive seconds")
        self._age = AgeLimit(max_image_age_s)
        self._stream = stream
        self._video = video
        self._audio = audio
        self._sinks = list(sinks)
        self._watch = UnansweredWatch(
            has_sound=audio is not None, is_sound_watched=is_sound_watched
        )
        self._on_progress = on_progress
        self._join_timeout_s = join_timeout_s
        self._handover = Handover(
            sees_apart=stream.backend.sees_slowly, max_audio_queue_s=max_audio_queue_s
        )
        self._capturing = Capturing(
            self._handover,
            is_paced=is_paced,
            num_sources=1 if audio is None else 2,
            duration_s=duration_s,
        )
        self._report = RunReport()
        self._answering = Answering(
            stream,
            self._handover,
            self._report,
            self._age,
            is_wanted=is_wanted,
            answers_again=answers_again,
            takes_last_sound=takes_last_sound and audio is not None,
        )
        self._errors: list[BaseException] = []

    def stop(self) -> None:
        """End the run soon, from any thread; what was published is kept."""
        self._handover.stop()

    def forget_waiting(self) -> None:
        """Drop the frame and the sound that wait for the model, from any thread."""
        self._handover.forget()

    def run(self) -> RunReport:
        """Run to the end, then close sources and sinks, also on an error or Ctrl-C.

        Raises the first error of a source, the model or a sink, once everything is closed.
        """
        started_s = time.monotonic()
        if self._stream.backend.hears_slowly:
            self._stream.hear_apart()
        threads = [
            self._thread("video", partial(self._capturing.video, self._video, self._speak_up)),
            self._thread("model", self._answering.answer),
        ]
        if self._handover.sees_apart:
            threads.append(self._thread("eye", self._answering.see))
        if self._audio is not None:
            threads.append(self._thread("audio", partial(self._capturing.audio, self._audio)))
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
        return self._age.max_s

    @max_image_age_s.setter
    def max_image_age_s(self, seconds: float) -> None:
        self._age.max_s = seconds

    @property
    def counters(self) -> dict[str, Any]:
        """The counters so far, from any thread; numbers only, the stream's own under "stream"."""
        report = self._report
        return {
            "num_frames_captured": self._handover.frames.num_put,
            "num_frames_published": report.num_frames_published,
            "num_frames_replaced": self._handover.num_replaced,
            "num_frames_too_old": report.num_frames_too_old,
            "num_frames_unreadable": report.num_frames_unreadable,
            "num_frames_unwanted": report.num_frames_unwanted,
            "num_published_late": report.num_published_late,
            "num_audio_chunks": self._handover.chunks.num_put,
            "num_audio_overruns": self._handover.chunks.num_overruns,
            "queued_audio_s": self._handover.chunks.queued_s,
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
            if not self._handover.stopped.is_set():
                self._errors.append(error)
            self.stop()

    def _speak_up(self) -> None:
        # As frames come, in their thread: neither a busy model nor a slow sink keeps it quiet.
        now_s = time.monotonic()
        if not self._watch.is_due(now_s):
            return
        counters = {**self.counters, "num_unwritten": self._handover.results.qsize()}
        offset_s = self._stream.config.audio_offset_s
        for line in self._watch.look(counters, now_s, self._age.max_s, offset_s):
            LOGGER.warning("%s", line)

    def _write_results(self) -> None:
        first_ns: int | None = None
        while True:
            try:
                result = self._handover.results.get(timeout=POLL_S)
            except queue.Empty:
                if self._handover.stopped.is_set():
                    return
                continue
            if result is None:
                return
            frame, grounding = result
            for sink in self._sinks:
                sink.write(frame, grounding)
            self._report.num_frames_published += grounding.heard_ns is None
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
        self._stream.finish(max(0.0, deadline_s - time.monotonic()))
        for sink in self._sinks:
            self._close(sink)

    def _close(self, resource: Source | Sink) -> None:
        try:
            resource.close()
        except Exception as error:
            LOGGER.warning("closing %s failed: %s", type(resource).__name__, error)
            self._errors.append(error)

    def _fill_report(self, duration_s: float) -> None:
        report = self._report
        report.duration_s = duration_s
        report.num_frames_captured = self._handover.frames.num_put
        report.num_frames_replaced = self._handover.num_replaced
        report.num_audio_chunks = self._handover.chunks.num_put
        report.num_audio_overruns = self._handover.chunks.num_overruns
        report.num_frames_unanswered = (
            report.num_frames_captured
            - report.num_frames_published
            - report.num_frames_replaced
            - report.num_frames_too_old
            - report.num_frames_unreadable
            - report.num_frames_unwanted
        )
        report.stream = self._stream.stats
