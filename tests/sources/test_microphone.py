"""The microphone for real: PulseAudio plays a tone into a null sink, PortAudio records it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from av_grounding.sources.microphone import find_input
from tests.helpers import make_media as make
from tests.helpers.sound_server import NEEDS_PULSEAUDIO, PATIENT_S, TONE_HZ, SoundServer


def record(server: SoundServer, name: str, seconds: float, result: Path) -> subprocess.Popen[str]:
    script = Path(__file__).parents[1] / "helpers" / "record_microphone.py"
    command = (sys.executable, str(script), name, str(seconds), str(result))
    return server.spawn(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def sound_server(tmp_path) -> Iterator[SoundServer]:
    server = SoundServer(tmp_path)
    yield server
    server.close()


def wait_for(recorder: subprocess.Popen[str], word: str) -> list[str]:
    lines = []
    for line in recorder.stdout:
        lines.append(line.strip())
        if line.startswith(word):
            return lines
    raise AssertionError(f"no {word} in {lines}; {recorder.stderr.read()}")


def is_tone(samples: np.ndarray, rate_hz: int) -> bool:
    loud = np.sqrt(2 * np.mean(samples**2)) > 0.1
    return bool(loud and abs(make.peak_hz(samples, rate_hz) - TONE_HZ) < 5)


@pytest.mark.device
@NEEDS_PULSEAUDIO
@pytest.mark.parametrize("name", ["", "PULS"])
def test_what_is_played_is_recorded(sound_server, tmp_path, name):
    before_ns = time.time_ns()
    recorder = record(sound_server, name, 3.0, tmp_path / "heard.npz")
    lines = wait_for(recorder, "DONE")
    after_ns = time.time_ns()
    assert lines[0].startswith("OPEN pulse" if name else "OPEN default")
    heard = np.load(tmp_path / "heard.npz")
    rate_hz = int(heard["rate_hz"])
    assert set(heard["sizes"]) == {round(rate_hz * 0.02)}
    assert heard["samples"].dtype == np.float32
    assert heard["samples"].shape == (3 * rate_hz, 2)
    for channel in heard["samples"].T:
        assert is_tone(channel[rate_hz // 2 :], rate_hz)
        assert np.sqrt(2 * np.mean(channel[rate_hz // 2 :] ** 2)) == pytest.approx(0.3, abs=0.03)
    stamps_ns = heard["stamps_ns"]
    assert before_ns < stamps_ns[0]
    assert stamps_ns[-1] < after_ns
    # Samples take their time: stamps never run ahead of the sample rate. A virtual device on a
    # busy machine may itself run slow or lose blocks, so the other bound is the time that passed.
    half_seconds = (stamps_ns[25:] - stamps_ns[:-25]) / 1e9
    assert np.median(half_seconds) >= 0.48
    span_s = (stamps_ns[-1] - stamps_ns[0]) / 1e9
    assert 3.0 - 0.1 <= span_s <= (after_ns - before_ns) / 1e9
    assert heard["num_reopens"] == 0


@pytest.mark.device
@NEEDS_PULSEAUDIO
def test_a_device_that_vanishes_and_returns(sound_server, tmp_path):
    recorder = record(sound_server, "", 0.0, tmp_path / "heard.npz")
    wait_for(recorder, "HEARD")
    time.sleep(0.5)
    sound_server.kill()
    time.sleep(2.5)
    sound_server.start()
    lines = wait_for(recorder, "DONE")
    assert "AGAIN" in lines
    logs = [line for line in lines if line.startswith("LOG")]
    assert any("no data; trying to open it again" in line for line in logs)
    heard = np.load(tmp_path / "heard.npz")
    rate_hz = int(heard["rate_hz"])
    assert heard["num_reopens"] >= 1
    assert is_tone(heard["samples"][-rate_hz // 2 :, 0], rate_hz)
    gaps_s = np.diff(heard["stamps_ns"]) / 1e9
    assert gaps_s.max() > 2.0  # the stamps tell how long nothing was heard


@pytest.mark.device
@NEEDS_PULSEAUDIO
def test_an_unknown_name_lists_what_there_is(sound_server, tmp_path):
    recorder = record(sound_server, "no such thing", 1.0, tmp_path / "heard.npz")
    _, errors = recorder.communicate(timeout=PATIENT_S)
    assert recorder.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert "no microphone whose name contains 'no such thing'" in last
    assert "'default'" in last
    assert "'pulse'" in last


def devices(*names: tuple[str, int]) -> list[dict]:
    return [
        {"name": name, "index": index, "max_input_channels": channels}
        for index, (name, channels) in enumerate(names)
    ]


MACHINE = devices(("HDMI 0", 0), ("USB Audio: Mic", 1), ("USB Audio: Mic 2", 2), ("ReSpeaker", 6))


def test_a_device_is_chosen_by_part_of_its_name():
    assert find_input(MACHINE, 1, "respeak")["index"] == 3
    assert find_input(MACHINE, 3, "usb audio: mic")["index"] == 1  # exact before part
    assert find_input(MACHINE, 2)["index"] == 2
    assert find_input(devices(("HDMI 0", 0), ("Webcam", 1)), -1)["name"] == "Webcam"


@pytest.mark.parametrize(
    ("machine", "name", "message"),
    [
        (MACHINE, "USB", "2 microphones whose name contains 'USB'; .*'ReSpeaker'"),
        (MACHINE, "HDMI", "no microphone whose name contains 'HDMI'; "),  # an output
        (MACHINE, None, "no default microphone; inputs there are: .*'ReSpeaker'"),
        (devices(("HDMI 0", 0)), None, "inputs there are: none at all"),
    ],
)
def test_an_unclear_choice_lists_the_inputs(machine, name, message):
    with pytest.raises(ValueError, match=message):
        find_input(machine, -1, name)
