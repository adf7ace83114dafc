"""Offline runs: deterministic, complete, and tidy when interrupted."""

import logging
from dataclasses import replace

import pytest

from av_grounding.config.streaming import StreamingConfig
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


def of_stamps(sink):
    return {m.stamp_ns: (m.sound.tobytes(), m.speech.tobytes()) for _, m in sink.results}


def replayed(pictures, sounds):
    sink = ListSink()
    stream = GroundingStream(TinyBackend())
    report = run_offline(ListSource(pictures), ListSource(sounds), stream, [sink])
    return sink, report


@pytest.mark.parametrize("off_s", [86_400.0, 11.0, -2.0, -86_400.0])
@pytest.mark.parametrize("num_bad", [1, 60])
def test_sound_that_was_stamped_far_off_withholds_nothing(off_s, num_bad):
    """One slip, or more than a second of them: every answer is that of the right stamps."""
    sounds = chunks(signals.scene(), 320)
    for i in range(50, 50 + num_bad):
        sounds[i] = replace(sounds[i], stamp_ns=sounds[i].stamp_ns + round(off_s * 1e9))
    sink, report = replayed(frames(60), sounds)
    assert sink.bytes == replay()[0].bytes
    assert report.num_frames_published == 60
    assert report.num_audio_chunks == replay()[1].num_audio_chunks


@pytest.mark.parametrize("off_s", [86_400.0, -86_400.0])
def test_a_frame_that_was_stamped_far_off_costs_itself_alone(off_s):
    pictures = frames(60)
    pictures[20] = replace(pictures[20], stamp_ns=pictures[20].stamp_ns + round(off_s * 1e9))
    right = of_stamps(replay()[0])
    sink, _ = replayed(pictures, chunks(signals.scene(), 320))
    given = of_stamps(sink)
    assert len(given) == 60
    assert [stamp for stamp in given if given[stamp] != right.get(stamp)] == [
        pictures[20].stamp_ns
    ]


def test_a_recorded_loop_is_heard_in_every_lap():
    """Sound and frames start over every three seconds, as of a bag of `ros2 bag play --loop`."""
    pictures, sounds = frames(45), chunks(signals.scene()[: 3 * 16_000], 320)
    sink, report = replayed(3 * pictures, 3 * sounds)
    heard = [m.sound.any() for _, m in sink.results]
    laps = [sum(heard[first : first + 45]) for first in (0, 45, 90)]
    assert laps[0] > 20
    assert laps[1] == laps[2] == laps[0]
    assert report.num_audio_chunks > 440


def test_a_camera_whose_clock_is_hours_behind_is_told(caplog):
    with caplog.at_level(logging.WARNING, "av_grounding"):
        _, report = replayed(
            frames(30, start_ns=START_NS - 3 * 3600 * 10**9), chunks(signals.scene())
        )
    assert report.num_audio_chunks == 0
    assert "the sound begins 10800.0 s after the frames" in caplog.text
