"""Samples of the everyday world: the same whenever they are asked for, and true."""

import numpy as np
import pytest

from av_grounding.everyday.packages import FOLDERS
from av_grounding.everyday.parts import PACKAGES, TEST
from av_grounding.everyday.samples import EverydaySamples
from av_grounding.synthetic.acoustics import active_rms

if not all(FOLDERS[name].is_dir() for name in PACKAGES):
    pytest.skip(f"needs {', '.join(PACKAGES)}", allow_module_level=True)


def test_a_sample_is_what_it_says():
    sample = EverydaySamples("test", 3)[0]
    assert sample.image.shape == (480, 640, 3)
    assert sample.sound_class in TEST.sounding
    assert sample.speech_class in TEST.named
    assert sample.text == sample.speech_class != sample.sound_class
    assert not (sample.mask_sound & sample.mask_speech).any()
    assert sample.mask_sound.sum() > 500 < sample.mask_speech.sum()
    assert len({entry["class"] for entry in sample.objects}) == 3
    assert sample.mixture.shape == sample.sound.shape == sample.speech.shape == (64_000,)
    noise = sample.mixture - sample.sound - sample.speech
    assert active_rms(noise) < 0.2 * active_rms(sample.sound + sample.speech)
    start, stop = (round(t * 16_000) for t in sample.word_span_s)
    spoken = np.sum(np.square(sample.speech[start : stop + 6_400]))
    assert spoken > 0.99 * np.sum(np.square(sample.speech))


def test_a_sample_does_not_depend_on_what_was_asked_before():
    samples = EverydaySamples("test", 3)
    samples.absent(1)
    second = samples[1]
    again = EverydaySamples("test", 3)[1]
    np.testing.assert_array_equal(second.image, again.image)
    np.testing.assert_array_equal(second.mixture, again.mixture)
    quiet = EverydaySamples("test", 3, ratio_db=-5.0)[1]
    np.testing.assert_array_equal(quiet.image, second.image)
    ratio_db = 20 * np.log10(active_rms(quiet.sound) / active_rms(quiet.speech))
    assert ratio_db == pytest.approx(-5.0, abs=0.2)


def test_what_is_absent_is_not_in_the_picture():
    samples = EverydaySamples("test", 3)
    asked = []
    samples.draw_sound = lambda noun, rng: asked.append(noun) or np.ones(3, np.float32)
    samples.draw_speech = lambda noun, rng: (asked.append(noun) or np.ones(3, np.float32), (0, 1))
    for index in range(20):
        asked.clear()
        absent = samples.absent(index)
        assert len(asked) == 2
        assert set(asked) & set(samples.draw_names(samples.rng(index))) == set()
        assert not absent["silence"].any()
        assert 0 < np.abs(absent["noise"]).max() < 0.005


def test_a_short_recording_comes_again_and_a_long_one_is_cut():
    samples = EverydaySamples("test", 3)
    rng = np.random.default_rng(0)
    for noun in ("dog", "tiger"):
        sound = samples.draw_sound(noun, rng)
        assert sound.shape == (64_000,)
        seconds = np.square(sound).reshape(4, -1).sum(axis=1)
        assert (seconds > 1e-4 * seconds.max()).all()
