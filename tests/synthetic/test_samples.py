"""Samples of the synthetic world: determinism, truth, what is absent, and the files."""

import json
import wave
from dataclasses import fields

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.synthetic import espeak_worker, speech
from av_grounding.synthetic.acoustics import active_rms
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.samples import SyntheticSamples, draw_names, place, write_samples
from av_grounding.synthetic.scene import render_scene
from av_grounding.synthetic.speech import SAMPLE_RATE_HZ, VOICES, Utterance

needs_speech = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)
NUM = 6


@pytest.fixture(scope="module")
def samples():
    return SyntheticSamples("test", seed=11)


@pytest.fixture(scope="module")
def drawn(samples):
    return [samples[index] for index in range(NUM)]


def db(ratio):
    return 20 * np.log10(ratio)


@needs_speech
def test_a_sample_depends_on_split_seed_and_index_alone(drawn):
    again = SyntheticSamples("test", seed=11)
    for index in (4, 1):  # out of order
        for field in fields(drawn[index]):
            expected, got = getattr(drawn[index], field.name), getattr(again[index], field.name)
            np.testing.assert_array_equal(got, expected, err_msg=field.name)
    for other in (SyntheticSamples("test", seed=12), SyntheticSamples("val", seed=11)):
        assert not np.array_equal(other[1].image, drawn[1].image)
        assert not np.array_equal(other[1].sound, drawn[1].sound)
    assert not np.array_equal(drawn[0].image, drawn[1].image)


@needs_speech
def test_masks_show_the_object_that_sounds_and_the_one_that_is_named(samples, drawn, monkeypatch):
    for index, sample in enumerate(drawn):
        assert sample.sound_class != sample.speech_class
        assert sample.image.shape == (224, 224, 3)
        boxes = {entry["class"]: entry["box"] for entry in sample.objects}
        assert 2 <= len(sample.objects) == len(boxes) <= 4
        assert sorted(boxes) == sorted(draw_names(samples.rng(index)))
        for name, mask in (
            (sample.sound_class, sample.mask_sound),
            (sample.speech_class, sample.mask_speech),
        ):
            ys, xs = np.nonzero(mask)
            assert boxes[name] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert not (sample.mask_sound & sample.mask_speech).any()
    # The mask is the object itself: without the one that sounds, the picture changes there.
    scenes = []

    def render(spec, *size):
        scenes.append(spec)
        return render_scene(spec, *size)

    monkeypatch.setattr("av_grounding.synthetic.samples.render_scene", render)
    sample = samples[0]
    kept = tuple(p for p in scenes[0].objects if p.instance.class_name != sample.sound_class)
    assert len(kept) == len(scenes[0].objects) - 1
    without = render_scene(type(scenes[0])(kept, *list(vars(scenes[0]).values())[1:]), 224, 224)
    changed = (without.image != sample.image).any(axis=2)
    around = cv2.dilate(sample.mask_sound.astype(np.uint8), np.ones((9, 9))).astype(bool)
    assert changed[sample.mask_sound].mean() > 0.9
    assert changed[~around].mean() < 0.05


@needs_speech
def test_the_word_is_spoken_within_its_span(samples, drawn):
    for sample in drawn:
        start, stop = sample.word_span_s
        assert 0.0 <= start < stop <= samples.num_samples_clip / SAMPLE_RATE_HZ
        assert sample.speech_class.replace("_", " ") in sample.text
        begin, end = round(start * SAMPLE_RATE_HZ), round(stop * SAMPLE_RATE_HZ)
        # The noun is as loud as the rest of the phrase, and far louder than the clip's silence.
        assert active_rms(sample.speech[begin:end]) > 0.3 * active_rms(sample.speech)
        outside = np.concatenate([sample.speech[:begin], sample.speech[end:]])
        assert np.square(sample.speech[begin:end]).mean() > np.square(outside).mean()


@needs_speech
def test_the_mixture_is_sound_plus_speech_at_the_ratio_asked_for(drawn):
    for sample in drawn:
        assert sample.sound.shape == sample.speech.shape == sample.mixture.shape == (51_200,)
        assert -5.1 <= db(active_rms(sample.sound) / active_rms(sample.speech)) <= 5.1
        rest = sample.mixture - (sample.sound + sample.speech)
        assert 15 <= db(active_rms(sample.mixture) / active_rms(rest)) <= 45
        assert np.abs(sample.mixture).max() <= 1.0
    quiet = SyntheticSamples("test", seed=11, ratio_db=-9.0)[0]
    assert db(active_rms(quiet.sound) / active_rms(quiet.speech)) == pytest.approx(-9.0, abs=0.05)
    np.testing.assert_array_equal(quiet.image, drawn[0].image)
    assert (quiet.text, quiet.word_span_s) == (drawn[0].text, drawn[0].word_span_s)


@needs_speech
def test_what_is_absent_is_of_a_class_that_is_not_in_the_picture(samples, drawn, monkeypatch):
    used = []
    for name in ("draw_sound", "draw_speech"):
        draw = getattr(SyntheticSamples, name)

        def spy(self, class_name, rng, draw=draw, name=name):
            used.append((name, class_name))
            return draw(self, class_name, rng)

        monkeypatch.setattr(SyntheticSamples, name, spy)
    for index, sample in enumerate(drawn):
        used.clear()
        absent = samples.absent(index)
        seen = {entry["class"] for entry in sample.objects}
        assert [name for name, _ in used] == ["draw_sound", "draw_speech"]
        assert {name for _, name in used} <= set(CLASSES) - seen
        assert used[0][1] != used[1][1]
        assert set(absent) == {"silence", "noise", "sound", "speech"}
        assert all(wave.shape == (51_200,) for wave in absent.values())
        assert not absent["silence"].any()
        assert db(np.sqrt(np.square(absent["noise"]).mean())) == pytest.approx(-65, abs=0.5)
        assert min(active_rms(absent["sound"]), active_rms(absent["speech"])) > 0.02
        again = samples.absent(index)
        assert all(np.array_equal(again[key], absent[key]) for key in absent)


@needs_speech
def test_voices_of_a_split_are_its_own(monkeypatch):
    heard = {"train": set(), "test": set()}
    for split, voices in heard.items():

        def speak(class_name, carrier, voice, seed, voices=voices):
            voices.add(voice)
            return speech.synthesize_utterance(class_name, carrier, voice, seed)

        monkeypatch.setattr("av_grounding.synthetic.samples.synthesize_utterance", speak)
        for index in range(4):
            samples = SyntheticSamples(split, seed=0)
            samples.draw_speech("dog", samples.rng(index))
        assert voices <= set(VOICES[split])
        assert voices


def utterance(num_samples, first, last):
    """An utterance whose samples number themselves, so that a cut can be read off."""
    return Utterance(
        waveform=np.arange(1, num_samples + 1, dtype=np.float32),
        text="the dog",
        class_name="dog",
        word_span_s=(first / SAMPLE_RATE_HZ, last / SAMPLE_RATE_HZ),
        voice="v",
    )


@settings(max_examples=200)
@given(st.data())
def test_place_keeps_the_noun_inside_and_the_span_on_it(data):
    num_samples = data.draw(st.integers(2_000, 40_000), label="clip")
    total = data.draw(st.integers(100, 90_000), label="utterance")
    first = data.draw(st.integers(0, total - 2), label="first")
    last = data.draw(st.integers(first + 1, min(total, first + num_samples)), label="last")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    clip, span_s = place(utterance(total, first, last), num_samples, rng)
    assert clip.shape == (num_samples,)
    begin, end = (round(t * SAMPLE_RATE_HZ) for t in span_s)
    assert 0 <= begin < end <= num_samples
    np.testing.assert_array_equal(clip[begin:end], np.arange(first + 1, last + 1))
    # What is heard is one piece of the utterance: all of it, or a full clip of it.
    heard = clip[clip > 0]
    assert len(heard) == min(total, num_samples)
    np.testing.assert_array_equal(np.diff(heard), 1)


def test_place_varies_where_the_noun_stands_also_in_long_utterances():
    for total in (10_000, 60_000):
        spoken = utterance(total, 4_000, 9_000)
        begins = [place(spoken, 32_000, np.random.default_rng(s))[1][0] for s in range(40)]
        assert max(begins) - min(begins) > 0.2
    assert min(begins) >= 0.0


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'dev'; expected one of train, val, test"):
        SyntheticSamples("dev", 0)


def read_rows(manifest):
    return [json.loads(line) for line in manifest.read_text().splitlines()]


@needs_speech
def test_files_hold_what_the_manifest_promises(tmp_path, drawn):
    steps = []
    manifest = write_samples(tmp_path, 2, 11, "test", lambda *step: steps.append(step))
    assert manifest == tmp_path / "manifest.jsonl"
    assert steps == [(1, 2), (2, 2)]
    rows = read_rows(manifest)
    assert len(rows) == 2
    for row, sample in zip(rows, drawn, strict=False):
        image = cv2.imread(str(tmp_path / row["image"]))[..., ::-1]
        np.testing.assert_array_equal(image, sample.image)
        for key in ("mask_sound", "mask_speech"):
            mask = cv2.imread(str(tmp_path / row[key]), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(mask, getattr(sample, key) * np.uint8(255))
        for key in ("sound", "speech", "mixture"):
            with wave.open(str(tmp_path / row[f"{key}_wav"])) as file:
                assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (
                    SAMPLE_RATE_HZ, 1, 2,
                )  # fmt: skip
                pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            np.testing.assert_allclose(pcm / 32767, getattr(sample, key), atol=1 / 32767)
        assert row["sound_class"] == sample.sound_class
        assert row["speech_class"] == sample.speech_class
        assert row["text"] == sample.text
        assert row["word_span_s"] == pytest.approx(sample.word_span_s, abs=1e-3)
        assert row["objects"] == list(sample.objects)


@needs_speech
def test_an_interrupted_run_goes_on_behind_the_last_complete_row(tmp_path):
    manifest = write_samples(tmp_path / "whole", 3, 1, "train")
    whole = manifest.read_text()
    torn = write_samples(tmp_path / "torn", 2, 1, "train")
    text = torn.read_text()
    torn.write_text(text[: len(text) - 20])
    steps = []
    write_samples(tmp_path / "torn", 3, 1, "train", lambda done, total: steps.append(done))
    assert steps == [2, 3]
    assert torn.read_text() == whole
    for row in read_rows(manifest):
        for key in (
            "image",
            "mask_sound",
            "mask_speech",
            "sound_wav",
            "speech_wav",
            "mixture_wav",
        ):
            one, other = (tmp_path / name / row[key] for name in ("whole", "torn"))
            assert one.read_bytes() == other.read_bytes()


@needs_speech
def test_another_seed_or_split_is_refused_and_changes_nothing(tmp_path):
    manifest = write_samples(tmp_path, 1, 1, "train")
    before = manifest.read_bytes()
    for seed, split in ((2, "train"), (1, "val")):
        with pytest.raises(ValueError, match=r"'train' with seed 1.*write into another directory"):
            write_samples(tmp_path, 2, seed, split)
    assert manifest.read_bytes() == before
