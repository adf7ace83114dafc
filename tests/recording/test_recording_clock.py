"""Stamps of a recording: a wrong one costs what carries it, and clocks may be set."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_grounding.recording.clock import JUMP_S, MAX_BACKSTEP_S, MAX_STEP_S, RecordingClock

S = 10**9
DAY_S = 86_400
EPOCH_NS = 1_700_000_000 * S


def times_s(stamps_s, clock=None):
    clock = clock or RecordingClock()
    found = [clock.frame_ns(EPOCH_NS + round(stamp_s * S)) for stamp_s in stamps_s]
    return [None if time_ns is None else time_ns / S for time_ns in found]


def test_steady_stamps_are_taken_as_they_are():
    assert times_s([0.0, 0.1, 0.1, 0.05, 30.0, 89.0]) == [0.0, 0.1, 0.1, 0.05, 30.0, 89.0]


@pytest.mark.parametrize("off_s", [DAY_S, -DAY_S, -1.7e9, 7.5e9, MAX_STEP_S + 2, -2.0])
def test_one_wrong_stamp_is_left_out_alone(off_s):
    clock = RecordingClock()
    assert times_s([0.0, 0.1, 0.2 + off_s, 0.3, 0.4], clock) == [0.0, 0.1, None, 0.3, 0.4]
    assert clock.describe() == {
        "num_implausible_frames": 1, "num_implausible_chunks": 0, "num_stamp_jumps": 0,
    }  # fmt: skip


@pytest.mark.parametrize("off_s", [DAY_S, -DAY_S, -2.0])
def test_a_clock_that_was_set_goes_on_where_it_was(off_s):
    clock = RecordingClock()
    stamps_s = [0.0, 0.1, *(stamp_s + off_s for stamp_s in (0.2, 0.3, 0.4))]
    assert times_s(stamps_s, clock) == pytest.approx([0.0, 0.1, None, 0.2, 0.3])
    assert clock.num_jumps == 1
    # Sound follows the pictures to the new place, and only there.
    assert clock.sound_ns(EPOCH_NS + round((0.35 + off_s) * S), 0) == pytest.approx(0.25 * S)


def test_a_first_frame_that_is_wrong_gives_way():
    clock = RecordingClock()
    first, *others = times_s([-1.7e9, 0.1, 0.2, 0.3], clock)
    assert (first, others[0]) == (0.0, None)
    assert others[1:] == pytest.approx([0.1, 0.2])


def test_sound_belongs_near_the_frames_or_goes_on_where_it_was():
    clock = RecordingClock()
    times_s([0.0, 1.0], clock)

    def sound_s(time_s, end_s):
        time_ns = clock.sound_ns(EPOCH_NS + round(time_s * S), end_s * S)
        return None if time_ns is None else time_ns / S

    assert sound_s(-9.0, 0.0) == -9.0
    assert sound_s(1.0 + MAX_STEP_S, 0.0) == 1.0 + MAX_STEP_S
    assert sound_s(1.1 + MAX_STEP_S, 0.0) is None
    # Where the camera has stopped, whole sound goes on, and a gap waits for the camera.
    assert sound_s(3000.0, 3000.0) == 3000.0
    assert sound_s(3000.0, 3000.0 - 2 * JUMP_S) is None
    assert sound_s(DAY_S, 1.0) is sound_s(-DAY_S, 1.0) is None
    assert clock.num_implausible_chunks == 4


steps_s = st.one_of(
    st.floats(-2.0, 2.0), st.floats(-1e3, 1e3), st.floats(-2e9, 7e9), st.just(1 / 30)
)


@given(st.lists(steps_s, min_size=1, max_size=60))
def test_no_stamps_make_a_recording_longer_than_its_frames_allow(steps):
    clock = RecordingClock()
    told = times_s(itertools.accumulate(steps), clock)
    taken = [time_s for time_s in told if time_s is not None]
    assert taken[0] == 0.0
    newest_s = 0.0
    for time_s in taken:
        assert -MAX_BACKSTEP_S <= time_s - newest_s <= MAX_STEP_S + 1e-6
        newest_s = max(newest_s, time_s)
    assert len(told) - len(taken) == clock.num_implausible_frames
    assert clock.newest_ns <= MAX_STEP_S * S * len(taken)
