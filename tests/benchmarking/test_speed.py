"""The benchmark: what it adds up, what it counts, and a short run of the real thing."""

import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from av_grounding.backends.wrapping import BackendWrapper
from av_grounding.benchmarking import speed
from av_grounding.benchmarking.speed import (
    TARGETS,
    growth_per_minute,
    judge,
    measure_speed,
    percentiles_ms,
)
from av_grounding.benchmarking.timed import TimedBackend, TimedStream
from av_grounding.config.streaming import StreamingConfig
from av_grounding.grounder import Grounder
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.synthetic import espeak_worker, speech
from tests.helpers.small_bundle import save_small_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return save_small_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def grounder(bundle):
    return Grounder.load(bundle)


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


class Costly(BackendWrapper):
    """A real backend under a clock on which each call takes a known time."""

    def __init__(self, backend, clock):
        super().__init__(backend)
        self.clock = clock

    def encode_image(self, image):
        self.clock.now_s += 100.0
        return self.backend.encode_image(image)

    def encode_audio(self, waveform):
        self.clock.now_s += 10.0
        return self.backend.encode_audio(waveform)

    @property
    def max_audio_batch(self):
        return 1

    def encode_audio_batch(self, waveforms):
        return np.stack([self.encode_audio(waveform) for waveform in waveforms])

    def similarity(self, tokens, vectors):
        self.clock.now_s += 1.0
        return self.backend.similarity(tokens, vectors)


def test_only_what_is_not_an_encoder_counts_for_a_frame(grounder):
    clock = Clock()
    backend = TimedBackend(Costly(grounder.backend, clock), clock)
    stream = TimedStream(GroundingStream(backend, StreamingConfig()), backend)
    encoded_s = backend.encoder_s
    assert encoded_s == 10.0  # the window that warms up
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(64, 64, 3), dtype=np.uint8)
    sound = rng.standard_normal(8_000).astype(np.float32) * 0.1
    stream.push_audio(sound, 0, 16_000)
    heatmaps = stream.push_frame(image, 500_000_000)
    stream.push_frame(image, 600_000_000)
    assert stream.not_encoder_s == [1.0, 1.0]
    assert backend.encoder_s - encoded_s == 2 * 100.0 + 3 * 10.0  # half a second: three hops

    plain = grounder.stream(StreamingConfig())
    plain.push_audio(sound, 0, 16_000)
    expected = plain.push_frame(image, 500_000_000)
    np.testing.assert_array_equal(heatmaps.sound, expected.sound)
    other = backend.with_spec(grounder.spec)
    assert (other.spec, other.describe()) == (grounder.spec, grounder.backend.describe())


class Keeping(Costly):
    """Its streams of sound take another known time."""

    def audio_stream(self):
        costly = self

        class Stream:
            num_resets = 0

            def encode(self, waveform, num_new):
                costly.clock.now_s += 5.0
                return costly.backend.encode_audio(waveform)

            def reset(self):
                self.num_resets += 1

        return Stream()


def test_a_stream_of_sound_counts_as_an_encoder(grounder):
    clock = Clock()
    backend = TimedBackend(Keeping(grounder.backend, clock), clock)
    stream = TimedStream(GroundingStream(backend, StreamingConfig()), backend)
    assert backend.encoder_s == 5.0
    stream.push_audio(np.zeros(8_000, np.float32), 0, 16_000)
    assert backend.encoder_s == 4 * 5.0
    assert TimedBackend(Costly(grounder.backend, clock), clock).audio_stream() is None


def test_time_of_sound_counts_for_the_next_frame(grounder, monkeypatch):
    clock = Clock()
    backend = TimedBackend(grounder.backend, clock)
    stream = TimedStream(GroundingStream(backend, StreamingConfig()), backend)
    push = stream.stream._timeline._listen

    def slow(waveform):
        clock.now_s += 3.0
        push(waveform)

    monkeypatch.setattr(stream.stream._timeline, "_listen", slow)
    image = np.zeros((64, 64, 3), np.uint8)
    for number in range(2):
        stream.push_audio(np.zeros(320, np.float32), number * 20_000_000, 16_000)
    stream.push_frame(image, 40_000_000)
    stream.push_frame(image, 60_000_000)
    assert stream.not_encoder_s == [6.0, 0.0]


def test_growth_is_the_slope_after_things_have_settled():
    steady = [(100.0 + t, 300.0 + (50.0 if t < 10 else 0.0) + 0.05 * t) for t in range(60)]
    assert growth_per_minute(steady) == pytest.approx(3.0)
    assert growth_per_minute([(t, mb - 0.05 * (t - 100)) for t, mb in steady]) == (
        pytest.approx(0.0, abs=1e-9)
    )
    assert growth_per_minute(steady[:12]) is None
    assert growth_per_minute([]) is None


def test_percentiles_are_milliseconds():
    assert percentiles_ms([n / 1000 for n in range(101)]) == {
        "p50": pytest.approx(50.0),
        "p90": pytest.approx(90.0),
        "p99": pytest.approx(99.0),
        "max": pytest.approx(100.0),
    }
    assert percentiles_ms([]) == {"p50": None, "p90": None, "p99": None, "max": None}


def test_a_target_is_judged_on_its_own_side():
    report = {"a": {"b": 8.0}, "none": None, "nan": math.nan}
    assert judge(report, "a.b", 8.0, is_least=True) == {"value": 8.0, "bound": 8.0, "met": True}
    assert judge(report, "a.b", 8.0, is_least=False)["met"]
    assert not judge(report, "a.b", 9.0, is_least=True)["met"]
    assert not judge(report, "a.b", 7.0, is_least=False)["met"]
    for path in ("none", "nan"):
        assert judge(report, path, 1.0, is_least=True)["met"] is None


def test_cpu_is_counted_per_call(monkeypatch):
    calls = []
    times = iter([1.0, 3.0])
    monkeypatch.setattr(speed.time, "process_time", lambda: next(times))
    assert speed.cpu_ms_of(lambda: calls.append(0)) == pytest.approx(2e3 / speed.NUM_REPEATS)
    assert len(calls) == speed.NUM_REPEATS + 1  # one to warm up


@pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)
def test_a_short_run_reports_every_target(grounder, monkeypatch):
    done_s = []
    monkeypatch.setattr(speed, "LEAST_BUDGET_S", 1000.0)
    # However busy the machine is: no frame is too old, and the queue holds all the sound.
    report = measure_speed(grounder, 2.0, done_s.append, max_image_age_s=1000.0)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    frames = report["frames"]
    assert frames["num_captured"] == 30
    assert frames["num_captured"] == sum(frames.values()) - frames["num_captured"]
    assert len(done_s) == frames["num_published"] > 0
    assert 0 < report["audio"]["num_chunks"] <= 100
    assert report["audio"]["num_lost"] == 0
    latency = report["latency_ms"]
    assert 0.0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert report["memory_mb"]["max"] > report["memory_mb"]["of_which_source"] > 40.0
    cpu_ms = report["cpu_ms_per_heatmap"]
    assert all(value > 0.0 for value in cpu_ms.values())
    for name in ("one_window", "whole_history"):
        assert report["cpu_ratio"][name] == pytest.approx(cpu_ms[name] / cpu_ms["streaming"])
    share = cpu_ms["streaming"] * frames["num_published"] / (20.0 * report["duration_s"])
    assert report["cpu_percent"] == pytest.approx(share, rel=1e-2)  # of a rounded duration
    assert set(report["targets"]) == set(TARGETS)
    assert report["targets"]["frame to heatmap, p50, ms"]["value"] == latency["p50"]


def test_cpu_is_counted_within_a_budget():
    calls = []

    def task():
        calls.append(0)
        time.sleep(0.05)

    speed.cpu_ms_of(task, budget_s=0.12)
    assert 2 <= len(calls) <= 3
    calls.clear()
    speed.cpu_ms_of(task, budget_s=0.0)  # one after the one to warm up, whatever it takes
    assert len(calls) == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_pinning_keeps_to_two_cores():
    script = (
        "import os; from av_grounding.benchmarking.machine import pin_to_cores; "
        "num = pin_to_cores(); print(num, len(os.sched_getaffinity(0)), pin_to_cores(1))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    num = min(2, len(os.sched_getaffinity(0)))
    assert result.stdout.split() == [str(num), str(num), "1"]


@pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)
@pytest.mark.slow
def test_the_command_writes_the_report_and_a_table(bundle, tmp_path):
    command = [sys.executable, "-m", "av_grounding", "bench", "--model", str(bundle)]
    command += ["--duration", "1", "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert report["frames"]["num_captured"] == 15
    for name in TARGETS:
        assert name in result.stdout
