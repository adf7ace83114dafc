"""The command line stopped, killed and starved of disk while it records; and a damaged model."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest

from av_grounding.transports.bag.source import open_bag
from av_grounding.types import Frame
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.watched import PATIENT_S, command

PATIENT = "/**: {ros__parameters: {max_image_age_ms: 60000.0}}\n"
"""A busy machine is not what is tested here."""
# PortAudio may leave this process under real-time scheduling, which children inherit: two such
# hogs would let nothing else run at all.
HOG = """
import os
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
while True:
    pass
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return save_small_bundle(tmp_path_factory.mktemp("bundle"))


@contextlib.contextmanager
def recording(bundle, out, *options):
    """`av-grounding run demo` that records in both ways and is well under way."""
    out.mkdir(exist_ok=True)
    config = out / "patient.yaml"
    config.write_text(PATIENT)
    arguments = ("run", "demo", "--model", bundle, "--config", config, *options)
    process = subprocess.Popen(
        **command("-m", "av_grounding", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENT_S)
        process.stdout.close()
        process.stderr.close()


def num_spooled(out):
    """How many frames the run has on disk so far; a file without its header holds none."""
    try:
        return len(np.load(out / "heatmaps.part.npy", mmap_mode="r"))
    except (FileNotFoundError, EOFError):
        return 0


def wait_for_frames(process, out, num=15):
    deadline_s = time.monotonic() + PATIENT_S
    while num_spooled(out) < num:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline_s, "it records nothing"
        time.sleep(0.05)


@pytest.fixture
def load():
    """Two processes that take all the CPU they get."""
    hogs = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(2)]
    yield
    for hog in hogs:
        hog.kill()
        hog.wait(PATIENT_S)


def check_files(out, bag, *, is_complete):
    """Both recordings can be read and agree with each other."""
    suffix = "" if is_complete else ".part"
    if is_complete:
        with np.load(out / "heatmaps.npz") as saved:
            stamps, sound = saved["stamp_ns"], saved["sound"]
    else:
        saved = np.load(out / "heatmaps.part.npy")
        stamps, sound = saved["stamp_ns"], saved["sound"]
    assert (np.diff(stamps) > 0).all()
    assert ((sound >= 0.0) & (sound <= 1.0)).all()
    with av.open(str(out / f"overlay{suffix}.mp4")) as container:
        num_shown = sum(1 for _ in container.decode(video=0))
    frames = [item for item in open_bag(bag, realtime=False)[0] if isinstance(item, Frame)]
    assert {frame.stamp_ns for frame in frames} >= set(stamps[:-15].tolist())
    return len(stamps), num_shown, len(frames)


@pytest.mark.parametrize("is_ignored", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_sigterm_under_load_ends_in_order(bundle, tmp_path, load, is_ignored):
    """As a service manager stops it; also where a shell's background had Ctrl-C ignored."""
    out, bag = tmp_path / "out", tmp_path / "r.mcap"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_ignored else None
    try:
        with recording(bundle, out, "--out", out, "--record", bag) as process:
            if is_ignored:
                signal.signal(signal.SIGINT, before)
            wait_for_frames(process, out)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENT_S)
    finally:
        if is_ignored:
            signal.signal(signal.SIGINT, before)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    num, num_shown, num_bagged = check_files(out, bag, is_complete=True)
    assert num >= 15
    assert num - 1 <= num_shown <= num
    assert num_bagged >= num
    assert not list(out.glob("*.part*"))
    report = json.loads((out / "report.json").read_text())
    assert report["recording"]["num_frames"] == num


def test_kill_minus_nine_leaves_what_was_written(bundle, tmp_path):
    out, bag = tmp_path / "out", tmp_path / "r.mcap"
    with recording(bundle, out, "--out", out, "--record", bag) as process:
        wait_for_frames(process, out, num=40)
        process.kill()
    num, num_shown, num_bagged = check_files(out, bag, is_complete=False)
    assert num >= 40
    assert min(num_shown, num_bagged) >= num - 30  # the last second or two


@pytest.fixture
def tiny_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3000k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, timeout=60).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True, timeout=60)


def test_a_full_disk_ends_the_bag_and_not_the_run(bundle, tmp_path, tiny_disk):
    """A robot goes on seeing; what was recorded until then can be read."""
    out, bag = tmp_path / "out", tiny_disk / "r.mcap"
    options = ("--out", out, "--record", bag, "--duration", 4, "--json")
    with recording(bundle, out, *options) as process:
        told, errors = process.communicate(timeout=PATIENT_S)
    assert "recording to" in errors
    assert "No space left on device" in errors
    assert "Traceback" not in errors
    # The disk is named at the end, when all else is complete.
    assert process.returncode == 2, told
    with np.load(out / "heatmaps.npz") as saved:
        stamps = saved["stamp_ns"]
    assert stamps[-1] - stamps[0] > 3e9
    frames = [item for item in open_bag(bag, realtime=False)[0] if isinstance(item, Frame)]
    assert 0 < len(frames) < len(stamps)


def test_a_truncated_model_is_refused_before_anything_is_opened(bundle, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(bundle, copy)
    weights = copy / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    with recording(copy, tmp_path / "out", "--out", tmp_path / "recorded") as process:
        _, errors = process.communicate(timeout=PATIENT_S)
    assert process.returncode == 2
    (line,) = errors.strip().splitlines()
    assert "damaged" in line
    assert "copy the bundle again" in line
    assert not (tmp_path / "recorded").exists()


@pytest.mark.slow
def test_a_model_that_is_truncated_while_it_runs(bundle, tmp_path):
    """Somebody copies a new one over it: the run goes on with what it loaded."""
    copy, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(bundle, copy)
    with recording(copy, out, "--out", out, "--duration", 5, "--json") as process:
        wait_for_frames(process, out, num=5)
        os.truncate(copy / "model.safetensors", 100)
        told, errors = process.communicate(timeout=PATIENT_S)
    assert process.returncode == 0, errors
    assert json.loads(told)["num_frames_published"] >= 20
