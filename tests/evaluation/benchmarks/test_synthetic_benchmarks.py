"""The synthetic twins: their samples, their determinism, their structure."""

import pickle
from itertools import combinations

import numpy as np
import pytest

from av_grounding.evaluation.benchmark import SAMPLE_TYPES, Benchmark
from av_grounding.evaluation.benchmarks import (
    BENCHMARKS,
    DRAWN,
    NAMES,
    factory,
    open_benchmark,
    synthetic,
)
from av_grounding.synthetic.acoustics import active_rms
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.samples import SyntheticSamples
from av_grounding.synthetic.speech import engine_version

try:
    engine_version()
except RuntimeError as error:
    pytest.skip(str(error), allow_module_level=True)


def opened(name, num=2, seed=5):
    benchmark = open_benchmark(f"synthetic-{name}", num=num, seed=seed)
    return benchmark, [benchmark[index] for index in range(num)]


def test_every_name_has_a_factory_and_every_synthetic_one_a_description():
    assert all(callable(factory(name)) for name in NAMES)
    assert set(DRAWN) == set(synthetic.KINDS)
    assert all(entry.layout and entry.lists and entry.source for name, entry in
               BENCHMARKS.items() if name not in DRAWN)  # fmt: skip


SYNTHETIC = tuple(name for name in DRAWN if name.startswith("synthetic-"))


@pytest.mark.parametrize("name", SYNTHETIC)
def test_samples_fit_their_task_and_come_back_the_same(name):
    benchmark = open_benchmark(name, num=2, seed=5)
    assert isinstance(benchmark, Benchmark)
    assert len(benchmark) == benchmark.info.num_expected == 2
    sample = benchmark[1]
    assert isinstance(sample, SAMPLE_TYPES[benchmark.info.task])
    load = sample.load_mixture if benchmark.info.task == "separation" else sample.load_clip
    clip = load()
    assert clip.sample_rate_hz == 16_000
    assert np.abs(clip.waveform).max() <= 1.0
    synthetic._recent.clear()
    again = pickle.loads(pickle.dumps(load))()
    np.testing.assert_array_equal(again.waveform, clip.waveform)
    assert len(pickle.dumps(sample)) < 60_000
    with pytest.raises(IndexError):
        benchmark[2]


def test_simultaneous_holds_the_samples_of_the_synthetic_world():
    _, samples = opened("simultaneous")
    for index, sample in enumerate(samples):
        drawn = SyntheticSamples("test", 5)[index]
        np.testing.assert_array_equal(sample.load_image(), drawn.image)
        np.testing.assert_array_equal(sample.load_clip().waveform, drawn.mixture)
        sound, speech = sample.targets
        np.testing.assert_array_equal(sound.load_mask(), drawn.mask_sound)
        np.testing.assert_array_equal(speech.load_mask(), drawn.mask_speech)
        assert (sound.class_name, speech.class_name) == (drawn.sound_class, drawn.speech_class)
        assert speech.word_span_s == drawn.word_span_s
        assert sample.text == drawn.text
        (left, top, right, bottom), *_ = sound.boxes
        y, x = np.nonzero(drawn.mask_sound)
        assert [left * 224, right * 224] == pytest.approx([x.min(), x.max() + 1], abs=0.1)
        assert [top * 224, bottom * 224] == pytest.approx([y.min(), y.max() + 1], abs=0.1)


def test_clean_and_disentanglement_give_one_kind_of_clip_at_a_time():
    drawn = SyntheticSamples("test", 5)[0]
    _, clean = opened("clean")
    assert [s.targets[0].head for s in clean] == ["sound", "speech"]
    np.testing.assert_array_equal(clean[0].load_clip().waveform, drawn.sound)
    np.testing.assert_array_equal(clean[1].load_clip().waveform, drawn.speech)
    assert clean[1].targets[0].word_span_s == drawn.word_span_s
    assert (clean[0].text, clean[1].text) == ("", drawn.text)
    _, pairs = opened("disentanglement")
    assert [pair.head for pair in pairs] == ["sound", "speech"]
    assert [pair.class_name for pair in pairs] == [drawn.sound_class, drawn.speech_class]
    np.testing.assert_array_equal(pairs[1].load_clip().waveform, drawn.speech)


def test_mixed_adds_the_other_type_about_something_unseen():
    samples = SyntheticSamples("test", 5)
    drawn, absent = samples[0], samples.absent(0)
    _, mixed = opened("mixed")
    for sample, own, intruder in zip(
        mixed, (drawn.sound, drawn.speech), (absent["speech"], absent["sound"]), strict=True
    ):
        waveform = sample.load_clip().waveform
        parts = np.stack([own, intruder], axis=1).astype(np.float64)
        gains, residual, *_ = np.linalg.lstsq(parts, waveform, rcond=None)
        assert residual[0] < 1e-6 * np.square(waveform).sum()
        ratio_db = 20 * np.log10(gains[0] * active_rms(own) / (gains[1] * active_rms(intruder)))
        assert abs(ratio_db) <= 5.0 + 1e-3
        assert len(sample.targets) == 1


@pytest.mark.parametrize(("name", "num_sources"), [("duet", 2), ("trio", 3)])
def test_several_sources_are_different_objects_of_one_picture(name, num_sources):
    _, samples = opened(name)
    for sample in samples:
        names = [target.class_name for target in sample.targets]
        assert len(set(names)) == len(names) == num_sources
        masks = [target.load_mask() for target in sample.targets]
        assert all(mask.sum() > 100 for mask in masks)
        assert np.sum(masks, axis=0).max() == 1
        assert {target.head for target in sample.targets} == {"sound"}
        assert active_rms(sample.load_clip().waveform) > 0.02
    assert [t.class_name for t in samples[0].targets] != [t.class_name for t in samples[1].targets]


def test_interactive_samples_share_a_picture_but_not_a_sound():
    _, (first, second) = opened("interactive")
    assert first.group == second.group
    np.testing.assert_array_equal(first.load_image(), second.load_image())
    assert first.targets[0].class_name != second.targets[0].class_name
    assert not (first.targets[0].load_mask() * second.targets[0].load_mask()).any()
    assert np.abs(first.load_clip().waveform - second.load_clip().waveform).max() > 0.05


@pytest.mark.parametrize(("name", "presence"), [("silent", "silent"), ("offscreen", "off_screen")])
def test_every_second_extended_sample_has_nothing_to_find(name, presence):
    _, samples = opened(name, num=4)
    assert [s.presence for s in samples] == ["sounding", presence] * 2
    _, solo = opened("solo")
    for number, (sounding, other) in enumerate(zip(samples[::2], samples[1::2], strict=True)):
        image = sounding.load_image()
        np.testing.assert_array_equal(image, other.load_image())
        np.testing.assert_array_equal(image, solo[number].load_image())
        np.testing.assert_array_equal(
            sounding.load_clip().waveform, solo[number].load_clip().waveform
        )
        mask = other.targets[0].load_mask()
        assert mask.shape == (224, 224)
        assert not mask.any()
        assert sounding.targets[0].load_mask().any()
        level = 20 * np.log10(np.sqrt(np.square(other.load_clip().waveform).mean()))
        if presence == "silent":
            assert level == pytest.approx(-65.0, abs=0.5)
        else:
            assert level > -45.0
            assert other.targets[0].class_name != sounding.targets[0].class_name


def test_videos_have_a_truth_for_every_second():
    _, frames = opened("segmentation", num=6)
    _, semantic = opened("semantic", num=6)
    assert len({frame.video_id for frame in frames[:5]}) == 1
    assert frames[5].video_id != frames[0].video_id
    assert [frame.frame_s for frame in frames[:5]] == [0.5, 1.5, 2.5, 3.5, 4.5]
    names = [frame.targets[0].class_name for frame in frames[:5]]
    first, second = names[0], names[4]
    assert names == [first, first, f"{first}+{second}", second, second]
    clip = frames[0].load_clip().waveform
    assert len(clip) == 5 * 16_000
    np.testing.assert_array_equal(clip, frames[4].load_clip().waveform)
    indices = {name: 1 + CLASSES.index(name) for name in (first, second)}
    for number, (frame, labelled) in enumerate(zip(frames[:5], semantic[:5], strict=True)):
        class_map, mask = labelled.load_class_map(), frame.targets[0].load_mask()
        np.testing.assert_array_equal(class_map > 0, mask > 0)
        assert set(np.unique(class_map)) == {0, *(indices[n] for n in names[number].split("+"))}
        np.testing.assert_array_equal(frame.load_image(), labelled.load_image())
    moved = np.abs(frames[0].load_image().astype(int) - frames[1].load_image().astype(int))
    assert moved.max() > 30


@pytest.mark.parametrize(("name", "num_sounding"), [("s4", 1), ("ms3", 2)])
def test_what_sounds_in_a_twin_of_avsbench_does_so_from_first_to_last(name, num_sounding):
    _, samples = opened(name, num=6)
    first, last, other = samples[0], samples[4], samples[5]
    assert first.video_id == last.video_id != other.video_id
    assert first.frame_s is None
    names = first.targets[0].class_name.split("+")
    assert len(names) == num_sounding
    assert last.targets[0].class_name == first.targets[0].class_name
    clips = [sample.load_clip().waveform for sample in (first, last)]
    np.testing.assert_array_equal(*clips)
    assert len(clips[0]) == 5 * 16_000
    masks = [np.asarray(sample.targets[0].load_mask()) > 0 for sample in (first, last)]
    # It drifts, and something beside it is silent.
    assert (masks[0] & masks[1]).any()
    assert (masks[0] != masks[1]).any()


def test_semantic_prompts_say_the_class_names():
    benchmark, _ = opened("semantic", num=1)
    assert benchmark.info.class_names == ("background", *CLASSES)
    dog, cow = (benchmark.load_prompt(name) for name in ("dog", "cow"))
    assert active_rms(dog.waveform) > 0.02
    assert not np.array_equal(dog.waveform, cow.waveform)
    np.testing.assert_array_equal(dog.waveform, benchmark.load_prompt("dog").waveform)


def test_no_two_pictures_of_the_gallery_have_the_same_two_classes(monkeypatch):
    # The pairs of the whole gallery, without drawing it.
    monkeypatch.setattr("av_grounding.evaluation.benchmarks.synthetic_pairs.view", no_view)
    monkeypatch.setattr(SyntheticSamples, "draw_sound", lambda *_: np.zeros(8, np.float32))
    monkeypatch.setattr(
        SyntheticSamples,
        "draw_speech",
        lambda *_: (type("Said", (), {"text": ""}), np.zeros(8, np.float32), (0.0, 1.0)),
    )
    benchmark = open_benchmark("synthetic-retrieval")
    pairs = [benchmark[index].class_name for index in range(len(benchmark))]
    synthetic._recent.clear()
    assert sorted(pairs) == sorted("+".join(sorted(pair)) for pair in combinations(CLASSES, 2))
    assert pairs != sorted(pairs)
    with pytest.raises(ValueError, match="got 154 samples, expected at most 153"):
        open_benchmark("synthetic-retrieval", num=154)


def no_view(key, rng, names):
    return synthetic.SceneByClass(np.zeros((2, 2, 3), np.uint8), {}, {})


def test_recognition_has_every_class_equally_often(monkeypatch):
    monkeypatch.setattr("av_grounding.evaluation.benchmarks.synthetic_pairs.view", no_view)
    monkeypatch.setattr(SyntheticSamples, "draw_sound", lambda *_: np.zeros(8, np.float32))
    benchmark = open_benchmark("synthetic-recognition", num=36)
    names = [benchmark[index].class_name for index in range(36)]
    synthetic._recent.clear()
    assert sorted(names[:18]) == sorted(names[18:]) == sorted(CLASSES)
    assert names[:18] != names[18:]


def test_separation_sums_its_sources():
    _, (sample, _) = opened("separation")
    clips = [source.load_clip().waveform for source in sample.sources]
    mixture = sample.load_mixture().waveform
    np.testing.assert_allclose(mixture, clips[0] + clips[1], atol=1e-6)
    level = [20 * np.log10(active_rms(clip)) for clip in clips]
    assert abs(level[0] - level[1]) <= 3.0 + 1e-3
    assert np.abs(mixture).max() <= 0.99 + 1e-6
    images = [source.load_image() for source in sample.sources]
    assert not np.array_equal(*images)
    assert sample.sources[0].class_name != sample.sources[1].class_name


def test_a_duet_to_separate_is_one_picture_with_the_outline_of_each():
    _, (sample, _) = opened("duet-separation")
    images = [source.load_image() for source in sample.sources]
    np.testing.assert_array_equal(*images)
    masks = [source.load_mask() for source in sample.sources]
    assert all(mask.shape == images[0].shape[:2] and mask.any() for mask in masks)
    assert not (masks[0] * masks[1]).any()
    clips = [source.load_clip().waveform for source in sample.sources]
    np.testing.assert_allclose(sample.load_mixture().waveform, sum(clips), atol=1e-6)


def test_samples_depend_on_the_seed_alone():
    few, many = (open_benchmark("synthetic-duet", num=num, seed=2)[1] for num in (2, 9))
    assert few == many
    synthetic._recent.clear()
    np.testing.assert_array_equal(few.load_clip().waveform, many.load_clip().waveform)
    other = open_benchmark("synthetic-duet", num=2, seed=3)[1]
    assert not np.array_equal(few.load_image(), other.load_image())


@pytest.mark.slow
def test_processes_that_draw_ahead_change_nothing():
    plain = open_benchmark("synthetic-duet", num=4, seed=2)
    ahead = open_benchmark("synthetic-duet", num=4, seed=2, workers=2)
    try:
        for index in range(4):
            assert ahead[index] == plain[index]
            clip = ahead[index].load_clip().waveform
            synthetic._recent.clear()
            np.testing.assert_array_equal(clip, plain[index].load_clip().waveform)
        assert pickle.loads(pickle.dumps(ahead))[3] == plain[3]
    finally:
        ahead.close()
    assert ahead[0] == plain[0]
