"""The everyday demo: what is seen and heard when, and nothing of the test in it."""

import numpy as np
import pytest

from av_grounding.everyday.demo_scene import DURATION_S, THINGS, TIMELINE, EverydayDemo
from av_grounding.everyday.packages import FOLDERS
from av_grounding.everyday.parts import PACKAGES, VALIDATION
from av_grounding.everyday.spoken import VOICES, speak
from av_grounding.sources.open import open_source

if not all(FOLDERS[name].is_dir() for name in PACKAGES):
    pytest.skip(f"needs {', '.join(PACKAGES)}", allow_module_level=True)
try:
    speak("dog", VOICES[0])
except FileNotFoundError as error:
    pytest.skip(str(error), allow_module_level=True)


def test_what_is_named_and_sounds_is_in_the_picture():
    nouns = [thing.noun for thing in THINGS]
    for event in TIMELINE:
        noun = nouns[event.slot]
        table = VALIDATION.recordings if event.kind == "sound" else VALIDATION.pictures
        assert noun in table
        assert event.kind == "sound" or event.carrier.endswith(noun)
        assert event.start_s + event.duration_s < DURATION_S
    scene = EverydayDemo().frame(7.3)
    assert (scene.masks.sum(axis=(1, 2)) > 3_000).all()


def test_it_plays_as_a_source_and_is_heard_when_the_timeline_says():
    video, audio = open_source("everyday", realtime=False, duration_s=6.0)
    frames = [frame for frame, _ in zip(video, range(3), strict=False)]
    assert frames[0].image.shape == (480, 640, 3)
    assert (frames[0].image != frames[2].image).any()
    heard = np.concatenate([chunk.samples for chunk in audio])
    assert len(heard) == 6 * 16_000
    assert np.abs(heard[:16_000]).max() == 0.0
    assert np.abs(heard[24_000:80_000]).max() > 0.05
