import errno
import json
import pickle
import resource
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from av_grounding.training.data import shard_writer
from av_grounding.training.data.batches import PLAIN, open_batches
from av_grounding.training.data.folder import list_clips
from av_grounding.training.data.mixing import MixingConfig
from av_grounding.training.data.open import holds_clips, open_clips
from av_grounding.training.data.shard_writer import ShardConfig, write_shards
from av_grounding.training.data.shards import ShardClips, find_shards, list_members
from tests.helpers.make_clips import (
    NAMES,
    color_of,
    make_audioset,
    make_folder,
    make_places,
    make_vggsound,
    peak_hz,
    write_picture,
    write_sound,
)

CONFIG = ShardConfig(short_side_px=32, num_frames=2, files_per_shard=2, validation_fraction=0.0)


def rng():
    return np.random.default_rng(0)


def read_all(root, kind, split="train"):
    clips = ShardClips([s for s in find_shards(root, split) if s.kind == kind], 16_000)
    return [clips.read(index, rng()) for index in range(len(clips))]


@pytest.mark.parametrize(
    ("make", "kind", "tones"),
    [
        (make_audioset, "sound", {500: {"red", "green", "blue"}, 700: {"green"}}),
        (make_places, "speech", {300: {"red"}, 500: {"green"}}),
        (make_vggsound, "sound", {400: {"green"}, 600: {"blue"}}),
    ],
)
def test_every_layout_becomes_shards_with_its_own_sound_and_picture(tmp_path, make, kind, tones):
    listing = list_clips(make(tmp_path / "source"))
    report = write_shards(listing, tmp_path / "out", CONFIG)
    assert report["num_clips"][f"train {kind}"] == 2
    assert report["num_listed"] == 2 + report["num_missing"]
    assert report["num_unreadable"] == 0
    clips = read_all(tmp_path / "out", kind)
    assert sorted(round(peak_hz(clip.waveform), -1) for clip in clips) == sorted(tones)
    for clip in clips:
        assert min(clip.image.shape[:2]) == 32
        assert color_of(clip.image) in tones[round(peak_hz(clip.waveform), -1)]
    problems = (tmp_path / "out/problems.jsonl").read_text().splitlines()
    assert {json.loads(line)["why"] for line in problems} == {"missing"}
    assert len(problems) == report["num_missing"] > 0


def test_a_long_video_becomes_several_clips_and_faults_are_reported(tmp_path):
    listing = list_clips(make_folder(tmp_path / "source"))
    report = write_shards(listing, tmp_path / "out", replace(CONFIG, clip_s=1.0, num_frames=1))
    assert report["num_clips"] == {
        "train sound": 4, "train speech": 1, "val sound": 0, "val speech": 0,
    }  # fmt: skip
    assert (report["num_listed"], report["num_missing"], report["num_unreadable"]) == (6, 1, 2)
    reasons = {
        row["id"]: (row["why"], row["reason"])
        for row in map(json.loads, (tmp_path / "out/problems.jsonl").read_text().splitlines())
    }
    assert reasons["lone"] == ("missing", "no sound of the same name")
    assert "has no sound" in reasons["silent"][1]
    assert reasons["torn"][0] == "unreadable"
    clips = read_all(tmp_path / "out", "sound")
    tones = sorted((round(peak_hz(clip.waveform), -1), color_of(clip.image)) for clip in clips)
    assert tones == [(400, "blue"), (400, "green"), (400, "red"), (600, "green")]


def test_other_processes_write_the_same_shards(tmp_path):
    listing = list_clips(make_folder(tmp_path / "source"))
    for workers in (1, 2):
        write_shards(listing, tmp_path / str(workers), CONFIG, num_workers=workers)
    files = [
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.tar")}
        for n in ("1", "2")
    ]
    assert files[0] == files[1]
    assert len(files[0]) >= 2


def test_a_stopped_run_goes_on_and_ends_with_the_same_shards(tmp_path, monkeypatch):
    listing = list_clips(make_folder(tmp_path / "source"))
    write_shards(listing, tmp_path / "straight", CONFIG)

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(listing, tmp_path / "stopped", CONFIG, progress=stop)
    assert not (tmp_path / "stopped/shards.json").exists()
    written = []
    original = shard_writer.write_shard
    monkeypatch.setattr(
        shard_writer, "write_shard", lambda task: written.append(task[1]) or original(task)
    )
    seen = []
    write_shards(
        listing, tmp_path / "stopped", CONFIG, progress=lambda *counts: seen.append(counts)
    )
    names = [name for name, _ in shard_writer.plan(listing, CONFIG)]
    assert len(written) == len(names) - 1
    assert seen[0][0] > 0
    assert seen[-1] == (5, 5)
    for path in (tmp_path / "straight").rglob("*.tar"):
        other = tmp_path / "stopped" / path.relative_to(tmp_path / "straight")
        assert other.read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match=r"clip_s: 10\.0 then, 2\.0 now"):
        write_shards(listing, tmp_path / "stopped", replace(CONFIG, clip_s=2.0))


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path):
    listing = list_clips(make_folder(tmp_path / "source"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        with pytest.raises(OSError, match=r"\.tar") as full:
            write_shards(listing, tmp_path / "out", CONFIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert full.value.errno == errno.EFBIG
    assert list((tmp_path / "out").rglob("*.partial")) == []
    assert write_shards(listing, tmp_path / "out", CONFIG)["num_clips"]["train sound"] == 2


def test_shards_are_what_webdataset_reads(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    listing = list_clips(make_places(tmp_path / "source"))
    write_shards(listing, tmp_path / "out", CONFIG)
    (path,) = (tmp_path / "out/train").glob("*.tar")
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert len(samples) == 2
    for sample in samples:
        assert {"json", "flac", "0.jpg"} <= sample.keys()
        meta = json.loads(sample["json"])
        assert meta["text"].startswith("a ")
        assert meta["sample_rate_hz"] == 16_000


def test_tars_of_another_program_are_read_but_at_one_rate(tmp_path):
    sound = write_sound(tmp_path / "a.wav", hz=700, rate_hz=22_050)
    picture = write_picture(tmp_path / "a.png", "blue")
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set/000.tar", "w") as tar:
        tar.add(sound, "x/one.wav")
        tar.add(picture, "x/one.png")
    (shard,) = find_shards(tmp_path / "set", "train")
    assert find_shards(tmp_path / "set", "val") == []
    clip = ShardClips([shard], 22_050).read(0, rng())
    assert peak_hz(clip.waveform, 22_050) == pytest.approx(700, abs=2)
    assert color_of(clip.image) == "blue"
    with pytest.raises(ValueError, match=r"at 22050 Hz, but the model hears 16000 Hz.*16000$"):
        ShardClips([shard], 16_000).read(0, rng())


def test_damage_is_refused_by_name(tmp_path):
    listing = list_clips(make_places(tmp_path / "source"))
    write_shards(listing, tmp_path / "out", CONFIG)
    (path,) = (tmp_path / "out/train").glob("*.tar")
    clips = ShardClips(find_shards(tmp_path / "out", "train"), 16_000)
    assert len(pickle.loads(pickle.dumps(clips))[0][1]) == 16_000
    still = next(member for member in list_members(path)[0] if member.suffix == "0.jpg")
    data = bytearray(path.read_bytes())
    data[still.offset : still.offset + still.num_bytes] = bytes(still.num_bytes)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"speech-000000\.tar\[0\]: .* do not decode"):
        ShardClips(find_shards(tmp_path / "out", "train"), 16_000).read(0, rng())
    path.write_bytes(data[:1000])
    with pytest.raises(ValueError, match=r"speech-000000\.tar"):
        ShardClips(find_shards(tmp_path / "out", "train"), 16_000).read(0, rng())


def test_nothing_readable_at_all_is_refused(tmp_path):
    root = make_folder(tmp_path / "source")
    for name in ("sound", "speech"):
        shutil.rmtree(root / name)
    (root / "walk.mp4").unlink()
    with pytest.raises(ValueError, match=r"none of 2 clips can be used: see .*problems\.jsonl"):
        write_shards(list_clips(root), tmp_path / "out", CONFIG)


def make_pool(root):
    """Twelve clips: pictures and tones that tell which is which."""
    for index in range(6):
        for kind in ("sound", "speech"):
            hz = 300 + 100 * index + (1000 if kind == "speech" else 0)
            write_sound(root / kind / f"{index}.wav", hz=hz, duration_s=0.5 + 0.1 * index)
            write_picture(root / kind / f"{index}.png", NAMES[index % 3])
    return root


@pytest.mark.parametrize("way", ["shards", "files"])
def test_batches_hold_matching_pairs_in_both_layouts(tmp_path, way):
    data = make_pool(tmp_path / "pool")
    if way == "shards":
        write_shards(list_clips(data), tmp_path / "out", replace(CONFIG, validation_fraction=0.4))
        data = tmp_path / "out"
    config = MixingConfig(batch_size=4, clip_s=1.0, augmentation=PLAIN)
    options = {"seed": 3, "image_px": 16, "sample_rate_hz": 16_000}
    batches, validation, num = open_batches(data, config, layout="pairs", **options)
    batch = batches[5]
    assert batch["pixels"].shape == (4, 3, 16, 16)
    assert batch["audio"].shape == (4, 16_000)
    for image, waveform, source in zip(
        batch["pixels"], batch["audio"], batch["source"], strict=True
    ):
        hz = round(peak_hz(waveform[:8000].numpy()), -2)
        assert (hz > 900) == bool(source)
        assert color_of(image.permute(1, 2, 0).numpy()) == NAMES[int(hz % 1000 - 300) // 100 % 3]
    again, _, _ = open_batches(data, config, layout="pairs", **options)
    assert all((again[5][key] == value).all() for key, value in batch.items())
    assert not (again[6]["audio"] == batch["audio"]).all()
    if way == "shards":
        assert num >= 1
        assert validation is not None
        assert read_all(data, "sound", "val")
        triplets, _, _ = open_batches(
            data, replace(config, batch_size=2), layout="triplets", **options
        )
        batch = triplets[0]
        for i in range(2):  # Mixture i is sound i and speech i at some level.
            parts = np.stack([batch["sound"][i], batch["speech"][i]], axis=1)
            levels, rest, *_ = np.linalg.lstsq(parts, batch["mixture"][i].numpy(), rcond=None)
            assert (levels > 0.1).all()
            assert rest < 1e-3
    else:
        assert (validation, num) == (None, 0)


def test_two_sets_side_by_side_give_both_kinds(tmp_path):
    write_shards(list_clips(make_audioset(tmp_path / "a")), tmp_path / "data/audioset", CONFIG)
    with pytest.raises(ValueError, match="no speech clips for training"):
        open_batches(
            tmp_path / "data", MixingConfig(batch_size=2), layout="triplets", seed=0,
            image_px=16, sample_rate_hz=16_000,
        )  # fmt: skip
    write_shards(list_clips(make_places(tmp_path / "p")), tmp_path / "data/placesaudio", CONFIG)
    batches, _, _ = open_batches(
        tmp_path / "data", MixingConfig(batch_size=2, clip_s=1.0), layout="triplets", seed=0,
        image_px=16, sample_rate_hz=16_000,
    )  # fmt: skip
    assert batches[0]["speech"].shape == (2, 16_000)
    with pytest.raises(ValueError, match=r"2 .*clips for batches of 3.*lower data\.batch_size"):
        open_batches(
            tmp_path / "data", MixingConfig(batch_size=3), layout="triplets", seed=0,
            image_px=16, sample_rate_hz=16_000,
        )  # fmt: skip
    assert set(open_clips(tmp_path / "data", "train", 16_000, 1.0)) == {"sound", "speech"}


def test_a_folder_of_banks_or_nothing_holds_no_clips(tmp_path):
    assert not holds_clips(tmp_path / "none")
    assert not holds_clips(tmp_path)
    (tmp_path / "scenes").mkdir()
    assert not holds_clips(tmp_path)
    assert holds_clips(make_pool(tmp_path / "pool"))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="num_frames is 0; expected 1 to 100"):
        ShardConfig(num_frames=0)
