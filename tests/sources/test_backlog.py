"""What waited is told from what is of the moment, and a device that is merely odd is heard."""

import numpy as np
import pytest

from av_grounding.sources.backlog import LOOK_S, MAX_CATCH_UP_S, Backlog

TAKING_S = 0.001


def verdicts(backlog, moments_s, start_s=0.0, hiccups_s=None):
    """What `holds` says of things that are there at `moments_s` for a reader that takes 1 ms."""
    now_s, held = start_s, []
    for number, moment_s in enumerate(moments_s):
        now_s = max(now_s, moment_s) + TAKING_S
        if hiccups_s is not None:
            now_s += hiccups_s[number]
        held.append(backlog.holds(now_s))
    return held


def steady(num, period_s, start_s=0.0):
    return [start_s + number * period_s for number in range(num)]


@pytest.mark.parametrize("period_s", [0.02, 1 / 60, 1 / 15, 0.2])
def test_nothing_is_old_in_a_steady_stream(period_s):
    assert not any(verdicts(Backlog(), steady(100, period_s)))


@pytest.mark.parametrize("period_s", [0.02, 1 / 15])
@pytest.mark.parametrize("is_busy", [False, True])
def test_what_gathered_while_the_reader_was_frozen_is_old(period_s, is_busy):
    """Also on a machine so busy that some of what waits seems to have to be waited for."""
    num_waiting = round(5.0 / period_s)
    rng, num = np.random.default_rng(0), num_waiting + 200
    hiccups_s = np.where(rng.random(num) < 0.1, 1.5 * period_s, 0.0) * is_busy
    backlog = Backlog(period_s)
    assert not any(verdicts(backlog, steady(30, period_s)))
    # Frozen for five seconds: what waits comes as it is taken, the rest when it is captured.
    thawed_s = 30 * period_s + 5.0
    moments = [thawed_s] * num_waiting + steady(200, period_s, thawed_s)
    held = verdicts(backlog, moments, thawed_s, hiccups_s)
    assert all(held[:num_waiting])
    assert not any(held[held.index(False) :])


def test_a_device_that_paused_itself_costs_a_few():
    backlog = Backlog()
    verdicts(backlog, steady(30, 1 / 15))
    held = verdicts(backlog, steady(20, 1 / 15, 5.0), 2.0)
    assert 1 <= sum(held) <= max(LOOK_S * 15, 5) + 2
    assert held == sorted(held, reverse=True)


def test_a_slow_camera_is_known_after_a_few_frames():
    held = verdicts(Backlog(), steady(30, 0.5))
    assert sum(held) <= 3
    assert not any(held[6:])


@pytest.mark.parametrize("burst_s", [0.3, 1.0])
def test_a_device_that_always_comes_in_bursts_is_heard(burst_s):
    num = 15
    moments = [burst_s * (1 + turn) for turn in range(60) for _ in range(num)]
    held = verdicts(Backlog(burst_s / num), moments)
    after = round((MAX_CATCH_UP_S / burst_s + 2) * num)
    assert not any(held[after:])


def test_who_never_has_to_wait_is_believed_in_the_end():
    backlog = Backlog()
    verdicts(backlog, steady(30, 1 / 15))
    held = verdicts(backlog, [0.0] * 3000, 10.0)
    assert MAX_CATCH_UP_S <= held.index(False) * TAKING_S <= MAX_CATCH_UP_S + 2 * LOOK_S
    assert not any(held[held.index(False) :])
