"""What a run leaves behind: contents, step of picture and sound, and nothing lost on the way."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from av_grounding.drawing.overlay import overlay
from av_grounding.recording.recorder import Recorder
from av_grounding.types import Grounding
from tests.helpers.answers import answer as head_answer
from tests.helpers.recording import (
    RNG,
    START_NS,
    answer,
    beep_chunk,
    frame,
    onset_s,
    pictures,
    sound_track,
    start_child,
)


def test_files_hold_what_was_computed(tmp_path):
    recorder = Recorder(tmp_path / "new" / "out", 25)
    written = []
    for index in range(20):
        image = RNG.integers(0, 256, (3, 4, 3)).astype(np.uint8).repeat(32, 0).repeat(32, 1)
        one, maps = frame(index * 0.04, image), answer(START_NS + index * 40_000_000)
        recorder.write(one, maps)
        written.append((one, maps))
    recorder.finish({"latency": {"p50": np.float32(1.5), "p99": float("nan")}, "num": np.int64(3)})
    out = tmp_path / "new" / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "heatmaps.npz",
        "overlay.mp4",
        "report.json",
    ]
    with np.load(out / "heatmaps.npz") as saved:
        assert set(saved) == {"stamp_ns", "sound", "speech", "sound_score", "speech_score"}
        assert saved["stamp_ns"].dtype == np.int64
        assert saved["sound"].shape == saved["speech"].shape == (20, 6, 8)
        assert {saved[k].dtype for k in set(saved) - {"stamp_ns"}} == {np.dtype(np.float32)}
        for index, (_, maps) in enumerate(written):
            assert saved["stamp_ns"][index] == maps.stamp_ns
            np.testing.assert_array_equal(saved["sound"][index], maps.sound)
            np.testing.assert_array_equal(saved["speech"][index], maps.speech)
            assert saved["sound_score"][index] == np.float32(maps.score("sound"))
            assert saved["speech_score"][index] == np.float32(maps.score("speech"))
    shown = pictures(out / "overlay.mp4")
    np.testing.assert_allclose([t for t, _ in shown], np.arange(20) * 0.04, atol=1e-4)
    for (_, image), (one, maps) in zip(shown, written, strict=True):
        to_overlay = np.abs(image.astype(float) - overlay(one.image, maps.heads)).mean()
        to_input = np.abs(image.astype(float) - one.image).mean()
        assert to_overlay < 18
        assert to_input > 2 * to_overlay
    report = json.loads((out / "report.json").read_text())
    assert report["latency"] == {"p50": 1.5, "p99": None}
    assert report["num"] == 3
    assert report["recording"]["num_frames"] == report["recording"]["num_video_frames"] == 20
    assert report["recording"]["error"] is None


def test_video_is_h264_with_aac(tmp_path):
    recorder = Recorder(tmp_path, 25)
    recorder.write_audio(beep_chunk(0, 16_000, 16_000, 0.2))
    for index in range(10):
        recorder.write(frame(index * 0.04), answer(0, value=0.0))
    recorder.close()
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert audio.codec_context.name == "aac"
        # The index is complete: a player knows the length before it plays.
        assert video.frames == 10
        assert container.duration / 1e6 == pytest.approx(1.0, abs=0.1)


def test_without_audio_there_is_no_track(tmp_path):
    recorder = Recorder(tmp_path, 25, audio=False)
    recorder.write_audio(beep_chunk(0, 16_000, 16_000, 0.2))
    recorder.write(frame(0), answer(0))
    recorder.close()
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_sizes_and_grids_may_change(tmp_path):
    recorder = Recorder(tmp_path, 25)
    recorder.write(frame(0.0, np.full((96, 128, 3), 200, np.uint8)), answer(0, (6, 8), 0.0))
    wide = np.full((64, 256, 3), 200, np.uint8)
    recorder.write(frame(0.1, wide), answer(1, (4, 16), 0.0))
    ramp = np.tile(np.linspace(0, 1, 16, dtype=np.float32), (12, 1))
    heads = dict.fromkeys(("sound", "speech"), head_answer(ramp))
    recorder.write(frame(0.2), Grounding(heads, 2))
    recorder.finish({})
    first, second, _ = (image for _, image in pictures(tmp_path / "overlay.mp4"))
    assert first.shape == second.shape == (96, 128, 3)
    assert first[60:].min() > 180
    assert second[:30].max() < 40  # 64x256 fits as 32 rows in the middle
    assert second[-30:].max() < 40
    assert second[34:62, 100:].min() > 170
    with np.load(tmp_path / "heatmaps.npz") as saved:
        assert saved["sound"].shape == (3, 6, 8)
        assert (np.diff(saved["sound"][2], axis=1) > 0).all()
    recording = json.loads((tmp_path / "report.json").read_text())["recording"]
    assert (recording["num_letterboxed"], recording["num_regridded"]) == (1, 2)


def test_stamps_that_repeat_or_go_back(tmp_path):
    recorder = Recorder(tmp_path, 25)
    times_s = [0.0, 0.1, 0.1, 0.05, 0.2]
    for time_s in times_s:
        recorder.write(frame(time_s), answer(round(time_s * 1e9)))
    recorder.close()
    with np.load(tmp_path / "heatmaps.npz") as saved:
        np.testing.assert_array_equal(saved["stamp_ns"], np.array(times_s) * 1e9)
    shown_s = [time_s for time_s, _ in pictures(tmp_path / "overlay.mp4")]
    np.testing.assert_allclose(shown_s, [0.0, 0.1, 0.2], atol=1e-4)
    assert recorder.describe()["num_unordered"] == 2


def test_an_empty_run_is_complete(tmp_path):
    (tmp_path / "overlay.mp4").write_bytes(b"an earlier run's")
    recorder = Recorder(tmp_path, heads=("sound", "speech"))
    recorder.write_audio(beep_chunk(0, 320, 16_000, 0.0))
    recorder.finish({"why": "nothing came"})
    recorder.close()
    with np.load(tmp_path / "heatmaps.npz") as saved:
        assert saved["stamp_ns"].shape == (0,)
        assert saved["sound"].shape == (0, 0, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heatmaps.npz", "report.json"]


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotADirectoryError, match="out is a file; --out needs a folder"):
        Recorder(tmp_path / "out")


def test_two_threads_may_write(tmp_path):
    recorder = Recorder(tmp_path, 25)

    def play() -> None:
        for first in range(0, 32_000, 320):
            recorder.write_audio(beep_chunk(first, 320, 16_000, 1.5))

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    for index in range(50):
        recorder.write(frame(index * 0.04), answer(index))
    thread.join()
    recorder.close()
    assert len(pictures(tmp_path / "overlay.mp4")) == 50
    assert onset_s(sound_track(tmp_path / "overlay.mp4")) == pytest.approx(1.5, abs=0.01)


def check_heatmaps(saved, num_at_least: int) -> int:
    num = len(saved["stamp_ns"])
    assert num >= num_at_least
    np.testing.assert_array_equal(saved["stamp_ns"], np.arange(num) * 40_000_000)
    expected = (np.arange(num) % 100 / 100).astype(np.float32)
    # What float32 keeps of a logit.
    np.testing.assert_allclose(saved["sound"][:, 5, 5], expected, atol=1e-6)
    np.testing.assert_allclose(saved["speech"][:, -1, -1], expected / 2, atol=1e-6)
    return num


def test_a_killed_process_leaves_readable_parts(tmp_path):
    child = start_child(tmp_path)
    assert child.stdout.readline() == "READY\n"
    child.kill()
    child.wait()
    num = check_heatmaps(np.load(tmp_path / "heatmaps.part.npy"), 60)
    shown = pictures(tmp_path / "overlay.part.mp4")
    assert len(shown) >= min(25, num - 51)
    assert len(sound_track(tmp_path / "overlay.part.mp4")) > 0.5 * 48_000


@pytest.mark.parametrize("seed", range(4))
def test_ctrl_c_at_any_moment_completes_the_files(tmp_path, seed):
    child = start_child(tmp_path)
    assert child.stdout.readline() == "READY\n"
    time.sleep(random.Random(seed).uniform(0, 0.05))
    child.send_signal(signal.SIGINT)
    if seed % 2:  # impatient: again while it closes
        time.sleep(0.003 * seed)
        child.send_signal(signal.SIGINT)
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        # Python drops an exception that reaches it within a destructor: one presses again then.
        child.send_signal(signal.SIGINT)
        child.wait(30)
    assert child.returncode == 130
    with np.load(tmp_path / "heatmaps.npz") as saved:
        num = check_heatmaps(saved, 60)
    shown = pictures(tmp_path / "overlay.mp4")
    assert num - 1 <= len(shown) <= num
    assert not list(tmp_path.glob("*.part*"))
    if not seed % 2:
        recording = json.loads((tmp_path / "report.json").read_text())["recording"]
        assert recording["num_frames"] == num


def check_full_disk(directory: Path, message: str, num_at_least: int) -> None:
    assert f"recording to {directory} stopped: " in message
    assert "\n" not in message
    with np.load(directory / "heatmaps.npz") as saved:
        num = check_heatmaps(saved, num_at_least)
    assert f"heatmaps.npz ({num} frames)" in message
    shown = pictures(directory / "overlay.mp4")
    assert len(shown) >= num_at_least // 2
    assert "overlay.mp4 (" in message
    recording = json.loads((directory / "report.json").read_text())["recording"]
    assert recording["error"] == message
    assert not [path.name for path in directory.iterdir() if "part" in path.name]


@pytest.mark.parametrize("limit", [400_000, 700_000])
def test_a_file_size_limit_keeps_what_was_computed(tmp_path, limit):
    child = start_child(tmp_path, str(limit))
    output, _ = child.communicate()
    assert child.returncode == 3
    message = output.strip().splitlines()[-1]
    assert os.strerror(errno.EFBIG) in message
    check_full_disk(tmp_path, message, 10)


@pytest.fixture
def tiny_disk(tmp_path, request):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = f"size={request.param}k"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("tiny_disk", [1000, 1500], indirect=True)
def test_a_full_disk_keeps_what_was_computed(tiny_disk):
    child = start_child(tiny_disk)
    output, _ = child.communicate()
    assert child.returncode == 3
    message = output.strip().splitlines()[-1]
    assert os.strerror(errno.ENOSPC) in message
    check_full_disk(tiny_disk, message, 10)


@pytest.mark.parametrize("tiny_disk", [1000], indirect=True)
def test_the_error_comes_once_and_later_calls_do_nothing(tiny_disk):
    recorder = Recorder(tiny_disk, 25)
    errors = []
    for index in range(2000):
        try:
            recorder.write(frame(index * 0.04), answer(index, (40, 40)))
        except OSError as error:
            errors.append((index, error))
        if errors and index > errors[0][0] + 5:
            break
    assert len(errors) == 1
    assert errors[0][1].errno == errno.ENOSPC
    recorder.close()
    recorder.write_audio(beep_chunk(0, 320, 16_000, 0.0))
    with np.load(tiny_disk / "heatmaps.npz") as saved:
        assert len(saved["stamp_ns"]) == recorder.describe()["num_frames"] >= 10
