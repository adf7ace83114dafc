"""Frames come and nothing goes out: one line after five seconds, which names cause and cure."""

import logging
import re
import threading
import time

import pytest

from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.runner import Runner
from av_grounding.streaming.unanswered import UnansweredWatch
from tests.helpers.memory import ListSink, ListSource, chunks, frames
from tests.helpers.signals import scene
from tests.helpers.tiny_backend import TinyBackend

KINDS = ("published", "unwanted", "too_old", "unreadable", "replaced")
FRAME_HZ = 15


def counters(number, *, num_chunks=0, lag_s=0.0, num_unwritten=0, **numbers):
    """After `number` frames, of which the named kinds took all."""
    return {
        **{f"num_frames_{kind}": number * numbers.get(kind, 0) for kind in KINDS},
        "num_audio_chunks": number * num_chunks,
        "num_unwritten": num_unwritten,
        "stream": {"audio_lag_ms": 1e3 * lag_s},
    }


def watched(seconds, watch=None, offset_s=0.0, start_s=0.0, **state):
    """(second, line) of all that is said while frames come for so long."""
    watch = watch or UnansweredWatch(has_sound="num_chunks" in state)
    said = []
    for number in range(round(seconds * FRAME_HZ)):
        now_s = start_s + number / FRAME_HZ
        if watch.is_due(now_s):
            lines = watch.look(counters(number, **state), now_s, 0.1, offset_s)
            said += [(now_s - start_s, line) for line in lines]
    return said


@pytest.mark.parametrize(
    ("state", "cause", "cure"),
    [
        ({"too_old": 1}, "waited longer than max_image_age_ms (100)", "raise it"),
        ({"unreadable": 1}, "could not be decoded", "raw or JPEG"),
        ({"replaced": 1}, "the model has been busy", "a faster backend"),
        ({"replaced": 1, "num_unwritten": 4}, "what takes the answers", "disk"),
    ],
)
def test_the_cause_is_named_after_five_seconds_and_twice_a_minute(state, cause, cure):
    said = watched(50.0, **state)
    assert [int(second) for second, _ in said] == [5, 35]
    for _, line in said:
        assert line.startswith("frames come, but none is answered: ")
        assert cause in line
        assert cure in line


@pytest.mark.parametrize("state", [{"published": 1}, {"unwanted": 1}])
def test_nothing_is_said_while_frames_are_answered_or_nobody_asks(state):
    assert watched(60.0, **state) == []
    assert watched(60.0, num_chunks=1, **state) == []


def test_a_pause_of_the_camera_is_no_silence_of_ours():
    watch = UnansweredWatch(has_sound=False)
    assert watched(3.0, watch, replaced=1) == []
    assert watched(3.0, watch, start_s=600.0, replaced=1) == []


def test_sound_that_does_not_come_is_told_unless_somebody_else_does():
    ((second, line),) = watched(20.0, published=1, num_chunks=0)
    assert round(second) == 5
    assert "no sound" in line
    watch = UnansweredWatch(has_sound=True, is_sound_watched=True)
    assert watched(20.0, watch, published=1, num_chunks=0) == []


@pytest.mark.parametrize(
    ("lag_s", "offset_s", "told"),
    [
        (2.0, 0.0, "2.0 s before the frames .* sync.offset_ms to 2000"),
        (-2.0, 0.5, "2.0 s after the frames .* sync.offset_ms to -1500"),
        (10_800.0, 0.0, "10800.0 s before the frames .* by one clock$"),
    ],
)
def test_clocks_that_differ_are_told_with_the_offset_that_would_do(lag_s, offset_s, told):
    ((second, line),) = watched(20.0, published=1, num_chunks=1, lag_s=lag_s, offset_s=offset_s)
    assert round(second) == 5
    assert re.search(told, line)


def test_a_run_says_why_it_answers_nothing(caplog, monkeypatch):
    """A sink that hangs: the thread that takes frames says so, while the others wait."""
    monkeypatch.setattr("av_grounding.streaming.liveness.WATCHDOG_S", 0.6)
    is_free = threading.Event()

    class Stuck(ListSink):
        def write(self, frame, grounding):
            assert is_free.wait(30.0)
            super().write(frame, grounding)

    video = ListSource(frames(300), interval_s=0.02)
    audio = ListSource(chunks(scene()), interval_s=0.001, endless=True)
    stream, sink = GroundingStream(TinyBackend()), Stuck()
    runner = Runner(stream, video, audio, [sink], max_image_age_s=30.0)
    thread = threading.Thread(target=runner.run, daemon=True)
    with caplog.at_level(logging.WARNING, "av_grounding"):
        thread.start()
        ends_s = time.monotonic() + 20.0
        while not any("none is answered" in r.getMessage() for r in caplog.records):
            assert time.monotonic() < ends_s
            time.sleep(0.02)
    assert "what takes the answers has not taken one since" in caplog.text
    is_free.set()
    runner.stop()
    thread.join(30.0)
    assert not thread.is_alive()
