"""A run whose microphone misbehaves: pictures are answered on, and nothing old passes for new."""

from __future__ import annotations

import time

import numpy as np
import pytest

from av_grounding.config.streaming import StreamingConfig
from tests.helpers.mjpeg_camera import MjpegCamera
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.sound_server import NEEDS_PULSEAUDIO, RATE_HZ, SoundServer
from tests.helpers.watched import BACK_WITHIN_S, SLACK_S, WatchedRun, check_counters

pytestmark = [pytest.mark.device, NEEDS_PULSEAUDIO]
SILENCE_S = StreamingConfig().silence_s
SERVER_S = 2.0
"""A null sink that nobody asked for sound delivers its first block only after this long."""


def is_there(value):
    return value > 0.0


def is_nothing(value):
    return value == 0.0


@pytest.fixture(scope="module")
def sound_server(tmp_path_factory):
    # Noise bursts, so that something is always to be heard.
    rng = np.random.default_rng(0)
    server = SoundServer(
        tmp_path_factory.mktemp("sound"), 0.2 * rng.uniform(-1.0, 1.0, 300 * RATE_HZ)
    )
    yield server
    server.close()


@pytest.fixture(scope="module")
def run(sound_server, tmp_path_factory):
    camera = MjpegCamera()
    bundle = save_small_bundle(tmp_path_factory.mktemp("bundle"))
    run = WatchedRun(camera.url, "mic", bundle, sound_server.environment)
    try:
        run.wait(10, sound=is_there)
        yield run
        report = run.finish()
    finally:
        run.kill()
        camera.stop()
    check_counters(report)
    assert report["report"]["num_audio_overruns"] == 0


def lag_ms(answer):
    return answer["counters"]["stream"]["audio_lag_ms"]


def test_sound_that_ended_while_the_process_got_no_cpu_is_not_heard_afterwards(sound_server, run):
    run.wait(5, time.time_ns(), sound=is_there)
    begun_s = time.monotonic()
    before = run.answers[-1]["counters"]["stream"]
    # It still sounded when the process was stopped, and has long been silent when it goes on.
    sound_server.stop_playing_after(0.5)
    ended_ns = run.freeze(4.0)
    frozen_s = time.monotonic() - begun_s
    first = run.wait(5, ended_ns)[0]
    assert (first["now_ns"] - ended_ns) / 1e9 <= BACK_WITHIN_S + SLACK_S
    # Give the stream the time in which it catches up with the sound.
    time.sleep(1.0)
    settled = run.wait(5, time.time_ns())
    heard = [answer for answer in run.answers if answer["taken_ns"] > ended_ns]
    assert all(is_nothing(answer["sound"]) for answer in heard), "what is over passes for new"
    after = settled[-1]["counters"]["stream"]
    gap_s = (after["num_gap_samples"] - before["num_gap_samples"]) / RATE_HZ
    assert 3.0 <= gap_s <= frozen_s + 1.0, "what was not heard counts as missing, once"
    assert after["num_audio_resets"] == before["num_audio_resets"]
    sound_server.play()
    resumed_ns = time.time_ns()
    back = run.wait(1, resumed_ns, sound=is_there)[0]
    assert (back["now_ns"] - resumed_ns) / 1e9 <= BACK_WITHIN_S + SLACK_S
    assert abs(lag_ms(run.wait(10, back["now_ns"])[-1])) < 1000


def test_a_microphone_that_vanishes_and_returns(sound_server, run):
    run.wait(5, time.time_ns(), sound=is_there)
    sound_server.kill()
    killed_ns = time.time_ns()
    time.sleep(SILENCE_S + 1.5)
    gone_ns = time.time_ns()
    # Pictures are answered on, and what was heard before is not shown any more.
    assert all(is_nothing(answer["sound"]) for answer in run.wait(10, gone_ns))
    intervals_s = np.diff([answer["now_ns"] for answer in run.since(killed_ns)]) / 1e9
    assert intervals_s.max() < BACK_WITHIN_S
    time.sleep(1.5)
    sound_server.start()
    returned_ns = time.time_ns()
    back = run.wait(10, returned_ns, sound=is_there)[0]
    assert (back["now_ns"] - returned_ns) / 1e9 <= BACK_WITHIN_S + SERVER_S + SLACK_S
    assert abs(lag_ms(run.wait(10, back["now_ns"])[-1])) < 1000
    assert run.finish()["microphone"]["num_reopens"] >= 1
