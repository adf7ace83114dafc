"""Benchmarks whose ground truth are label pictures, and retrieval, which has none."""

import numpy as np
import pytest

from av_grounding.evaluation.benchmarks import open_benchmark
from tests.helpers import trees
from tests.helpers.is3_tree import BOXES, write_is3


def ade_label(class_map):
    """ADE20K's colours: int(red / 10) · 256 + green is the class, blue counts instances."""
    red, green = class_map // 256 * 10, class_map % 256
    return np.stack([red, green, np.full_like(red, 77)], axis=-1).astype(np.uint8)


@pytest.fixture
def ade(tmp_path):
    class_map = np.zeros((100, 200), np.int64)
    class_map[:50, 50:100] = 2 * 256 + 65
    class_map[:, 150:] = 2 * 256 + 65
    class_map[60:, 100:150] = 3
    for name in ("scene/ADE_1.jpg", "scene/ADE_2.jpg"):
        trees.picture(tmp_path / "frames" / name, size=(100, 200))
        trees.label(
            tmp_path / "annotations" / name.replace(".jpg", "_seg.png"), ade_label(class_map)
        )
    trees.tone(tmp_path / "audio" / "dog.wav", 440, 2.0)
    trees.rows(
        tmp_path / "prompted_segmentation.csv",
        ("image_location", "speech_prompt_file", "vggsound_file", "ade_class_id", "timing"),
        ("scene/ADE_1.jpg", "prompts/dog.wav", "", "577", "[0.5, 1.25]"),
        ("scene/ADE_1.jpg", "prompts/dog.wav", "", "0", "[0.5, 1.25]"),
        ("scene/ADE_1.jpg", "prompts/dog.wav", "", "577", "soon"),
        ("scene/ADE_2.jpg", "prompts/cat.wav", "", "3", "[0.5, 1.25]"),
        ("scene/ADE_2.jpg", "", "vgg/dog.wav", "3.0", ""),
        ("scene/ADE_2.jpg", "", "vgg/dog.wav", "three", ""),
    )
    return tmp_path


def test_ade20k_speech_masks_the_class_in_the_centre_square(ade):
    benchmark = open_benchmark("ade20k-speech", ade)
    (sample,) = benchmark
    assert trees.kinds(benchmark) == [
        ("malformed_row", "scene/ADE_1.jpg+dog.wav"),
        ("missing_file", "scene/ADE_2.jpg+cat.wav"),
    ]
    (target,) = sample.targets
    assert (target.head, target.class_name) == ("speech", "ade 577")
    assert target.word_span_s == (0.5, 1.25)
    # Columns 50 to 150 of 200 stay, at 2.24 pixels each.
    assert trees.region(target.load_mask()) == (0, 0, 112, 112)
    assert sample.load_image().shape == (100, 100, 3)
    assert trees.frequency(sample.load_clip()) == 440


def test_ade20k_sound_has_no_timing(ade):
    benchmark = open_benchmark("ade20k-sound", ade)
    (sample,) = benchmark
    assert trees.kinds(benchmark) == [("malformed_row", "scene/ADE_2.jpg+dog.wav")]
    (target,) = sample.targets
    assert (target.head, target.class_name, target.word_span_s) == ("sound", "ade 3", None)
    assert trees.region(target.load_mask()) == (112, 134, 224, 224)


def test_is3_boxes_are_exact_pixels_and_pairs_share_a_group(tmp_path):
    benchmark = open_benchmark("is3", write_is3(tmp_path))
    assert [s.group for s in benchmark] == [
        *["cat_alarmclock_1828"] * 2,
        *["fox_train"] * 2,
        "lion_dog_7",
    ]
    for sample, name in zip(benchmark, ("cat", "alarmclock"), strict=False):
        (target,) = sample.targets
        assert target.class_name == name
        assert trees.region(target.load_mask()) == tuple(BOXES[name])
    assert benchmark[3].targets[0].class_name == "subway"


def test_is3_masks_come_from_their_files(tmp_path):
    root = write_is3(tmp_path)
    (root / "gt_segmentation" / "fox_train_fox.png").unlink()
    # A JPEG mask, which is nowhere exactly black.
    mask = np.full((112, 112), 9, np.uint8)
    mask[:56] = 240
    (root / "gt_segmentation" / "lion_dog_7_dog.png").unlink()
    trees.label(root / "gt_segmentation" / "lion_dog_7_dog.jpg", mask)
    benchmark = open_benchmark("is3-masks", root)
    assert trees.kinds(benchmark) == [("missing_file", "fox_train_fox")]
    assert len(benchmark) == 4
    assert trees.region(benchmark[1].targets[0].load_mask()) == tuple(BOXES["alarmclock"])
    assert trees.region(benchmark[3].targets[0].load_mask()) == (0, 0, 224, 112)


def square(value, start):
    mask = np.zeros((224, 224), np.uint8)
    mask[start : start + 20, start : start + 40] = value
    return mask


@pytest.mark.parametrize("media", [".", "s4_data"])
def test_avsbench_s4_is_read_where_it_is_published(tmp_path, media):
    name = "0d9u2CymIxc"
    trees.rows(
        tmp_path / "s4_meta_data.csv",
        ("name", "start", "category", "split"),
        (name, 0, "helicopter", "test"),
    )
    folder = tmp_path / media
    place = f"test/helicopter/{name}"
    trees.tone(folder / "audio_wav" / f"{place}.wav", 440, 5.0)
    for number in range(1, 6):
        trees.picture(folder / "visual_frames" / place / f"{name}_{number}.png")
        trees.label(folder / "gt_masks" / place / f"{name}_{number}.png", square(255, number))
    benchmark = open_benchmark("avsbench-s4", tmp_path)
    assert trees.kinds(benchmark) == []
    assert [s.id for s in benchmark] == [f"{name}_{n}" for n in range(1, 6)]
    assert trees.region(benchmark[4].targets[0].load_mask()) == (5, 5, 45, 25)
    assert trees.frequency(benchmark[0].load_clip()) == 440


def test_avsbench_s4_gives_a_sample_for_every_frame(tmp_path):
    name = "0d9u2CymIxc"
    trees.rows(
        tmp_path / "s4_meta_data.csv",
        ("name", "start", "category", "split"),
        (name, 0, "helicopter", "test"),
        ("AAAAAAAAAAA", 0, "helicopter", "train"),
    )
    place = f"test/helicopter/{name}"
    trees.tone(tmp_path / "audio_wav" / f"{place}.wav", 440, 5.0)
    for number in range(1, 6):
        trees.picture(tmp_path / "visual_frames" / place / f"{name}_{number}.png")
        if number != 4:
            trees.label(
                tmp_path / "gt_masks" / place / f"{name}_{number}.png", square(255, number)
            )
    benchmark = open_benchmark("avsbench-s4", tmp_path)
    assert [s.id for s in benchmark] == [f"{name}_{n}" for n in (1, 2, 3, 5)]
    assert [s.frame_s for s in benchmark] == [0.5, 1.5, 2.5, 4.5]
    assert {s.video_id for s in benchmark} == {name}
    assert trees.kinds(benchmark) == [("missing_file", f"{name}_4")]
    assert trees.region(benchmark[3].targets[0].load_mask()) == (5, 5, 45, 25)
    assert benchmark[0].targets[0].class_name == "helicopter"


@pytest.mark.parametrize("media", [".", "ms3_data"])
def test_avsbench_ms3_reads_masks_of_any_value(tmp_path, media):
    name, root = "video-1", tmp_path
    trees.rows(root / "ms3_meta_data.csv", ("video_id", "split"), (name, "test"))
    tmp_path = root / media
    trees.tone(tmp_path / "audio_wav" / "test" / f"{name}.wav", 440, 5.0)
    for number in range(1, 6):
        trees.picture(tmp_path / "visual_frames" / name / f"{name}.mp4_{number}.png")
        mask = tmp_path / "gt_masks" / "test" / name / f"{name}_{number}.png"
        trees.label(mask, square(number, number))
    benchmark = open_benchmark("avsbench-ms3", root)
    assert len(benchmark) == 5
    assert trees.region(benchmark[0].targets[0].load_mask()) == (1, 1, 41, 21)


def test_avss_pads_short_videos_and_reads_class_indices(tmp_path):
    names = ["background", *(f"thing{n}" for n in range(1, 71))]
    indices = {name: number for number, name in enumerate(names)}
    trees.objects(tmp_path / "label2idx.json", indices)
    trees.rows(
        tmp_path / "metadata.csv",
        ("uid", "label", "split", "a_obj"),
        ("long", "v2", "test", "x"),
        ("short", "v1m", "test", "x"),
        ("other", "v2", "train", "x"),
    )
    for folder, count in (("v2/long", 10), ("v1m/short", 5)):
        trees.tone(tmp_path / folder / "audio.wav", 440, count)
        for number in range(count):
            trees.picture(tmp_path / folder / "frames" / f"{number}.jpg")
            label = tmp_path / folder / "labels_semantic" / f"{number}.png"
            if folder == "v2/long":
                trees.label(label, square(number + 1, 8)[:112, :112])
            else:  # a palette: its indices count, not its colours
                trees.palette(label, square(60 + number, 8))
    benchmark = open_benchmark("avsbench-semantic", tmp_path)
    assert len(benchmark) == 20
    assert benchmark.problems == ()
    assert [s.is_padding for s in benchmark] == [*[False] * 15, *[True] * 5]
    assert benchmark.info.class_names == tuple(names)
    class_map = benchmark[3].load_class_map()
    assert class_map.shape == (224, 224)
    assert class_map[16:56, 16:96].tolist() == [[4] * 80] * 40
    assert np.count_nonzero(class_map) == 40 * 80
    palette = benchmark[12].load_class_map()
    assert sorted(np.unique(palette)) == [0, 62]
    assert not benchmark[19].load_class_map().any()
    assert not benchmark[19].load_image().any()
    trees.label(tmp_path / "v2/long/labels_semantic/0.png", square(71, 8))
    with pytest.raises(ValueError, match="got class 71, expected 0 to 70"):
        benchmark[0].load_class_map()
    trees.objects(tmp_path / "label2idx.json", {n: i + 1 for n, i in indices.items()})
    with pytest.raises(ValueError, match="expected 71 with indices 0 to 70, background first"):
        open_benchmark("avsbench-semantic", tmp_path)


def places(root):
    data = [
        {"wav": "wavs/1/a.wav", "image": "a/b/1.jpg", "asr_text": "a big dog", "uttid": "one"},
        {"wav": "wavs/1/b.wav", "image": "a/b/2.jpg", "asr_text": "", "uttid": "two"},
        {"image": "a/b/3.jpg"},
    ]
    trees.objects(root / "metadata" / "val.json", {"image_base_path": "", "data": data})
    trees.tone(root / "wavs" / "1" / "a.wav", 440)
    trees.picture(root / "images" / "a" / "b" / "1.jpg", trees.BLUE)
    return root


def test_places_audio_pairs_pictures_with_sentences(tmp_path):
    benchmark = open_benchmark("places-audio", places(tmp_path))
    (sample,) = benchmark
    assert (sample.id, sample.head, sample.text) == ("one", "speech", "a big dog")
    assert trees.kinds(benchmark) == [
        ("missing_file", "two"),
        ("missing_file", "two"),
        ("malformed_row", "val.json[2]"),
    ]
    np.testing.assert_allclose(sample.load_image().mean(axis=(0, 1)), trees.BLUE, atol=4)


def audioset(root, num):
    lines = ["# Segments csv created", "# YTID, start_seconds, end_seconds, positive_labels"]
    for number in range(num):
        lines.append(f'video{number:06d}, {number}.000, {number + 10}.000, "/m/1,/m/2"')
        name = f"video{number:06d}_{number}.0_{number + 10}.0"
        trees.picture(root / "frames" / "frame_5" / f"{name}.jpg")
        if number:
            trees.tone(root / "audio" / f"{name}.mp3", 300 + 10 * number)
    (root / "metadata").mkdir()
    (root / "metadata" / "eval_segments.csv").write_text("\n".join([*lines, "broken,1"]))
    names = (("index", "mid", "display_name"), (0, "/m/1", "Dog"), (1, "/m/2", "Bark, loud"))
    trees.rows(root / "metadata" / "class_labels_indices.csv", *names)
    return root


def test_audioset_takes_a_fixed_order_and_names_its_classes(tmp_path):
    benchmark = open_benchmark("audioset", audioset(tmp_path, 6))
    ids = [sample.id for sample in benchmark]
    assert sorted(ids) == [f"video{n:06d}_{n}.0_{n + 10}.0" for n in range(1, 6)]
    assert ids != sorted(ids)
    assert ids == [sample.id for sample in open_benchmark("audioset", tmp_path)]
    assert sorted(trees.kinds(benchmark)) == [
        ("malformed_row", "eval_segments.csv:9"),
        ("missing_file", "video000000_0.0_10.0"),
    ]
    sample = benchmark[0]
    assert (sample.head, sample.class_name, sample.text) == ("sound", "Dog", "Dog, Bark, loud")
    assert trees.frequency(sample.load_clip()) == 300 + 10 * int(sample.id[5:11])


def test_disentanglement_takes_as_many_of_both_kinds(tmp_path):
    for name in ("places-audio", "audioset"):
        (tmp_path / name).mkdir()
    places(tmp_path / "places-audio")
    audioset(tmp_path / "audioset", 3)
    benchmark = open_benchmark("audioset-places-disentanglement", tmp_path)
    assert [sample.head for sample in benchmark] == ["sound", "speech"]
    assert len(benchmark.problems) == 5
