"""Benchmarks whose ground truth are boxes: VGG-SS, Flickr, MUSIC, VGGSound, IS3."""

import pickle

import numpy as np
import pytest

from av_grounding.evaluation.benchmarks import open_benchmark
from tests.helpers import trees

# As they stand in the published list: a value that overflowed, and a box without height.
OVERFLOWED = [0.384375, 0.859375, 0.696875, -2.8823037615171176e16]
FLAT = [0.26875, 1.0, 0.753125, 1.0]


def vgg_media(root, name, color, hz):
    trees.picture(root / "frames" / f"{name}.jpg", color)
    trees.tone(root / "audio" / f"{name}.wav", hz)


@pytest.fixture
def vgg(tmp_path):
    """Five clips: one sound, one with a malformed box, one without a sound one, one missing."""
    boxes = {
        "aaaaaaaaaaa_000032": [[0.5, 0.25, 1.0, 0.75], [0.5, 0.5, 0.75, 1.0]],
        "bbbbbbbbbbb_000030": [OVERFLOWED, [0.0, 0.0, 0.5, 0.5]],
        "ccccccccccc_000000": [FLAT],
        "ddddddddddd_000010": [[0.1, 0.1, 0.9, 0.9]],
    }
    trees.objects(
        tmp_path / "vggss.json",
        [
            *({"file": f, "class": f"class {f[0]}", "bbox": b} for f, b in boxes.items()),
            {"file": "eeeeeeeeeee_000000", "class": "no boxes"},
        ],
    )
    colors = (trees.RED, trees.GREEN, trees.BLUE)
    for name, color, hz in zip(boxes, colors, (440, 880, 1320), strict=False):
        vgg_media(tmp_path, name, color, hz)
    trees.picture(tmp_path / "frames" / "ddddddddddd_000010.jpg")
    return tmp_path


def test_vgg_ss_reads_what_is_there_and_lists_what_is_not(vgg):
    benchmark = open_benchmark("vgg-ss", vgg)
    assert [sample.id[0] for sample in benchmark] == ["a", "b", "c"]
    assert trees.kinds(benchmark) == [
        ("malformed_box", "bbbbbbbbbbb_000030"),
        ("malformed_box", "ccccccccccc_000000"),
        ("missing_file", "ddddddddddd_000010"),
        ("malformed_row", "vggss.json[4]"),
    ]
    details = [problem.detail for problem in benchmark.problems]
    assert "-2.8823037615171176e+16" in details[0]
    assert details[2] == str(vgg / "audio" / "ddddddddddd_000010.wav")
    assert benchmark.info.num_expected == 5158


def test_vgg_ss_truth_is_the_union_without_the_malformed_boxes(vgg):
    first, second, third = open_benchmark("vgg-ss", vgg)
    expected = np.zeros((224, 224), np.float32)
    expected[56:168, 112:224] = 1
    expected[112:224, 112:168] = 1
    np.testing.assert_array_equal(first.targets[0].load_mask(), expected)
    assert trees.region(second.targets[0].load_mask()) == (0, 0, 112, 112)
    assert second.targets[0].boxes == ((0.0, 0.0, 0.5, 0.5),)
    assert not third.targets[0].load_mask().any()
    assert first.targets[0].class_name == "class a"


def test_vgg_ss_decodes_its_files_also_after_pickling(vgg):
    for sample, color, hz in zip(
        pickle.loads(pickle.dumps(list(open_benchmark("vgg-ss", vgg)))),
        (trees.RED, trees.GREEN, trees.BLUE),
        (440, 880, 1320),
        strict=True,
    ):
        image, clip = sample.load_image(), sample.load_clip()
        assert image.shape == (trees.HEIGHT, trees.WIDTH, 3)
        np.testing.assert_allclose(image.mean(axis=(0, 1)), color, atol=4)
        assert clip.sample_rate_hz == 16_000
        assert len(clip.waveform) == 16_000
        assert trees.frequency(clip) == hz


def test_num_keeps_the_first_samples(vgg):
    assert [s.id[0] for s in open_benchmark("vgg-ss", vgg, num=2)] == ["a", "b"]
    with pytest.raises(ValueError, match="got 0 samples, expected 1 or more"):
        open_benchmark("vgg-ss", vgg, num=0)


def test_extended_vgg_ss_tells_silence_from_another_videos_sound(vgg):
    trees.rows(
        vgg / "vggss_test_plus_silent.csv",
        ("video", "audio", "label"),
        ("aaaaaaaaaaa_000032", "bbbbbbbbbbb_000030", "non-sounding"),
        ("bbbbbbbbbbb_000030", "bbbbbbbbbbb_000030", "non-sounding"),
        ("aaaaaaaaaaa_000032", "fffffffffff_000000", "non-sounding"),
        ("aaaaaaaaaaa_000032",),
    )
    benchmark = open_benchmark("vgg-ss-extended", vgg)
    assert [s.presence for s in benchmark] == [*["sounding"] * 3, "off_screen", "silent"]
    off_screen = benchmark[3]
    np.testing.assert_allclose(off_screen.load_image().mean(axis=(0, 1)), trees.RED, atol=4)
    assert trees.frequency(off_screen.load_clip()) == 880
    assert not off_screen.targets[0].load_mask().any()
    assert off_screen.targets[0].load_mask().shape == (224, 224)
    assert ("missing_file", "aaaaaaaaaaa_000032+fffffffffff_000000") in trees.kinds(benchmark)
    assert ("malformed_row", "vggss_test_plus_silent.csv:5") in trees.kinds(benchmark)


def test_a_list_with_other_columns_is_refused(vgg):
    trees.rows(vgg / "vggss_test_plus_silent.csv", ("image", "audio"), ("a", "b"))
    with pytest.raises(ValueError, match="got columns image, audio; expected video, audio, label"):
        open_benchmark("vgg-ss-extended", vgg)


ANNOTATION = """<annotation><object>{boxes}</object></annotation>"""
BBOX = "<bbox><by>3</by><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bbox>"


def test_flickr_takes_the_consensus_of_its_annotators(tmp_path):
    trees.rows(tmp_path / "flickr_test.csv", ("100", "202"), ("200", "0"), ("300", "0"))
    for name in ("100", "200", "300"):
        vgg_media(tmp_path, name, trees.RED, 500)
    folder = tmp_path / "Annotations"
    folder.mkdir()
    boxes = BBOX.format(0, 0, 128, 128) + BBOX.format(64, 64, 256, 256)
    (folder / "100.xml").write_text(ANNOTATION.format(boxes=boxes))
    (folder / "200.xml").write_text("<annotation>")
    benchmark = open_benchmark("flickr-soundnet", tmp_path)
    assert [s.id for s in benchmark] == ["100"]
    assert trees.kinds(benchmark) == [("malformed_row", "200"), ("missing_file", "300")]
    mask = benchmark[0].targets[0].load_mask()
    assert mask[:56, :56].tolist() == [[0.5] * 56] * 56
    assert mask[56:112, 56:112].tolist() == [[1.0] * 56] * 56
    assert mask[112:, 112:].min() == mask[112:, 112:].max() == 0.5
    assert not mask[112:, :56].any()


def test_extended_flickr_adds_its_off_screen_rows(tmp_path):
    trees.rows(tmp_path / "flickr_test.csv", ("100", "202"))
    rows = (("video", "audio", "label"), ("100", "200", "non-sounding"))
    trees.rows(tmp_path / "flickr_test_plus_silent.csv", *rows)
    for name, hz in (("100", 500), ("200", 900)):
        vgg_media(tmp_path, name, trees.RED, hz)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "100.xml").write_text(
        ANNOTATION.format(boxes=BBOX.format(0, 0, 256, 128))
    )
    sounding, other = open_benchmark("flickr-soundnet-extended", tmp_path)
    assert (sounding.presence, other.presence) == ("sounding", "off_screen")
    assert sounding.targets[0].load_mask().sum() == 0.5 * 224 * 112
    assert trees.frequency(other.load_clip()) == 900


def music_media(root, ytid, hz, frames=("000_00000",), duration_s=5.0):
    for frame in frames:
        trees.picture(root / "frames" / f"{ytid}_{frame}.jpg")
    silent = np.zeros(round((duration_s - 3.0) / 2 * 16_000))
    times = np.arange(3 * 16_000) / 16_000
    middle = 0.4 * np.sin(2 * np.pi * hz * times)
    trees.sound(root / "audio" / f"{ytid}.wav", np.concatenate([silent, middle, silent]))


def test_music_boxes_are_corner_and_size(tmp_path):
    name = "-_-TDDxoaAc_000_00000"
    box = [0.5, 0.25, 0.25, 0.5]
    trees.objects(
        tmp_path / "music_solo.json",
        [{"file": name, "class": "cello", "bbox": box}],
    )
    music_media(tmp_path, "-_-TDDxoaAc", 300)
    (sample,) = open_benchmark("music-solo", tmp_path)
    assert trees.region(sample.targets[0].load_mask()) == (112, 56, 168, 168)
    clip = sample.load_clip()
    assert len(clip.waveform) == 3 * 16_000
    assert np.abs(clip.waveform[:100]).max() > 0.1


def test_music_duet_has_a_target_for_each_instrument(tmp_path):
    entry = {
        "file": "HnUOaSfTA6c_000_00007",
        "class_src1": "cello",
        "bbox_src1": [0.0, 0.0, 0.5, 0.5],
        "class_src2": "guitar",
        "bbox_src2": [0.5, 0.5, 0.5, 0.5],
    }
    trees.objects(
        tmp_path / "music_duet.json", [entry, {**entry, "file": "x" * 11 + "_000_00001"}]
    )
    music_media(tmp_path, "HnUOaSfTA6c", 300, ("000_00007",))
    benchmark = open_benchmark("music-duet", tmp_path)
    (sample,) = benchmark
    assert [t.class_name for t in sample.targets] == ["cello", "guitar"]
    assert [trees.region(t.load_mask()) for t in sample.targets] == [
        (0, 0, 112, 112),
        (112, 112, 224, 224),
    ]
    assert [kind for kind, _ in trees.kinds(benchmark)] == ["missing_file", "missing_file"]


def test_music_separation_mixes_different_instruments(tmp_path):
    instruments = {"a" * 11: ("cello", 300), "b" * 11: ("cello", 500), "c" * 11: ("tuba", 700)}
    entries = []
    for ytid, (name, hz) in instruments.items():
        music_media(tmp_path, ytid, hz, ("000_00000", "001_00007"), duration_s=8.0)
        for frame in ("000_00000", "001_00007"):
            entries.append({"file": f"{ytid}_{frame}", "class": name, "bbox": [0, 0, 1, 1]})
    trees.objects(tmp_path / "music_solo.json", entries)
    benchmark = open_benchmark("music-separation", tmp_path)
    pairs = [[source.class_name for source in sample.sources] for sample in benchmark]
    assert pairs == [["cello", "tuba"], ["cello", "tuba"], ["tuba", "cello"]]
    mixture = benchmark[0].load_mixture()
    clips = [source.load_clip() for source in benchmark[0].sources]
    assert mixture.sample_rate_hz == 11_025
    assert len(mixture.waveform) == 65_535
    np.testing.assert_allclose(mixture.waveform, clips[0].waveform + clips[1].waveform, atol=1e-6)
    assert trees.frequency(clips[0]) == pytest.approx(300, abs=1)
    # Divided by the number of sources.
    assert np.abs(clips[1].waveform).max() == pytest.approx(0.2, abs=0.01)


@pytest.fixture
def sources(vgg):
    names = ["aaaaaaaaaaa_000032", "bbbbbbbbbbb_000030", "ccccccccccc_000000"]
    trees.rows(vgg / "vggsound_single_test.csv", *((n, f"class_{n[0]}") for n in names[::-1]))
    trees.rows(
        vgg / "vggsound_duet_test.csv",
        (names[0], "class_a", names[1], "class_b"),
        (names[1], "class_b", "zzzzzzzzzzz_000000", "class_z"),
    )
    return vgg


def test_vggsound_single_takes_its_own_class_names(sources):
    classes = [
        sample.targets[0].class_name for sample in open_benchmark("vggsound-single", sources)
    ]
    assert classes == ["class_c", "class_b", "class_a"]


def test_vggsound_duet_puts_each_source_into_its_own_tile(sources):
    benchmark = open_benchmark("vggsound-duet", sources)
    (sample,) = benchmark
    assert ("malformed_row", "bbbbbbbbbbb_000030+zzzzzzzzzzz_000000") in trees.kinds(benchmark)
    image = sample.load_image()
    height, width = image.shape[:2]
    assert width == 2 * height
    np.testing.assert_allclose(image[:, : width // 2].mean(axis=(0, 1)), trees.RED, atol=4)
    np.testing.assert_allclose(image[:, width // 2 :].mean(axis=(0, 1)), trees.GREEN, atol=4)
    left, right = (target.load_mask() for target in sample.targets)
    assert left.shape == right.shape == (224, 448)
    assert left.sum() == 112 * 112 + 56 * 56
    assert not left[:, 224:].any()
    assert trees.region(right) == (224, 0, 336, 112)
    assert sample.targets[1].boxes == ((0.5, 0.0, 0.75, 0.5),)
    clip = sample.load_clip()
    parts = [benchmark_clip.load_clip() for benchmark_clip in open_benchmark("vgg-ss", sources)]
    np.testing.assert_allclose(
        clip.waveform, (parts[0].waveform + parts[1].waveform)[:, 0], atol=1e-6
    )


def test_vggsound_trio_by_thirds_of_the_sorted_list_or_by_a_list(sources):
    (sample,) = open_benchmark("vggsound-trio", sources)
    assert [t.class_name for t in sample.targets] == ["class_a", "class_b", "class_c"]
    assert sample.load_image().shape[1] == 3 * sample.load_image().shape[0]
    assert trees.region(sample.targets[1].load_mask()) == (224, 0, 336, 112)
    for name in ("aaaaaaaaaaa_000032", "bbbbbbbbbbb_000030", "ccccccccccc_000000"):
        trees.tone(sources / "audio" / f"{name}.wav", 440, peak=0.8)
    clip = sample.load_clip()
    # Three times 0.8 exceeds full scale: the sum is scaled down to it, and stays a sine.
    assert np.abs(clip.waveform).max() == pytest.approx(1.0, abs=1e-6)
    assert np.sqrt(np.square(clip.waveform).mean()) == pytest.approx(np.sqrt(0.5), abs=0.01)
    files = ("ccccccccccc_000000", "bbbbbbbbbbb_000030", "aaaaaaaaaaa_000032")
    row = [part for name in files for part in (name, f"class_{name[0]}")]
    trees.rows(sources / "vggsound_trio_test.csv", row)
    (listed,) = open_benchmark("vggsound-trio", sources)
    assert [t.class_name for t in listed.targets] == ["class_c", "class_b", "class_a"]


def test_vggsound_recognition_reads_the_test_split_and_the_chosen_classes(vgg):
    trees.rows(
        vgg / "vggsound.csv",
        ("aaaaaaaaaaa", "32", "female speech, woman speaking", "test"),
        ("bbbbbbbbbbb", "30", "people coughing", "test"),
        ("ccccccccccc", "0", "people coughing", "train"),
        ("bbbbbbbbbbb", "x", "people coughing", "test"),
    )
    benchmark = open_benchmark("vggsound-recognition", vgg)
    assert [s.class_name for s in benchmark] == [
        "female speech, woman speaking",
        "people coughing",
    ]
    assert trees.kinds(benchmark) == [("malformed_row", "bbbbbbbbbbb")]
    assert trees.frequency(benchmark[1].load_clip()) == 880
    (vgg / "classes.txt").write_text("people coughing\n\n")
    chosen = open_benchmark("vggsound-recognition", vgg)
    assert [s.class_name for s in chosen] == ["people coughing"]
    assert "1 chosen" in chosen.info.notes


def test_a_missing_root_list_or_name_is_explained_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"vgg-ss needs a folder with vggss.json.*--data ROOT"):
        open_benchmark("vgg-ss")
    with pytest.raises(FileNotFoundError, match=r"vggss.json: no such file; vgg-ss needs"):
        open_benchmark("vgg-ss", tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_benchmark("is3", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"got benchmark 'vggss'.*did you mean 'vgg-ss'"):
        open_benchmark("vggss", tmp_path)
    (tmp_path / "vggss.json").write_text("[{")
    with pytest.raises(ValueError, match=r"vggss.json: not valid JSON"):
        open_benchmark("vgg-ss", tmp_path)
