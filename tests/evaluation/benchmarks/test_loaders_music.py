"""The sets of paper 003: VGGSound-Music by its published pairs, Instruments without pickles."""

import pickle

import numpy as np
import pytest

from av_grounding.evaluation.benchmarks import open_benchmark
from tests.helpers import trees

HEADER = ("source_1", "source_2", "class_1", "class_2", "sep_type")
NAMES = ("aaaaaaaaaaa_000032", "bbbbbbbbbbb_000030", "ccccccccccc_000000")


@pytest.fixture
def music(tmp_path):
    boxes = [[[0.5, 0.25, 1.0, 0.75]], [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]]
    trees.objects(
        tmp_path / "vggss.json",
        [{"file": f, "class": "x", "bbox": b} for f, b in zip(NAMES, boxes, strict=False)],
    )
    trees.rows(
        tmp_path / "vggmusic_eval_ss.csv",
        HEADER,
        (NAMES[0], NAMES[1], "violin,_fiddle", "flute", "Easy"),
        (NAMES[1], NAMES[2], "flute", "flute", "Hard"),
        (NAMES[2], NAMES[0], "flute", "zither", "Easy"),
    )
    for name, hz in zip(NAMES, (300, 500, 700), strict=True):
        trees.picture(tmp_path / "frames" / f"{name}.jpg")
        trees.tone(tmp_path / "audio" / f"{name}.wav", hz, duration_s=4.0)
    return tmp_path


def test_the_first_sources_are_located_by_the_boxes_of_vgg_ss(music):
    benchmark = open_benchmark("vggsound-music", music)
    assert [(one.id, one.targets[0].class_name) for one in benchmark] == [
        (NAMES[0], "violin,_fiddle"),
        (NAMES[1], "flute"),
    ]
    assert [len(one.targets[0].boxes) for one in benchmark] == [1, 2]
    assert trees.region(benchmark[0].targets[0].load_mask()) == (112, 56, 224, 168)
    assert len(benchmark[0].load_clip().waveform) == 48_000
    assert [(p.kind, p.sample_id) for p in benchmark.problems] == [("malformed_row", NAMES[2])]
    named = open_benchmark("vggsound-music-recognition", music)
    assert [one.class_name for one in named] == ["violin,_fiddle", "flute", "flute"]


def test_published_pairs_are_summed_at_8_khz_and_told_apart(music):
    benchmark = open_benchmark("vggsound-music-separation", music)
    assert [one.stratum for one in benchmark] == ["Easy", "Hard", "Easy"]
    sample = benchmark[0]
    mixture, clips = sample.load_mixture(), [source.load_clip() for source in sample.sources]
    assert (mixture.sample_rate_hz, len(mixture.waveform)) == (8_000, 24_000)
    np.testing.assert_allclose(mixture.waveform, clips[0].waveform + clips[1].waveform, atol=1e-6)
    assert [trees.frequency(clip) for clip in clips] == pytest.approx([300, 500], abs=1)
    # Summed as they are: nothing is divided by their number.
    assert np.abs(clips[0].waveform).max() == pytest.approx(0.4, abs=0.01)


def test_music_at_8_khz_has_the_pairs_of_music_separation(tmp_path):
    entries = []
    for ytid, name, hz in (("a" * 11, "cello", 300), ("b" * 11, "tuba", 500)):
        trees.picture(tmp_path / "frames" / f"{ytid}_000_00000.jpg")
        trees.tone(tmp_path / "audio" / f"{ytid}.wav", hz, duration_s=7.0)
        entries.append({"file": f"{ytid}_000_00000", "class": name, "bbox": [0, 0, 1, 1]})
    trees.objects(tmp_path / "music_solo.json", entries)
    one, other = (
        open_benchmark(name, tmp_path) for name in ("music-separation", "music-separation-8khz")
    )
    assert [sample.id for sample in one] == [sample.id for sample in other]
    clips = [open_one[0].load_mixture() for open_one in (one, other)]
    assert [(c.sample_rate_hz, len(c.waveform)) for c in clips] == [
        (11_025, 65_535),
        (8_000, 24_000),
    ]
    peaks = [np.abs(clip.waveform).max() for clip in clips]
    assert peaks[1] == pytest.approx(2 * peaks[0], rel=0.05)


def test_instruments_take_arrays_and_pictures_and_never_pickles(tmp_path):
    names = [f"sample{number:04d}" for number in range(4)]
    trees.rows(tmp_path / "vgginstruments_test.csv", *((name,) for name in names))
    mask = np.zeros((120, 160), np.uint8)
    mask[:60, :80] = 255
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks/sample0000.npy", mask[None] > 0)
    trees.label(tmp_path / "masks/sample0001.png", mask)
    np.save(tmp_path / "masks/sample0002.npy", np.array([{"mask": 1}]), allow_pickle=True)
    (tmp_path / "masks/sample0003.mask").write_bytes(pickle.dumps(mask))
    for name in names:
        trees.picture(tmp_path / "frames" / f"{name}.jpg")
        trees.tone(tmp_path / "audio" / f"{name}.wav", 300)
    benchmark = open_benchmark("vggsound-instruments", tmp_path)
    assert [one.id for one in benchmark] == names[:3]
    for sample in (benchmark[0], benchmark[1]):
        assert trees.region(sample.targets[0].load_mask()) == (0, 0, 112, 112)
    with pytest.raises(ValueError, match="expected what np"):
        benchmark[2].targets[0].load_mask()
    assert [(p.kind, p.sample_id) for p in benchmark.problems] == [("missing_file", names[3])]
    assert "pickles" in benchmark.info.notes
