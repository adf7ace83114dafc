import json

import pytest

from av_grounding.training.data.clips import split_of
from av_grounding.training.data.folder import detect_layout, list_clips, list_synthetic
from tests.helpers.make_clips import make_audioset, make_folder, make_places, make_vggsound


def by_id(listing):
    return {clip.id: clip for clip in listing.clips}


def reasons(listing):
    return {problem.id: problem.reason for problem in listing.missing}


def test_audioset_in_both_spellings_with_its_missing_files_named(tmp_path):
    root = make_audioset(tmp_path)
    assert detect_layout(root) == "audioset"
    listing = list_clips(root)
    clips = by_id(listing)
    assert set(clips) == {"--aaaaaaaaa_30.000_40.000", "bbbbbbbbbbb_0.000_10.000"}
    first = clips["--aaaaaaaaa_30.000_40.000"]
    assert first.sound == root / "audio/--aaaaaaaaa_30.000_40.000.mp3"
    assert [path.parent.name for path in first.pictures] == ["frame_0", "frame_3", "frame_9"]
    assert first.labels == ("Speech", "/t/dd00088")
    assert clips["bbbbbbbbbbb_0.000_10.000"].labels == ("Dog, bark",)
    assert first.recording == "--aaaaaaaaa"
    assert {clip.kind for clip in listing.clips} == {"sound"}
    assert reasons(listing) == {
        "ccccccccccc_5.000_15.000": "no sound", "ddddddddddd_1.000_11.000": "no frame",
    }  # fmt: skip
    with pytest.raises(FileNotFoundError, match="eval_segments"):
        list_clips(root, split="test")


def test_places_finds_its_files_although_the_base_paths_are_of_another_machine(tmp_path):
    root = make_places(tmp_path / "places")
    assert detect_layout(root) == "places"
    listing = list_clips(root)
    clips = by_id(listing)
    assert set(clips) == {"S1_utt_0", "S1_utt_1"}
    assert clips["S1_utt_1"].sound == root / "wavs/1/utt_1.wav"
    assert clips["S1_utt_1"].pictures[0].resolve() == root / "images/a/abbey/green.jpg"
    assert clips["S1_utt_1"].text == "a green wall"
    assert clips["S1_utt_1"].kind == "speech"
    assert reasons(listing) == {"S1_utt_2": "no sound"}
    (root / "images").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"3 are missing, first S1_utt_0: no picture"):
        list_clips(root)
    assert len(list_clips(root, pictures=tmp_path / "moved").clips) == 2


def test_vggsound_takes_a_video_where_wav_or_frame_is_missing(tmp_path):
    root = make_vggsound(tmp_path)
    assert detect_layout(root) == "vggsound"
    listing = list_clips(root)
    clips = by_id(listing)
    assert set(clips) == {"aaaaaaaaaaa_000030", "bbbbbbbbbbb_000004"}
    assert clips["aaaaaaaaaaa_000030"].labels == ("dog barking",)
    assert not clips["aaaaaaaaaaa_000030"].is_video
    video = clips["bbbbbbbbbbb_000004"]
    assert video.is_video
    assert video.sound == video.pictures[0] == root / "video/bbbbbbbbbbb_000004.mp4"
    assert reasons(listing) == {"ccccccccccc_000007": "no sound and no frame, and no video"}
    assert set(by_id(list_clips(root, split="test"))) == {"ddddddddddd_000009"}


def test_a_folder_pairs_by_name_and_speech_lies_below_speech(tmp_path):
    root = make_folder(tmp_path)
    assert detect_layout(root) == "folder"
    listing = list_clips(root)
    kinds = {clip.id: clip.kind for clip in listing.clips}
    assert kinds == {
        "walk": "sound", "sound/dog": "sound", "speech/clock": "speech",
        "silent": "sound", "torn": "sound",
    }  # fmt: skip
    assert reasons(listing) == {"lone": "no sound of the same name"}


def test_samples_of_synth_are_a_sound_and_a_speech_each(tmp_path):
    row = {
        "image": "images/a.png", "sound_wav": "audio/a_sound.wav", "text": "a dog",
        "speech_wav": "audio/a_speech.wav", "sound_class": "bell", "speech_class": "dog",
    }  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    for name in (row["image"], row["sound_wav"], row["speech_wav"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert detect_layout(tmp_path) == "synthetic"
    sound, speech = list_synthetic(tmp_path).clips
    assert (sound.kind, sound.labels, sound.text) == ("sound", ("bell",), "")
    assert (speech.kind, speech.labels, speech.text) == ("speech", ("dog",), "a dog")
    assert sound.recording == speech.recording
    (tmp_path / row["speech_wav"]).unlink()
    assert reasons(list_synthetic(tmp_path)) == {"a_speech": "no sound"}


def test_nothing_usable_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no clip whose files are there"):
        list_clips(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list_clips(tmp_path / "none")
    with pytest.raises(ValueError, match="layout is 'coco'; expected one of audioset"):
        list_clips(tmp_path, "coco")


def test_a_recording_is_always_on_the_same_side_of_the_split():
    names = [f"recording {i}" for i in range(2000)]
    splits = [split_of(name, 0.1) for name in names]
    assert 0.07 < splits.count("val") / len(names) < 0.13
    assert splits == [split_of(name, 0.1) for name in names]
    # More for validation moves clips one way only.
    wider = [split_of(name, 0.2) for name in names]
    assert all(b == "val" for a, b in zip(splits, wider, strict=True) if a == "val")
    assert split_of("x", 0.0) == "train"
    assert split_of("x", 1.0) == "val"
