"""Offline runs: deterministic, complete, and tidy when interrupted."""

import pytest

from av_grounding.streaming.config import StreamingConfig
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.replay import run_offline
from av_grounding.streaming.report import RunReport
from tests.helpers import signals
from tests.helpers.memory import START_NS, ListSink, ListSource, chunks, frames
from tests.helpers.tiny_backend import TinyBackend


def replay(size=320, config=None, **arguments):
    sink = ListSink()
    video, audio = ListSource(frames(60)), ListSource(chunks(signals.scene(), size))
    stream = GroundingStream(TinyBackend(), config)
    report = run_offline(video, audio, stream, [sink], **arguments)
    assert (video.num_closed, audio.num_closed, sink.num_closed) == (1, 1, 1)
    return sink, report


def test_a_replay_gives_the_same_bytes():
    first, report = replay()
    second, _ = replay()
    assert first.bytes == second.bytes
    assert sum(m.sound.any() for _, m in first.results) > 25
    assert sum(m.speech.any() for _, m in first.results) > 20
    assert report.num_frames_captured == report.num_frames_published == 60
    assert report.latency.count == 60


@pytest.mark.parametrize("size", [37, 1_000, 32_000, 10**6])
def test_a_replay_does_not_depend_on_the_cut(size):
    assert replay(size)[0].bytes == replay()[0].bytes


def test_lookahead_hears_what_comes_after_the_frame():
    late, _ = replay(config=StreamingConfig(lookahead_s=0.4))
    early, _ = replay()
    for (_, ahead), (_, later) in zip(late.results, early.results[6:], strict=False):
        assert ahead.sound.tobytes() == later.sound.tobytes()


def test_an_offset_between_the_clocks_shifts_what_is_read():
    shifted, _ = replay(config=StreamingConfig(audio_offset_s=-0.4))
    early, _ = replay()
    for (_, ahead), (_, later) in zip(shifted.results, early.results[6:], strict=False):
        assert ahead.sound.tobytes() == later.sound.tobytes()


def test_no_more_audio_is_read_than_the_frames_need():
    audio = ListSource(chunks(signals.scene(), 320))
    stream = GroundingStream(TinyBackend())
    report = run_offline(ListSource(frames(16)), audio, stream)
    assert report.num_audio_chunks == 50
    assert audio.num_given <= 51


def test_duration_counts_from_the_first_frame():
    sink, report = replay(duration_s=1.0)
    assert len(sink.results) == report.num_frames_published == 15


def test_without_audio_the_maps_are_zero():
    sink = ListSink()
    run_offline(ListSource(frames(3)), None, GroundingStream(TinyBackend()), [sink])
    assert [bool(m.sound.any()) for _, m in sink.results] == [False] * 3
    assert [m.stamp_ns for _, m in sink.results] == [f.stamp_ns for f in frames(3)]


def test_audio_that_begins_late_or_ends_early_is_used_where_it_is():
    wave = signals.vowel(1.0)
    audio = ListSource(chunks(wave, start_ns=START_NS + 10**9))
    sink = ListSink()
    run_offline(ListSource(frames(75)), audio, GroundingStream(TinyBackend()), [sink])
    heard = [bool(m.sound.any()) for _, m in sink.results]
    assert not any(heard[:15])
    assert all(heard[20:30])
    assert not any(heard[50:])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no space left on device")])
def test_an_interruption_closes_everything_and_is_raised(error):
    good, bad = ListSink(), ListSink(fail_at=5, error=error)
    video, audio = ListSource(frames(60)), ListSource(chunks(signals.scene()))
    stream, report = GroundingStream(TinyBackend()), RunReport()
    with pytest.raises(type(error)):
        run_offline(video, audio, stream, [good, bad], report=report)
    assert (video.num_closed, audio.num_closed) == (1, 1)
    assert (good.num_closed, bad.num_closed) == (1, 1)
    assert len(good.results) == 6
    assert report.num_frames_published == 5
    assert report.stream["num_frames"] == 6


@pytest.mark.parametrize("is_video", [True, False])
def test_swapped_sources_are_named(is_video):
    video = ListSource(chunks(signals.scene()) if is_video else frames(3))
    audio = ListSource(frames(3))
    with pytest.raises(TypeError, match="expected Frame" if is_video else "expected AudioChunk"):
        run_offline(video, audio, GroundingStream(TinyBackend()))


def test_progress_is_told():
    seconds = []
    replay(on_progress=seconds.append)
    assert seconds == pytest.approx([i / 15 for i in range(60)], abs=1e-6)
