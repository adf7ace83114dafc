"""Rates and the patience with a missing input; needs no ROS."""

import pytest

from av_grounding.streaming.liveness import RateMeter, Watchdog
from av_grounding.transports.ros.diagnostics import gpu_values, idle_status
from av_grounding.transports.topics.status_report import ERROR, OK


def test_the_rate_is_that_of_the_last_seconds():
    meter = RateMeter(window_s=5.0)
    assert meter.update(0, 100.0) == 0.0
    for second in range(1, 11):
        rate_hz = meter.update(30 * second, 100.0 + second)
    assert rate_hz == pytest.approx(30.0)
    for second in range(11, 21):
        rate_hz = meter.update(300, 100.0 + second)
    assert rate_hz == 0.0
    assert meter.update(5, 121.0) == 0.0  # a counter that started over
    assert meter.update(15, 122.0) == 10.0


def test_it_barks_after_five_seconds_and_then_twice_a_minute():
    watchdog = Watchdog(100.0)
    barks = [second for second in range(80) if watchdog.barks(None, 100.0 + second)]
    assert barks == [5, 35, 65]


def test_it_is_quiet_while_the_input_is_there_and_starts_anew_when_it_is_lost_again():
    watchdog = Watchdog(100.0)
    assert not any(watchdog.barks(100.0 + s, 100.1 + s) for s in range(60))
    assert not watchdog.barks(159.0, 163.9)
    assert watchdog.barks(159.0, 164.1)
    assert not watchdog.barks(170.0, 170.1)
    assert watchdog.barks(170.0, 175.1)


def test_an_idle_node_says_why():
    assert idle_status("/n", "inactive", "").level == OK
    failed = idle_status("/n", "unconfigured", "got no model")
    assert (failed.level, failed.message) == (ERROR, "unconfigured: got no model")
    assert failed.name == "/n: lifecycle"


def test_without_a_gpu_there_is_no_gpu_line():
    assert gpu_values({"device": "cpu"}) is None
    assert gpu_values({}) is None
