"""Examples for an export from recordings: each picture with the sound that ends with it."""

from dataclasses import replace

import numpy as np
import pytest

from av_grounding.cli.export_examples import is_bag, read_examples
from av_grounding.evaluation.export_check import everyday_examples
from av_grounding.evaluation.export_examples import (
    PICTURE_EVERY_S,
    ExampleRecording,
    split_examples,
)
from av_grounding.everyday.packages import FOLDERS
from av_grounding.everyday.parts import PACKAGES
from av_grounding.everyday.samples import EverydaySamples
from av_grounding.types import AudioChunk, Frame, HeadSpec, ModelSpec
from tests.helpers.make_clips import write_picture, write_sound, write_video

SPEC = ModelSpec(
    (HeadSpec("sound"),), sample_rate_hz=16_000, window_s=1.0, hop_s=0.2, num_tokens=10,
    short_side_px=32, patch_px=8,
)  # fmt: skip
SIZE = (32, 40)
START_NS = 5_000_000_000


def ramp(seconds):
    """Sound whose every sample tells when it was."""
    return np.linspace(
        0.0, 0.1 * seconds, round(16_000 * seconds), endpoint=False, dtype=np.float32
    )


def recorded(seconds, interleaved=False):
    image = np.zeros((48, 64, 3), np.uint8)
    frames = [
        Frame(image, START_NS + round(1e8 * number)) for number in range(round(10 * seconds))
    ]
    wave = ramp(seconds)
    chunks = [
        AudioChunk(wave[at : at + 1600], START_NS + round(at * 62_500), 16_000)
        for at in range(0, wave.size, 1600)
    ]
    recording = ExampleRecording(SPEC, SIZE)
    if interleaved:
        recording.read(sorted([*frames, *chunks], key=lambda item: item.stamp_ns))
    else:
        recording.read(chunks)
        recording.read(frames)
    return recording


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_window_ends_with_its_picture(interleaved):
    pairs = recorded(4.0, interleaved).pairs()
    assert len(pairs) == round(4.0 / PICTURE_EVERY_S)
    for number, (picture, window) in enumerate(pairs):
        assert picture.shape == (*SIZE, 3)
        assert window.shape == (16_000,)
        end_s = max(1.0, number * PICTURE_EVERY_S)
        assert window[-100] == pytest.approx(0.1 * end_s, abs=2e-3)
        assert window[0] == pytest.approx(0.1 * (end_s - 1.0), abs=2e-3)


def test_a_recording_shorter_than_a_window_begins_with_silence():
    (_, window), *_ = recorded(0.6).pairs()
    assert not window[:6_000].any()
    assert window[-100] == pytest.approx(0.06, abs=2e-3)


def test_halves_have_nothing_in_common():
    pairs = [(np.full((8, 8, 3), i, np.uint8), np.full(4, i, np.float32)) for i in range(11)]
    calibration, test = split_examples(pairs, 3, "here")
    taken = [[int(image[0, 0, 0]) for image in of.images] for of in (calibration, test)]
    assert taken == [[0, 4, 8], [2, 6, 10]]
    assert [int(wave[0]) for wave in test.waveforms] == taken[1]
    with pytest.raises(ValueError, match="here gives 1 pictures with sound; expected at least 2"):
        split_examples(pairs[:1], 3, "here")


def read(path, num=2):
    return read_examples(str(path), SPEC, SIZE, num, lambda done: None)


def test_a_video_and_a_folder_of_them(tmp_path):
    video = tmp_path / "clips" / "a.mp4"
    video.parent.mkdir()
    write_video(video, duration_s=3.0)
    for path in (video, video.parent):
        calibration, test = read(path)
        assert len(calibration.images) == len(test.images) == 2
        assert test.images[0].shape == (*SIZE, 3)
        assert np.abs(test.waveforms[0]).max() > 0.05


def test_pictures_are_paired_with_sounds(tmp_path):
    for color in ("red", "green"):
        write_picture(tmp_path / f"{color}.png", color)
    write_sound(tmp_path / "tone.wav")
    (tmp_path / "notes.txt").write_text("no medium")
    calibration, test = read(tmp_path)
    assert np.abs(calibration.waveforms[0]).max() > 0.05
    means = [of.images[0].mean(axis=(0, 1)).argmax() for of in (calibration, test)]
    assert sorted(means) == [0, 1]


def test_what_gives_nothing_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="name a video, a bag or a folder"):
        read(tmp_path / "nothing")
    with pytest.raises(ValueError, match="gives 0 pictures with sound"):
        read(tmp_path)
    (tmp_path / "notes.txt").write_text("no medium")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        read(tmp_path / "notes.txt")


def test_bags_are_known_by_their_names(tmp_path):
    folder = tmp_path / "bag"
    folder.mkdir()
    assert not is_bag(str(folder), folder)
    (folder / "metadata.yaml").write_text("")
    assert is_bag(str(folder), folder)
    assert is_bag("x.mcap", tmp_path / "x.mcap")
    assert not is_bag("x.mp4", tmp_path / "x.mp4")


@pytest.mark.skipif(
    not all(FOLDERS[name].is_dir() for name in PACKAGES), reason=f"needs {', '.join(PACKAGES)}"
)
def test_scenes_of_the_everyday_world_are_examples_in_the_model_s_size():
    examples = everyday_examples(SPEC, SIZE, 2, seed=5)
    sample = EverydaySamples("validation", 5)[1]
    assert [image.shape for image in examples.images] == [(*SIZE, 3)] * 2
    np.testing.assert_array_equal(examples.waveforms[1], sample.mixture[-16_000:])
    long = everyday_examples(replace(SPEC, window_s=10.0), SIZE, 1, seed=5, first=1)
    np.testing.assert_array_equal(long.waveforms[0][-32_000:], sample.mixture[:32_000])
