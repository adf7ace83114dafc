"""Live running: a thread a capture, one for the model; the caller's thread feeds the sinks."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from av_grounding.audio import NS_PER_S, chunk_duration_ns
from av_grounding.streaming.age import AgeLimit, arrival_s
from av_grounding.streaming.handover import AudioQueue, LatestFrame, Pacer
from av_grounding.streaming.report import RunReport
from av_grounding.streaming.unanswered import UnansweredWatch
from av_grounding.types import AudioChunk, EncodedFrame, Frame, Grounding, Sink, Source, Stream

LOGGER = logging.getLogger(__name__)
POLL_S = 0.1
"""How long a wait may last before it looks at the stop flag again."""
MAX_AUDIO_BACKLOG_S = 0.5
"""Beyond this much waiting audio, audio goes before frames, or it would never catch up."""
CATCH_UP_S = 0.1
"""How long a waiting frame lets late audio go first: with too slow a machine it never ends."""
END_S = 1.0
"""How long the sound that waits is taken in after the last frame, and how long after its duration
a run waits for a video that gives no frame which would end it."""
MAX_UNWRITTEN_RESULTS = 4


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
        next one is there; sinks get it with the same frame.
        """
        if max_audio_queue_s <= 0.0:
            raise ValueError(f"max_audio_queue_s {max_audio_queue_s}: expected positive seconds")
        self._age = AgeLimit(max_image_age_s)
        self._stream = stream
        self._video = video
        self._audio = audio
        self._sinks = list(sinks)
        self._pacer = Pacer(1 if audio is None else 2) if is_paced else None
        self._watch = UnansweredWatch(
            has_sound=audio is not None, is_sound_watched=is_sound_watched
        )
        self._duration_s = duration_s
        self._is_wanted = is_wanted
        self._on_progress = on_progress
        self._join_timeout_s = join_timeout_s
        self._changed = threading.Condition()
        self._frames = LatestFrame()
        self._sees_apart = stream.backend.sees_slowly
        self._ready = LatestFrame() if self._sees_apart else self._frames
        """Where the model finds its next frame."""
        self._answers_again = answers_again
        self._answered: Frame | None = None
        self._chunks = AudioQueue(max_audio_queue_s)
        self._results: queue.Queue[tuple[Frame, Grounding] | None] = queue.Queue(
            MAX_UNWRITTEN_RESULTS
        )
        self._ends_s = float("inf")
        self._stopped = threading.Event()
        self._errors: list[BaseException] = []
        self._report = RunReport()

    def stop(self) -> None:
        """End the run soon, from any thread; what was published is kept."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def forget_waiting(self) -> None:
        """Drop the frame and the sound that wait for the model, from any thread."""
        with self._changed:
            self._frames.clear()
            self._ready.clear()
            self._chunks.clear()

    def run(self) -> RunReport:
        """Run to the end, then close sources and sinks, also on an error or Ctrl-C.

        Raises the first error of a source, the model or a sink, once everything is closed.
        """
        started_s = time.monotonic()
        if self._stream.backend.hears_slowly:
            self._stream.hear_apart()
        threads = [self._thread("video", self._capture_video), self._thread("model", self._model)]
        if self._sees_apart:
            threads.append(self._thread("eye", self._see))
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
        return self._age.max_s

    @max_image_age_s.setter
    def max_image_age_s(self, seconds: float) -> None:
        self._age.max_s = seconds

    @property
    def counters(self) -> dict[str, Any]:
        """The counters so far, from any thread; numbers only, the stream's own under "stream"."""
        report = self._report
        return {
            "num_frames_captured": self._frames.num_put,
            "num_frames_published": report.num_frames_published,
            "num_frames_replaced": self._num_replaced,
            "num_frames_too_old": report.num_frames_too_old,
            "num_frames_unreadable": report.num_frames_unreadable,
            "num_frames_unwanted": report.num_frames_unwanted,
            "num_published_late": report.num_published_late,
            "num_audio_chunks": self._chunks.num_put,
            "num_audio_overruns": self._chunks.num_overruns,
            "queued_audio_s": self._chunks.queued_s,
            "stream": self._stream.stats,
        }

    @property
    def _num_replaced(self) -> int:
        seen = self._ready.num_replaced if self._sees_apart else 0
        return self._frames.num_replaced + seen

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
            kinds = (Frame, EncodedFrame)
            for frame in self._items(self._video, kinds, lambda frame: frame.stamp_ns):
                if first_ns is None:
                    first_ns = frame.stamp_ns
                    if self._duration_s is not None:
                        self._ends_s = time.monotonic() + self._duration_s + END_S
                elapsed_s = (frame.stamp_ns - first_ns) / NS_PER_S
                if self._duration_s is not None and elapsed_s >= self._duration_s:
                    break
                with self._changed:
                    self._frames.put(frame, arrival_s(frame))
                    self._changed.notify_all()
                self._speak_up()
        finally:
            with self._changed:
                self._frames.has_ended = True
                self._changed.notify_all()

    def _speak_up(self) -> None:
        # As frames come, in their thread: neither a busy model nor a slow sink keeps it quiet.
        now_s = time.monotonic()
        if not self._watch.is_due(now_s):
            return
        counters = {**self.counters, "num_unwritten": self._results.qsize()}
        offset_s = self._stream.config.audio_offset_s
        for line in self._watch.look(counters, now_s, self._age.max_s, offset_s):
            LOGGER.warning("%s", line)

    def _capture_audio(self) -> None:
        assert self._audio is not None
        # A driver hands a chunk over once its last sample is in.
        for chunk in self._items(
            self._audio, (AudioChunk,), lambda chunk: chunk.stamp_ns + chunk_duration_ns(chunk)
        ):
            with self._changed:
                num_lost = self._chunks.put(chunk)
                self._changed.notify_all()
            if num_lost == self._chunks.num_overruns > 0:  # said once, counted on
                LOGGER.warning("the model is too slow: audio is dropped, and counted")

    def _items(
        self, source: Source, kinds: tuple[type, ...], due_ns: Callable[[Any], int]
    ) -> Iterable[Any]:
        """What the source gives, paced where asked, until the run is stopped."""
        has_entered = False
        try:
            for item in source:
                if self._stopped.is_set():
                    return
                if not isinstance(item, kinds):
                    expected = kinds[0].__name__
                    raise TypeError(f"source gave {type(item).__name__}: expected {expected}")
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
                if time.monotonic() > self._ends_s:
                    return
                with self._changed:
                    self._changed.wait_for(self._has_work, POLL_S)
                    taken = self._ready.take()
                    is_over = taken is None and self._ready.has_ended
                self._stream.is_idle = not self._is_wanted()
                if taken is not None:
                    frame = taken[0] if self._sees_apart else self._to_answer(*taken)
                    if frame is not None:
                        self._answer(frame, taken[1])
                elif is_over:
                    return
                self._push_waiting_audio()
                if self._answered is not None and not self._stream.is_idle:
                    self._answer_again(self._answered)
        finally:
            self._put_result(None)

    def _has_work(self) -> bool:
        has_input = self._ready.waiting is not None or bool(self._chunks.chunks)
        return has_input or self._ready.has_ended or self._stopped.is_set()

    def _is_on_time(self) -> bool:
        return self._chunks.queued_s <= MAX_AUDIO_BACKLOG_S or self._stopped.is_set()

    def _see(self) -> None:
        """Encode the newest frame, and the next once it is done; the model answers meanwhile."""
        looked_s = 0.0
        try:
            while not self._stopped.is_set():
                with self._changed:
                    # One processor may serve both: late sound gets half of the time at least.
                    self._changed.wait_for(self._is_on_time, min(looked_s, END_S))
                    self._changed.wait_for(
                        lambda: self._frames.waiting is not None or self._frames.has_ended, POLL_S
                    )
                    taken = self._frames.take()
                    if taken is None and self._frames.has_ended:
                        return
                frame = None if taken is None else self._to_answer(*taken)
                if taken is None or frame is None:
                    continue
                began_s = time.monotonic()
                self._stream.look(frame.image)
                looked_s = time.monotonic() - began_s
                with self._changed:
                    self._ready.put(frame, taken[1])
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._ready.has_ended = True
                self._changed.notify_all()

    def _push_waiting_audio(self) -> None:
        began_s = time.monotonic()
        while not self._stopped.is_set():
            with self._changed:
                is_behind = self._chunks.queued_s > MAX_AUDIO_BACKLOG_S
                taken_s = time.monotonic() - began_s
                may_catch_up = is_behind and taken_s < CATCH_UP_S
                if self._ready.waiting is not None and not may_catch_up:
                    return
                if self._ready.has_ended and taken_s > END_S:
                    return
                chunk = self._chunks.take()
            if chunk is None:
                return
            self._stream.push_audio(chunk.samples, chunk.stamp_ns, chunk.sample_rate_hz)

    def _to_answer(self, taken: Frame | EncodedFrame, arrived_s: float) -> Frame | None:
        """The frame, decoded; None, and counted, where it gets no answer."""
        if not self._is_wanted():
            self._report.num_frames_unwanted += 1
            return None
        if self._age.is_over(arrived_s):
            self._report.num_frames_too_old += 1
            return None
        frame = taken.decode() if isinstance(taken, EncodedFrame) else taken
        self._report.num_frames_unreadable += frame is None
        return frame

    def _answer(self, frame: Frame, arrived_s: float) -> None:
        grounding = self._stream.push_frame(frame.image, frame.stamp_ns, frame.frame_id)
        age_s = self._age.age_s(arrived_s)
        if self._put_result((frame, grounding)):
            self._report.latency.record(age_s)
            self._report.num_published_late += age_s > self._age.max_s
        if self._answers_again:
            self._answered = frame

    def _answer_again(self, frame: Frame) -> None:
        if self._results.full():  # sinks are slow: a further answer is not worth waiting for
            return
        grounding = self._stream.answer_again()
        if grounding is not None and self._put_result((frame, grounding)):
            self._report.num_answered_again += 1

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
        report.num_frames_captured = self._frames.num_put
        report.num_frames_replaced = self._num_replaced
        report.num_audio_chunks = self._chunks.num_put
        report.num_audio_overruns = self._chunks.num_overruns
        report.num_frames_unanswered = (
            report.num_frames_captured
            - report.num_frames_published
            - report.num_frames_replaced
            - report.num_frames_too_old
            - report.num_frames_unreadable
            - report.num_frames_unwanted
        )
        report.stream = self._stream.stats
