"""A run whose camera misbehaves: it goes on within two seconds and shows no old picture as new."""

import itertools
import time

import pytest

from tests.helpers.mjpeg_camera import MjpegCamera
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.watched import BACK_WITHIN_S, SLACK_S, WatchedRun, check_counters

FRESH_NS = 600_000_000
"""Pictures may be this old when they are published, on a machine that others use as well."""


@pytest.fixture(scope="module")
def camera():
    camera = MjpegCamera()
    yield camera
    camera.stop()


@pytest.fixture(scope="module")
def run(camera, tmp_path_factory):
    run = WatchedRun(camera.url, "none", save_small_bundle(tmp_path_factory.mktemp("bundle")))
    try:
        run.wait(10)
        yield run
        report = run.finish()
    finally:
        run.kill()
    check_counters(report)
    assert report["report"]["num_frames_published"] == len(run.answers)
    assert report["camera"]["num_frames"] >= report["report"]["num_frames_captured"]
    # Never out of order, never twice.
    stamps = [answer["stamp_ns"] for answer in run.answers]
    assert all(earlier < later for earlier, later in itertools.pairwise(stamps))


def check_back(run, ended_ns, num=5):
    """It publishes again, soon after the cause ended, pictures taken after that."""
    first = run.wait(num, ended_ns)[0]
    assert (first["now_ns"] - ended_ns) / 1e9 <= BACK_WITHIN_S + SLACK_S
    for answer in run.since(ended_ns):
        assert 0 <= answer["stamp_ns"] - answer["taken_ns"] < FRESH_NS, "an old picture as new"


@pytest.mark.parametrize("seconds", [3.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_a_process_that_got_no_cpu(run, seconds):
    run.wait(5, time.time_ns())
    check_back(run, run.freeze(seconds), num=10)


@pytest.mark.parametrize("seconds", [1.0, 4.5])
def test_a_camera_that_stalls(run, camera, seconds):
    """Shorter and longer than the time after which a connection counts as lost."""
    run.wait(5, time.time_ns())
    camera.is_stalled = True
    time.sleep(0.5)
    stalled_ns = time.time_ns()
    time.sleep(seconds)
    assert run.since(stalled_ns) == []
    ended_ns, camera.is_stalled = time.time_ns(), False
    check_back(run, ended_ns)


def test_a_camera_that_sends_no_pictures(run, camera):
    run.wait(5, time.time_ns())
    camera.is_garbled = True
    time.sleep(1.5)
    ended_ns, camera.is_garbled = time.time_ns(), False
    check_back(run, ended_ns)


def test_a_camera_that_changes_its_size(run, camera):
    """Within a connection, and from one to the next."""
    run.wait(5, time.time_ns())
    changed_ns, camera.size = time.time_ns(), (480, 640)
    check_back(run, changed_ns)
    size = run.wait(3, changed_ns)[-1]["size"]
    camera.size = (240, 320)
    camera.stop()
    camera.start()
    started_ns = time.time_ns()
    check_back(run, started_ns)
    after = run.wait(1, started_ns)[0]
    assert (size, after["size"]) == ([480, 640], [240, 320])
    counters = after["counters"]["stream"]
    assert counters["num_frame_size_changes"] >= 1


def test_a_camera_that_was_without_power(run, camera):
    run.wait(5, time.time_ns())
    camera.stop()
    time.sleep(3.0)
    camera.start()
    check_back(run, time.time_ns())
