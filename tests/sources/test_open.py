"""SOURCE and AUDIO as typed: which sources come back, on which clock, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_camera import COLORS, nearest_color, serve, solid  # noqa: F401  (a fixture)

from av_grounding.sources.open import open_source
from tests.helpers import make_media as make


def ends_at_s(audio) -> float:
    *_, last = audio
    return last.stamp_ns / 1e9 + len(last.samples) / last.sample_rate_hz


@pytest.fixture
def wav(tmp_path) -> Path:
    seconds = np.arange(16_000) / 16_000
    return make.write_wav(tmp_path / "a.wav", 8000 * np.sin(6283.2 * seconds), 16_000)


def test_a_file_brings_its_own_sound(tmp_path):
    path = make.write_clip(tmp_path / "clip.mp4")
    video, audio = open_source(str(path), realtime=False)
    assert len(list(video)) == 25
    assert ends_at_s(audio) == pytest.approx(1.0, abs=0.05)


def test_none_and_another_file_replace_the_sound(tmp_path, wav):
    path = make.write_clip(tmp_path / "clip.mp4")
    assert open_source(str(path), "none", realtime=False)[1] is None
    _, audio = open_source(str(path), str(wav), realtime=False)
    chunk = next(iter(audio))
    assert (chunk.sample_rate_hz, chunk.stamp_ns) == (16_000, 0)


def test_a_still_with_sound_lasts_as_long_as_the_sound(tmp_path, wav):
    cv2.imwrite(str(tmp_path / "still.jpg"), make.picture(0.0)[..., ::-1])
    video, audio = open_source(str(tmp_path / "still.jpg"), str(wav), realtime=False)
    frames = list(video)
    assert [frame.stamp_ns for frame in frames] == [n * 100_000_000 for n in range(10)]
    assert make.corner_colors(frames[9].image) == ["red", "green", "blue", "yellow"]
    assert ends_at_s(audio) == pytest.approx(1.0)
    video, audio = open_source(str(tmp_path / "still.jpg"), realtime=False)
    assert (len(list(video)), audio) == (1, None)


def test_one_sided_files(tmp_path, wav):
    silent = make.write_clip(tmp_path / "silent.mp4", audio=None)
    video, audio = open_source(str(silent), realtime=False)
    assert (len(list(video)), audio) == (25, None)
    with pytest.raises(ValueError, match=r"wav has sound but no picture.*av-grounding ground"):
        open_source(str(wav), realtime=False)
    with pytest.raises(ValueError, match=r"silent\.mp4: has no sound"):
        open_source(str(silent), str(silent))


def test_two_files_share_the_wall_clock(tmp_path, wav):
    clip = make.write_clip(tmp_path / "clip.mp4", audio=None)
    video, audio = open_source(str(clip), str(wav), realtime=True)
    first_frame = next(iter(video))
    first_chunk = next(iter(audio))
    assert first_frame.stamp_ns > 1e18
    assert first_chunk.stamp_ns == first_frame.stamp_ns


def test_a_network_camera_with_the_sound_of_a_file(serve, wav):  # noqa: F811
    server = serve([solid(COLORS[1])])
    video, audio = open_source(server.url, str(wav), realtime=False)
    frame = next(iter(video)).decode()
    chunk = next(iter(audio))
    video.close()
    assert nearest_color(frame.image) == 1
    # Beside a live camera the file is paced, whatever was asked for.
    assert abs(chunk.stamp_ns - frame.stamp_ns) < 10e9
    assert len(chunk.samples) == 320
    video, audio = open_source(server.url, "none")
    video.close()
    assert audio is None


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("camera:93", FileNotFoundError, r"camera 93: no such device"),
        ("camera:/dev/video94", FileNotFoundError, r"camera /dev/video94: no such device"),
        ("mic:usb", ValueError, r"SOURCE is what is seen; .* --audio mic:usb"),
        ("ftp://host/a.mp4", ValueError, r"expected http://, https:// or rtsp://"),
        ("camra", FileNotFoundError, r"camra: no such file"),
    ],
)
def test_what_cannot_be_opened_says_why(spec, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as caught:
        open_source(spec, "none")
    assert "\n" not in str(caught.value)


def test_a_missing_file_suggests_its_neighbours(tmp_path):
    make.write_clip(tmp_path / "kitchen.mkv")
    with pytest.raises(FileNotFoundError, match=r"similar there: kitchen\.mkv"):
        open_source(str(tmp_path / "kitchen.mp4"))


def test_opening_imports_no_driver_before_it_is_needed():
    code = (
        "import sys, av_grounding.sources.open, av_grounding.sources.camera, "
        "av_grounding.sources.microphone, av_grounding.sources.media_file, "
        "av_grounding.recording.recorder\n"
        "print(sorted({'cv2', 'av', 'sounddevice', 'torch'} & set(sys.modules)))"
    )
    root = str(Path(__file__).parents[2])
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root)
    assert output.strip() == "[]"
