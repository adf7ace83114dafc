"""Drivers on DDS whose clocks are wrong: a camera that restarts its own, a microphone too fast."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from tests.helpers.mjpeg_camera import draw_time, read_time
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.watched import BACK_WITHIN_S, SLACK_S

pytest.importorskip("cyclonedds")
pytest.importorskip("rosbags")

from av_grounding.grounder import Grounder
from av_grounding.streaming.runner import Runner
from av_grounding.transports import messages
from av_grounding.transports.dds.bus import Bus
from av_grounding.transports.dds.settings import DdsSettings
from av_grounding.transports.dds.source import DdsInputs
from av_grounding.types import AudioChunk

RATE_HZ = 16_000
PATIENT_S = 60.0
FRAME_S = 0.1
OLD_S = 1.0
"""Pictures may be this old when they are published, on a machine that others use as well."""


class Drivers:
    """A camera and a microphone on the bus, whose clocks the test sets."""

    def __init__(self, settings: DdsSettings) -> None:
        self.camera_step_s = 0.0
        self.speed = 1.0
        """Samples of sound a second, over what its rate says."""
        self._bus = Bus(settings, "drivers", "/drivers")
        self._image = self._bus.writer("/cam/image", "sensor_msgs/msg/Image")
        self._audio = self._bus.writer("/mic/audio", "audio_common_msgs/msg/AudioDataStamped", 100)
        self._info = self._bus.writer("/mic/audio_info", "audio_common_msgs/msg/AudioInfo")
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        rng, began_s, number = np.random.default_rng(0), time.monotonic(), 0
        while not self._closed.wait(max(0.0, began_s + number * FRAME_S - time.monotonic())):
            number += 1
            now_ns = time.time_ns()
            size = round(RATE_HZ * FRAME_S * self.speed)
            noise = rng.integers(-6000, 6000, size).astype(np.int16)
            chunk = AudioChunk(noise, now_ns - round(1e9 * FRAME_S), RATE_HZ)
            self._info.write(messages.audio_info_fields(chunk))
            self._audio.write(messages.audio_fields(chunk))
            pixels = draw_time(now_ns // 1_000_000, 96, 128)
            stamp_ns = now_ns + round(1e9 * self.camera_step_s)
            self._image.write(messages.image_fields(pixels, "rgb8", stamp_ns, "optical"))

    def close(self) -> None:
        self._closed.set()
        self._thread.join(PATIENT_S)
        self._bus.close()


class Answers:
    """A Sink that keeps (seconds at which it came, seconds of the picture, was sound shown)."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, bool]] = []

    def write(self, frame, heatmaps) -> None:
        taken_s = read_time(frame.image) / 1e3
        self.rows.append((time.time(), taken_s, bool(heatmaps.sound.any())))

    def close(self) -> None:
        pass

    def after(self, moment_s: float) -> list[tuple[float, float, bool]]:
        """Answers to pictures that were taken after a moment."""
        return [row for row in self.rows if row[1] > moment_s]

    def wait(self, num: int, moment_s: float, *, is_heard: bool | None = None) -> float:
        """Until `num` such answers are there; the seconds at which the first of them came."""
        deadline_s = time.monotonic() + PATIENT_S
        while True:
            rows = [r for r in self.after(moment_s) if is_heard is None or r[2] == is_heard]
            if len(rows) >= num:
                return rows[0][0]
            assert time.monotonic() < deadline_s, self.rows[-3:]
            time.sleep(0.05)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """(drivers, answers, runner): everything goes on in threads of this process."""
    settings = DdsSettings(domain_id=40 + os.getpid() % 60, discovery="localhost")
    drivers, answers = Drivers(settings), Answers()
    inputs = DdsInputs(Bus(settings, namespace="/grounding"), "/cam/image", "/mic/audio")
    stream = Grounder.load(save_small_bundle(tmp_path_factory.mktemp("bundle"))).stream()
    runner = Runner(
        stream,
        inputs.video,
        inputs.audio,
        [answers],
        max_image_age_s=OLD_S,
    )
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    answers.wait(5, 0.0, is_heard=True)
    yield drivers, answers, runner
    runner.stop()
    thread.join(PATIENT_S)
    drivers.close()
    assert not thread.is_alive()


def test_a_camera_that_restarts_its_clock(running):
    """Meanwhile nothing is claimed: no sound belongs to its frames. Then all is as before."""
    drivers, answers, runner = running
    before = runner.counters["stream"]["num_frame_stamp_steps_back"]
    drivers.camera_step_s = -3600.0
    stepped_s = time.time()
    first_s = answers.wait(10, stepped_s + FRAME_S)
    assert first_s - stepped_s <= BACK_WITHIN_S + SLACK_S
    assert not any(is_heard for *_, is_heard in answers.after(stepped_s + FRAME_S))
    drivers.camera_step_s = 0.0
    set_right_s = time.time()
    back_s = answers.wait(5, set_right_s + FRAME_S, is_heard=True)
    assert back_s - set_right_s <= BACK_WITHIN_S + SLACK_S
    assert runner.counters["stream"]["num_frame_stamp_steps_back"] == before + 1
    assert all(came_s - taken_s < 2 * OLD_S for came_s, taken_s, _ in answers.rows)


def test_a_microphone_that_is_ten_percent_too_fast(running):
    """What comes too much is left out, and counted, so that sound and picture stay together."""
    drivers, answers, runner = running
    answers.wait(5, time.time(), is_heard=True)
    before = runner.counters["stream"]
    drivers.speed = 1.1
    began_s = time.monotonic()
    time.sleep(4.0)
    drivers.speed = 1.0
    fast_s = time.monotonic() - began_s
    ended_s = time.time()
    back_s = answers.wait(10, ended_s, is_heard=True)
    assert back_s - ended_s <= BACK_WITHIN_S + SLACK_S
    after = runner.counters["stream"]
    left_out_s = (after["num_overlap_samples"] - before["num_overlap_samples"]) / RATE_HZ
    # Up to the tolerance for jitter, which stays within the timeline.
    assert 0.1 * fast_s - 0.3 <= left_out_s <= 0.1 * fast_s + 0.2
    assert after["num_audio_resets"] == before["num_audio_resets"]
    assert abs(after["audio_lag_ms"]) < 1000
    assert all(is_heard for *_, is_heard in answers.after(ended_s + 0.5))
