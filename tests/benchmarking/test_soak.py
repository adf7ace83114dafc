"""The soak: what it calls flat and what not, its plan of faults, and a short run."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from av_grounding.benchmarking.soak.faults import KINDS, FaultSchedule, expected_counters, plan
from av_grounding.benchmarking.soak.verdict import BOUNDS, judge
from tests.helpers.small_bundle import save_small_bundle

FACTS = {
    "audio overruns": 0,
    "old heatmaps shown as new": 0,
    "frames unaccounted for": 0,
    "counters off": 0,
    "subscribers that failed": 0,
}


def samples(num=120, **columns):
    """Measurements of a run that is flat but for noise, and for the columns given."""
    rng = np.random.default_rng(0)
    flat = {
        "time_s": np.arange(1, num + 1) * 30.0,
        "memory_mb": 400 + rng.normal(0, 1, num),
        "num_threads": 17 + rng.integers(0, 2, num),
        "num_descriptors": 18 + rng.integers(0, 6, num),
        "p99_ms": rng.uniform(20, 60, num),
        "cpu_percent": rng.uniform(40, 50, num),
        "drift_error_ppm": rng.normal(0, 5, num),
        "audio_lag_s": rng.normal(0, 0.1, num),
    } | columns
    return [dict(zip(flat, row, strict=True)) for row in zip(*flat.values(), strict=True)]


def missed(rows, **facts):
    verdict = judge(rows, FACTS | {name.replace("_", " "): v for name, v in facts.items()})
    return [name for name, row in verdict.items() if not row["is_met"]]


def test_a_flat_run_passes():
    assert missed(samples()) == []
    assert set(judge(samples(), FACTS)) == set(BOUNDS)


def test_what_happens_while_it_settles_does_not_count():
    memory = np.full(120, 400.0)
    memory[:25] = np.linspace(100, 400, 25)
    assert missed(samples(memory_mb=memory)) == []


@pytest.mark.parametrize(
    ("name", "values", "bound"),
    [
        ("memory_mb", 400 + np.linspace(0, 40, 120), "memory growth"),
        ("num_threads", 17 + np.arange(120) // 30, "more threads"),
        ("num_descriptors", 18 + np.arange(120) // 10, "more file descriptors"),
        ("p99_ms", np.linspace(20, 200, 120), "p99 late / p99 early"),
        ("p99_ms", np.full(120, np.nan), "p99 late / p99 early"),
        ("cpu_percent", np.linspace(46, 105, 120), "CPU late / CPU early"),
        ("drift_error_ppm", np.full(120, 60.0), "drift error"),
        ("audio_lag_s", np.linspace(0, 5, 120), "audio lag change"),
    ],
)
def test_what_is_not_flat_is_named(name, values, bound):
    assert missed(samples(**{name: values})) == [bound]


@pytest.mark.filterwarnings("error")
def test_counts_that_are_off_are_named():
    assert missed(samples(), counters_off=1) == ["counters off"]
    assert missed(samples(), old_heatmaps_shown_as_new=math.nan) == ["old heatmaps shown as new"]


def test_a_run_that_is_too_short_says_nothing():
    with pytest.raises(ValueError, match="got 8 settled samples, expected 12"):
        judge(samples(10), FACTS)


def test_every_kind_of_fault_comes_in_turn_and_none_meets_another():
    faults = plan(24 * 3600.0, 120.0)
    assert len(faults) == 720
    assert {fault.kind for fault in faults} == set(KINDS)
    ends = [(fault.start_s, fault.stop_s) for fault in faults]
    assert all(end + 10 < start for (_, end), (start, _) in itertools.pairwise(ends))
    assert plan(3600.0, 120.0, seed=1) == plan(3600.0, 120.0, seed=1) != plan(3600.0, 120.0)
    with pytest.raises(ValueError, match="expected 60 or more"):
        plan(100.0, 20.0)


def test_a_schedule_tells_what_is_wrong_at_a_moment():
    faults = plan(1200.0, 120.0)
    schedule = FaultSchedule(faults)
    moments = np.arange(0.0, 1200.0, 0.1)
    told = [schedule.at(moment) for moment in moments]
    for fault in faults:
        on = (moments >= fault.start_s) & (moments < fault.stop_s)
        assert {told[index] for index in np.flatnonzero(on)} == {fault.kind}
    assert told.count(None) > len(told) / 2
    kinds = [fault.kind for fault in faults]
    assert kinds == [*KINDS, "sound missing"]
    assert expected_counters(faults) == {
        "num_audio_resets": 3,
        "num_rate_changes": 2,
        "num_frame_size_changes": 2,
        "num_frame_stamp_steps_back": 1,
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return save_small_bundle(tmp_path_factory.mktemp("bundle"))


def start(*options):
    pytest.importorskip("aiohttp")
    pytest.importorskip("matplotlib")
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads and descriptors are read from /proc")
    return subprocess.Popen(
        [sys.executable, "-m", "av_grounding.benchmarking.soak", *map(str, options)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_short_soak_is_flat(bundle, tmp_path):
    """Latencies are not judged here: others may use the machine. It still settles, too."""
    options = ("--minutes", 0.6, "--hours", 0.24, "--model", bundle, "--out", tmp_path / "out")
    process = start(*options, "--max-slowdown", 100, "--max-growth-mb", 64, "--quiet")
    try:
        told, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, (told, errors)
    report = json.loads((tmp_path / "out" / "soak.json").read_text())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["soak.json", "soak.png"]
    assert cv2.imread(str(tmp_path / "out" / "soak.png")).std() > 10
    assert report["run"]["num_audio_chunks"] > 0.9 * 0.24 * 36_000
    assert sum(report["num_faults"].values()) == 6
    assert all(row["found"] == row["expected"] for row in report["counters"].values())
    assert report["counters"]["num_audio_resets"]["found"] == 3
    assert report["num_checked_in_silence"] > 5
    assert min(report["num_visits"].values()) >= 3
    assert "ok   memory growth" in told


def test_ctrl_c_ends_a_soak_and_leaves_no_half_file(bundle, tmp_path):
    process = start("--model", bundle, "--out", tmp_path / "out", "--minutes", 2, "--hours", 0.5)
    try:
        assert "threads" in process.stderr.readline()  # it runs
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "soak: interrupted; nothing judged"
    assert "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []
