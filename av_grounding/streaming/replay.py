"""Sources to sinks in the order of their stamps, as fast as the machine can, deterministically."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from av_grounding.audio import NS_PER_S, samples_to_ns
from av_grounding.streaming.report import RunReport
from av_grounding.types import AudioChunk, EncodedFrame, Frame, Sink, Source, Stream


def run_offline(
    video: Source,
    audio: Source | None,
    stream: Stream,
    sinks: Sequence[Sink] = (),
    *,
    duration_s: float | None = None,
    on_progress: Callable[[float], None] | None = None,
    report: RunReport | None = None,
) -> RunReport:
    """Ground every frame with the sound up to its stamp (and the configured lookahead).

    No frame is dropped, and the same sources give the same bytes every time. Sources and sinks
    are closed at the end, also on an error or Ctrl-C. `duration_s` counts from the first frame;
    `on_progress` hears how many seconds of video were answered. A `report` that is passed in is
    filled as far as the run came, whatever ends it. Sound that the video source gives (a recording
    in its own order) is taken in where it stands.
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
        for frame in video:
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
    return report


def _finish(report: RunReport, stream: Stream, started: float) -> None:
    report.duration_s = time.monotonic() - started
    report.stream = stream.stats


class _AudioFeeder:
    """Pushes chunks until a moment is covered; keeps the first one that begins after it."""

    def __init__(
        self, chunks: Iterator[Frame | AudioChunk], stream: Stream, report: RunReport
    ) -> None:
        self._chunks = chunks
        self._stream = stream
        self._report = report
        self._waiting: AudioChunk | None = None
        self._covered_ns: int | None = None

    def feed_until(self, stamp_ns: int) -> None:
        while self._covered_ns is None or self._covered_ns < stamp_ns:
            chunk = self._waiting if self._waiting is not None else next(self._chunks, None)
            self._waiting = None
            if chunk is None:
                return
            if not isinstance(chunk, AudioChunk):
                raise TypeError(
                    f"the audio source gave {type(chunk).__name__}: expected AudioChunk"
                )
            if chunk.stamp_ns > stamp_ns:
                self._waiting = chunk
                return
            self._stream.push_audio(chunk.samples, chunk.stamp_ns, chunk.sample_rate_hz)
            self._report.num_audio_chunks += 1
            num_samples = len(chunk.samples)
            self._covered_ns = chunk.stamp_ns + samples_to_ns(num_samples, chunk.sample_rate_hz)
