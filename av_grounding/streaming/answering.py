"""What the model's threads of a run do: frames first, sound hop by hop, answers to the sinks."""

from __future__ import annotations

import time
from collections.abc import Callable

from av_grounding.streaming.age import AgeLimit
from av_grounding.streaming.handover import END_S, POLL_S, Handover
from av_grounding.streaming.report import RunReport
from av_grounding.types import EncodedFrame, Frame, Stream

MAX_AUDIO_BACKLOG_S = 0.5
"""Beyond this much waiting audio, audio goes before frames, or it would never catch up."""
CATCH_UP_S = 0.1
"""How long a waiting frame lets late audio go first: with too slow a machine it never ends."""


class Answering:
    """Takes the newest frame and all sound from the hand-over and puts the answers there.

    `answer` runs in the model's thread, `see` beside it where frames are encoded apart.
    """

    def __init__(
        self,
        stream: Stream,
        handover: Handover,
        report: RunReport,
        age: AgeLimit,
        *,
        is_wanted: Callable[[], bool],
        answers_again: bool,
        takes_last_sound: bool,
    ) -> None:
        """What becomes of frames is counted in `report`; the rest as for `Runner`."""
        self._stream, self._handover = stream, handover
        self._report, self._age = report, age
        self._is_wanted, self._answers_again = is_wanted, answers_again
        self._takes_last_sound = takes_last_sound
        self._answered: Frame | None = None

    def answer(self) -> None:
        """Frames first; between two frames, the audio that waits, hop by hop."""
        try:
            self._answer_frames()
            if self._takes_last_sound:
                self._push_last_audio()
            self._stream.end_sound()
        finally:
            self._handover.put_result(None)

    def _answer_frames(self) -> None:
        while not self._handover.stopped.is_set() and time.monotonic() <= self._handover.ends_s:
            with self._handover.changed:
                self._handover.changed.wait_for(self._has_work, POLL_S)
                taken = self._handover.ready.take()
                is_over = taken is None and self._handover.ready.has_ended
            self._stream.is_idle = not self._is_wanted()
            if taken is not None:
                frame = taken[0] if self._handover.sees_apart else self._to_answer(*taken)
                if frame is not None:
                    self._answer_frame(frame, taken[1])
            elif is_over:
                return
            self._push_waiting_audio()
            if self._answered is not None and not self._stream.is_idle:
                self._answer_again(self._answered)

    def _push_last_audio(self) -> None:
        """What waits, and unless the run was stopped what comes, for `END_S` at most."""
        until_s = time.monotonic() + END_S
        while True:
            with self._handover.changed:
                while not (
                    self._handover.chunks.chunks
                    or self._handover.chunks.has_ended
                    or self._handover.stopped.is_set()
                    or time.monotonic() > until_s
                ):
                    self._handover.changed.wait(POLL_S)
                chunk = self._handover.chunks.take()
            if chunk is None or time.monotonic() > until_s:
                return
            self._stream.push_audio(chunk.samples, chunk.stamp_ns, chunk.sample_rate_hz)

    def _has_work(self) -> bool:
        has_input = self._handover.ready.waiting is not None or bool(self._handover.chunks.chunks)
        return has_input or self._handover.ready.has_ended or self._handover.stopped.is_set()

    def _is_on_time(self) -> bool:
        return (
            self._handover.chunks.queued_s <= MAX_AUDIO_BACKLOG_S
            or self._handover.stopped.is_set()
        )

    def see(self) -> None:
        """Encode the newest frame, and the next once it is done; the model answers meanwhile."""
        looked_s = 0.0
        try:
            while not self._handover.stopped.is_set():
                with self._handover.changed:
                    # One processor may serve both: late sound gets half of the time at least.
                    self._handover.changed.wait_for(self._is_on_time, min(looked_s, END_S))
                    self._handover.changed.wait_for(
                        lambda: (
                            self._handover.frames.waiting is not None
                            or self._handover.frames.has_ended
                        ),
                        POLL_S,
                    )
                    taken = self._handover.frames.take()
                    if taken is None and self._handover.frames.has_ended:
                        return
                frame = None if taken is None else self._to_answer(*taken)
                if taken is None or frame is None:
                    continue
                began_s = time.monotonic()
                self._stream.look(frame.image)
                looked_s = time.monotonic() - began_s
                self._handover.put_frame(self._handover.ready, frame, taken[1])
        finally:
            self._handover.end_frames(self._handover.ready)

    def _push_waiting_audio(self) -> None:
        began_s = time.monotonic()
        while not self._handover.stopped.is_set():
            with self._handover.changed:
                is_behind = self._handover.chunks.queued_s > MAX_AUDIO_BACKLOG_S
                taken_s = time.monotonic() - began_s
                may_catch_up = is_behind and taken_s < CATCH_UP_S
                if self._handover.ready.waiting is not None and not may_catch_up:
                    return
                if self._handover.ready.has_ended and taken_s > END_S:
                    return
                chunk = self._handover.chunks.take()
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

    def _answer_frame(self, frame: Frame, arrived_s: float) -> None:
        grounding = self._stream.push_frame(frame.image, frame.stamp_ns, frame.frame_id)
        age_s = self._age.age_s(arrived_s)
        if self._handover.put_result((frame, grounding)):
            self._report.latency.record(age_s)
            self._report.num_published_late += age_s > self._age.max_s
        if self._answers_again:
            self._answered = frame

    def _answer_again(self, frame: Frame) -> None:
        # Where sinks are slow a further answer is not worth waiting for.
        if self._handover.results.full():
            return
        grounding = self._stream.answer_again()
        if grounding is not None and self._handover.put_result((frame, grounding)):
            self._report.num_answered_again += 1
