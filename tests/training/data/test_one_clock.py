"""Training data pairs pictures and sound of one moment; what it cannot use gets a row."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from av_grounding.cli import main
from av_grounding.training.data import media
from av_grounding.training.data.clips import ClipFiles
from av_grounding.training.data.folder import list_clips
from av_grounding.training.data.open import FileClips
from av_grounding.training.data.shard_writer import ShardConfig, write_shards
from av_grounding.training.data.shards import ShardClips, find_shards, list_members, pread
from av_grounding.training.fitting.clip_folder import find_clips
from tests.helpers import make_media as make
from tests.helpers.make_clips import write_picture, write_sound, write_video

CONFIG = ShardConfig(short_side_px=120, num_frames=3, validation_fraction=0.0)
PERIOD_S = 0.04


def shard(root, out, **changes):
    """The report, and every clip as (meta, waveform, pictures)."""
    report = write_shards(list_clips(root), out, replace(CONFIG, **changes))
    clips = []
    shards = ShardClips(find_shards(out, "train"), 16_000)
    for number, found in enumerate(shards.shards):
        file, members = shards.opened(number)
        for index in range(found.num_clips):
            files = {m.suffix: pread(file, m) for m in members[index]}
            waveform, _ = media.decode_sound(files["flac"], "x")
            images = [media.decode_picture(files[f"{i}.jpg"], "x") for i in range(3)]
            clips.append((json.loads(files["json"]), waveform, images))
    assert sum(len(list_members(one.path)) for one in shards.shards) == len(clips)
    rows = [json.loads(line) for line in (out / "problems.jsonl").read_text().splitlines()]
    return report, clips, rows


def check_paired(clips, silent_s=()):
    """Sound and pictures of every clip say the time at which they are."""
    for meta, waveform, images in clips:
        duration_s = len(waveform) / 16_000
        for place, image in enumerate(images):
            at_s = (place + 0.5) / 3 * duration_s
            time_s = meta["start_s"] + at_s
            assert time_s - make.seen_time(image) == pytest.approx(0.02, abs=0.055)
            heard_s = make.heard_time(waveform, 16_000, at_s)
            if any(start < time_s < stop for start, stop in silent_s):
                assert np.isnan(heard_s)
            else:
                assert heard_s == pytest.approx(time_s, abs=0.035)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("late.mp4", {"sound_s": 1.5}),
        ("picture.mp4", {"picture_s": 0.88}),
        ("a.MTS", {}),
        ("a.m2ts", {"sound_s": 0.7}),
        ("a.3g2", {}),
        ("dvd.mpg", {"video": "mpeg2video", "audio": "mp2", "gop": 15}),
    ],
)
def test_every_recording_runs_on_its_own_clock(tmp_path, name, options):
    (tmp_path / "in").mkdir()
    make.write_times(tmp_path / "in" / name, 24.0, **options)
    report, clips, rows = shard(tmp_path / "in", tmp_path / "out")
    assert [meta["start_s"] for meta, _, _ in clips] == [0.0, 10.0, 20.0]
    assert sum(meta["duration_s"] for meta, _, _ in clips) == pytest.approx(24.0, abs=0.06)
    check_paired(clips)
    assert (report["num_muted"], rows) == (0, [])


def test_muted_clips_are_counted_and_left_out_where_that_is_asked_for(tmp_path):
    (tmp_path / "in").mkdir()
    silent_s = [(8.5, 21.5), (26.0, 38.0)]
    make.write_times(tmp_path / "in/call.mp4", 38.0, muted_s=silent_s)
    report, clips, rows = shard(tmp_path / "in", tmp_path / "kept")
    assert report["num_muted"] == 2
    assert [meta["is_muted"] for meta, _, _ in clips] == [False, True, False, True]
    check_paired(clips, [(8.6, 21.4), (26.1, 38.1)])
    assert rows == [
        {"why": "muted", "id": "call", "reason": "nothing is heard for 10.0 s from 10.0 s on"},
        {"why": "muted", "id": "call", "reason": "nothing is heard for 8.0 s from 30.0 s on"},
    ]
    report, clips, rows = shard(tmp_path / "in", tmp_path / "less", leave_out_muted=True)
    assert [meta["start_s"] for meta, _, _ in clips] == [0.0, 20.0]
    assert report["num_muted"] == len(rows) == 2


def test_the_command_says_what_is_muted_and_unused(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    make.write_times(tmp_path / "in/a.mp4", 12.0, muted_s=[(0.0, 10.5)])
    (tmp_path / "in/notes.txt").write_text("no medium")
    arguments = ["data", "shard", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    arguments += ["--validation", "0", "--workers", "1", "--leave-out-muted"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "1 clips are muted and left out, 1 files are unused" in said
    assert "notes.txt: its name is of no known kind" in said


def test_nothing_vanishes_without_a_row(tmp_path):
    root = tmp_path / "in"
    write_video(root / "walk.mp4")
    write_video(root / "walk.mkv")
    write_video(root / "walk.MOV")
    write_picture(root / "walk.png")
    write_sound(root / "dog.wav")
    write_sound(root / "dog.flac")
    write_picture(root / "dog.png")
    write_picture(root / "dog.jpg")
    write_picture(root / "lone.jpg")
    (root / "film.xyz").write_bytes(b"?")
    listing = list_clips(root)
    used = {path for clip in listing.clips for path in (clip.sound, *clip.pictures)}
    assert {path.name for path in used} == {"walk.MOV", "dog.flac", "dog.jpg"}
    reasons = {problem.id: problem.reason for problem in (*listing.missing, *listing.unused)}
    assert reasons == {
        "lone": "no sound of the same name",
        "film.xyz": "its name is of no known kind",
        "walk.mp4": "walk.MOV of the same name is used: rename it to use both",
        "walk.mkv": "walk.MOV of the same name is used: rename it to use both",
        "walk.png": "walk.MOV of the same name is used: rename it to use both",
        "dog.wav": "dog.jpg of the same name is used: rename it to use both",
        "dog.png": "dog.jpg of the same name is used: rename it to use both",
    }
    num_files = sum(path.is_file() for path in root.rglob("*"))
    assert len(used) + len(reasons) == num_files
    report = write_shards(listing, tmp_path / "out", CONFIG)
    rows = (tmp_path / "out/problems.jsonl").read_text().splitlines()
    assert (report["num_unused"], len(rows)) == (6, 7)


def test_a_video_that_is_longer_than_is_used_gets_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr("av_grounding.training.data.shard_writer.MAX_PIECES", 3)
    write_video(tmp_path / "in/long.mp4", duration_s=5.0)
    _, clips, (row,) = shard(tmp_path / "in", tmp_path / "out", clip_s=1.0)
    assert len(clips) == 3
    assert row["reason"].startswith("lasts 5 s, of which the first 3 s are used")


def test_training_from_files_hears_and_sees_the_same_moment(tmp_path):
    path = make.write_times(tmp_path / "call.mp4", 30.0, sound_s=1.5, muted_s=[(9, 30)])
    clips = FileClips([ClipFiles("call", path, (path,))], 16_000, max_s=4.0)
    rng = np.random.default_rng(0)
    num_heard = 0
    for _ in range(12):
        clip = clips.read(0, rng)
        assert len(clip.waveform) == 64_000
        assert not media.is_muted(clip.waveform)
        seen_s = make.seen_time(clip.image)
        for off_s in (-1.8, -1.0, 0.0, 1.0, 1.8):
            if 1.7 < seen_s + off_s < 8.8:
                heard_s = make.heard_time(clip.waveform, 16_000, 2.0 + off_s)
                assert heard_s == pytest.approx(seen_s + off_s, abs=0.07)
                num_heard += 1
    assert num_heard > 20


def test_a_file_that_is_muted_throughout_ends_nothing(tmp_path):
    path = make.write_times(tmp_path / "a.mp4", 12.0, muted_s=[(0.2, 12)])
    clips = FileClips([ClipFiles("a", path, (path,))], 16_000, max_s=2.0)
    clip = clips.read(0, np.random.default_rng(1))
    assert len(clip.waveform) == 32_000


def test_pixels_are_square_in_shards(tmp_path):
    (tmp_path / "in").mkdir()
    make.write_times(tmp_path / "in/dv.mkv", 2.0, pixel_aspect=Fraction(16, 11))
    _, ((_, _, images),), _ = shard(tmp_path / "in", tmp_path / "out")
    assert images[0].shape == (120, 233, 3)


def test_calibration_says_what_it_leaves_out_and_takes_the_middle(tmp_path, caplog):
    for name in ("a.mp4", "b.ts", "b.mp4"):
        make.write_times(tmp_path / name, 4.0)
    (tmp_path / "list.txt").write_text("a, b")
    clips = find_clips(tmp_path)
    assert [clip.picture.path.name for clip in clips] == ["a.mp4", "b.mp4"]
    assert "2 files are part of no clip, first list.txt" in caplog.text
    assert make.seen_time(clips[0].picture.middle_frame()) == pytest.approx(2.0, abs=0.05)
