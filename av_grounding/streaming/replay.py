"""Sources to sinks in the order of their stamps, as fast as the machine can, deterministically."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack

from av_grounding.audio import NS_PER_S, chunk_duration_ns
from av_grounding.streaming.handover import END_S
from av_grounding.streaming.report import RunReport
from av_grounding.streaming.stray import StrayStamps
from av_grounding.types import AudioChunk, EncodedFrame, Frame, Sink, Source, Stream

LOGGER = logging.getLogger(__name__)
MAX_AHEAD_S = 10.0
"""So much sound is read ahead at most, to tell a slip of its stamps from a clock that was set."""
MAX_DISTANCE_S = 5.0
"""Sound that begins later than this after the frames is worth a word."""


def run_offline(
    video: Source,
    audio: Source | None,
    stream: Stream,
    sinks: Sequence[Sink] = (),
    *,
    duration_s: float | None = None,
    on_progress: Callable[[float], None] | None = None,
    report: RunReport | None = None,
    takes_last_sound: bool = False,
) -> RunReport:
    """Ground every frame with the sound up to its stamp (and the configured lookahead).

    No frame is dropped, and the same sources give the same bytes every time. Sources and sinks
    are closed at the end, also on an error or Ctrl-C. `duration_s` counts from the first frame;
    `on_progress` hears how many seconds of video were answered. A `report` that is passed in is
    filled as far as the run came, whatever ends it. Sound that the video source gives (a recording
    in its own order) is taken in where it stands. `takes_last_sound`: of the sound behind the last
    frame a second is taken in, too.
    """
    report = RunReport() if report is None else report
    started = time.monotonic()
    with ExitStack() as resources:
        resources.callback(_finish, report, stream, started)
        for resource in (*reversed(sinks), *(s for s in (audio, video) if s is not None)):
            resources.callback(resource.close)
        config = stream.config
        ahead_ns = round((config.lookahead_s - config.audio_offset_s) * NS_PER_S)
        feeder = _AudioFeeder(iter(()) if audio is None else iter(audio), stream, report)
        first_ns: int | None = None
        last_ns = 0
        for frame, is_stray in _by_next(video, round(config.max_gap_s * NS_PER_S)):
            if isinstance(frame, AudioChunk) and audio is None:
                stream.push_audio(frame.samples, frame.stamp_ns, frame.sample_rate_hz)
                report.num_audio_chunks += 1
                continue
            if not isinstance(frame, (Frame, EncodedFrame)):
                raise TypeError(f"the video source gave {type(frame).__name__}: expected Frame")
            first_ns = frame.stamp_ns if first_ns is None else first_ns
            elapsed_s = (frame.stamp_ns - first_ns) / NS_PER_S
            if duration_s is not None and elapsed_s >= duration_s:
                break
            report.num_frames_captured += 1
            last_ns = frame.stamp_ns
            if not is_stray:
                feeder.feed_until(frame.stamp_ns + ahead_ns)
            shown = frame.decode() if isinstance(frame, EncodedFrame) else frame
            if shown is None:
                report.num_frames_unreadable += 1
                continue
            begin = time.monotonic()
            grounding = stream.push_frame(shown.image, shown.stamp_ns, shown.frame_id)
            report.latency.record(time.monotonic() - begin)
            for sink in sinks:
                sink.write(shown, grounding)
            report.num_frames_published += 1
            if on_progress is not None:
                on_progress(elapsed_s)
        if takes_last_sound and first_ns is not None:
            feeder.feed_until(last_ns + round(END_S * NS_PER_S))
        stream.end_sound()
    return report


def _finish(report: RunReport, stream: Stream, started: float) -> None:
    report.duration_s = time.monotonic() - started
    report.stream = stream.stats


class _AudioFeeder:
    """Pushes chunks until a moment is covered; keeps the first one that begins after it."""

    def __init__(
        self, chunks: Iterator[Frame | AudioChunk], stream: Stream, report: RunReport
    ) -> None:
        config = stream.config
        # A replay may look ahead: what is stamped far off must not keep waiting what follows.
        self._stray = StrayStamps(config.max_gap_s, config.max_backstep_s, MAX_AHEAD_S)
        self._max_backstep_ns = round(config.max_backstep_s * NS_PER_S)
        self._chunks = self._mended(chunks)
        self._stream = stream
        self._report = report
        self._waiting: deque[AudioChunk] = deque()
        self._covered_ns: int | None = None
        self._asked_ns: int | None = None
        self._has_warned = False

    def feed_until(self, stamp_ns: int) -> None:
        """Push what begins by `stamp_ns`."""
        if self._asked_ns is not None and stamp_ns < self._asked_ns - self._max_backstep_ns:
            self._start_over()
        self._asked_ns = stamp_ns
        while self._covered_ns is None or self._covered_ns < stamp_ns:
            chunk = self._next()
            if chunk is None:
                return
            if chunk.stamp_ns > stamp_ns:
                self._waiting.appendleft(chunk)
                self._tell_distance((chunk.stamp_ns - stamp_ns) / NS_PER_S)
                return
            self._push(chunk)

    def _mended(self, chunks: Iterator[Frame | AudioChunk]) -> Iterator[AudioChunk]:
        for chunk in chunks:
            if not isinstance(chunk, AudioChunk):
                raise TypeError(
                    f"the audio source gave {type(chunk).__name__}: expected AudioChunk"
                )
            was_mended = self._stray.num_mended
            yield from self._stray.push(chunk)
            if self._stray.num_mended > was_mended == 0:
                LOGGER.warning(
                    "some sound is stamped far off; it is heard where the sound around it "
                    "belongs (said once)"
                )
        yield from self._stray.release()

    def _next(self) -> AudioChunk | None:
        return self._waiting.popleft() if self._waiting else next(self._chunks, None)

    def _push(self, chunk: AudioChunk) -> None:
        self._stream.push_audio(chunk.samples, chunk.stamp_ns, chunk.sample_rate_hz)
        self._report.num_audio_chunks += 1
        self._covered_ns = _end_ns(chunk)

    def _start_over(self) -> None:
        """The frames' stamps stepped back (a loop): so may the sound's, a little later on."""
        if self._covered_ns is None:
            return
        before: list[AudioChunk] = []
        end_ns, end_of_search_ns = self._covered_ns, self._covered_ns + MAX_AHEAD_S * NS_PER_S
        while end_ns < end_of_search_ns and (chunk := self._next()) is not None:
            if chunk.stamp_ns < end_ns - self._max_backstep_ns:
                for earlier in before:
                    self._push(earlier)
                self._waiting.appendleft(chunk)
                self._covered_ns = None
                return
            before.append(chunk)
            end_ns = _end_ns(chunk)
        self._waiting.extendleft(reversed(before))

    def _tell_distance(self, ahead_s: float) -> None:
        if self._covered_ns is None and ahead_s > MAX_DISTANCE_S and not self._has_warned:
            self._has_warned = True
            LOGGER.warning(
                "the sound begins %.1f s after the frames, which are answered without it until "
                "then: if it does not, stamp both by one clock",
                ahead_s,
            )


def _end_ns(chunk: AudioChunk) -> int:
    return chunk.stamp_ns + chunk_duration_ns(chunk)


def _by_next(
    items: Iterable[Frame | EncodedFrame | AudioChunk], max_gap_ns: int
) -> Iterator[tuple[Frame | EncodedFrame | AudioChunk, bool]]:
    """Every item, and whether it is a frame whose stamp alone is far ahead of its neighbours'."""
    previous_ns: int | None = None
    held: Frame | EncodedFrame | AudioChunk | None = None
    for item in items:
        if held is not None:
            is_stray = getattr(item, "stamp_ns", held.stamp_ns) < held.stamp_ns - max_gap_ns
            yield held, is_stray
            previous_ns = previous_ns if is_stray else held.stamp_ns
            held = None
        is_frame = isinstance(item, (Frame, EncodedFrame))
        if is_frame and previous_ns is not None and item.stamp_ns - previous_ns > max_gap_ns:
            held = item
            continue
        yield item, False
        if is_frame:
            previous_ns = item.stamp_ns
    if held is not None:
        yield held, False
