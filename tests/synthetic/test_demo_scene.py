"""The demo scene: what moves where, and what is heard when."""

import numpy as np
import pytest

from av_grounding.synthetic import espeak_worker, speech
from av_grounding.synthetic.demo_scene import DRIFT, DURATION_S, TIMELINE, DemoScene
from av_grounding.synthetic.scene import SEED_RANGES
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.synthetic.speech import VOICES

needs_speech = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)


@pytest.fixture(scope="module")
def scene():
    return DemoScene(height_px=120, width_px=160)


def level(waveform, start_s, stop_s):
    part = waveform[round(start_s * SAMPLE_RATE_HZ) : round(stop_s * SAMPLE_RATE_HZ)]
    return float(np.sqrt(np.mean(np.square(part))))


def test_objects_stand_in_slot_order_and_are_of_the_test_split(scene):
    names = tuple(placed.instance.class_name for placed in scene.spec.objects)
    assert names == scene.class_names == ("dog", "clock", "phone", "guitar")
    low, high = SEED_RANGES["test"]
    assert all(low <= placed.instance.seed < high for placed in scene.spec.objects)
    assert all(low <= seed < high for seed in scene.seeds)
    assert set(scene.voices) <= set(VOICES["test"])


def test_objects_wander_within_the_picture(scene):
    at = [scene.frame(time_s) for time_s in np.arange(0.0, DURATION_S, 2.0)]
    centers = np.array([[placed.center for placed in s.spec.objects] for s in at])
    assert (np.ptp(centers, axis=0).max(axis=1) > DRIFT / 2).all()
    assert (np.ptp(centers, axis=0) <= 2 * DRIFT + 1e-9).all()
    for shown in at:
        assert shown.image.shape == (120, 160, 3)
        # All four stay visible: nobody is hidden behind another or outside.
        assert (shown.masks.sum(axis=(1, 2)) > 200).all()


def test_a_moment_looks_the_same_every_time(scene):
    np.testing.assert_array_equal(
        scene.frame(7.3).image, DemoScene(height_px=120, width_px=160).frame(7.3).image
    )
    assert not np.array_equal(scene.frame(7.3).image, scene.frame(9.0).image)


def test_the_timeline_has_silence_each_kind_alone_and_overlaps(scene):
    times = np.arange(0.0, DURATION_S, 0.05)

    def active(kind):
        events = [event for event in TIMELINE if event.kind == kind]
        since = [times - event.start_s for event in events]
        spans = zip(since, events, strict=True)
        return np.any([(s >= 0.0) & (s < event.duration_s) for s, event in spans], axis=0)

    sound, word = active("sound"), active("speech")
    for case in (~sound & ~word, sound & ~word, word & ~sound, sound & word):
        assert case.sum() * 0.05 >= 2.0
    assert all(event.start_s + event.duration_s <= DURATION_S for event in TIMELINE)
    assert {event.slot for event in TIMELINE} == {0, 1, 2, 3}
    # What is named while something sounds is never the thing that sounds.
    for event in TIMELINE:
        if event.kind == "speech":
            assert scene.sounding(event.start_s + 0.5) != scene.class_names[event.slot]
    heard = [scene.sounding(float(t)) is not None for t in times]
    np.testing.assert_array_equal(heard, sound)
    assert scene.sounding(2.0) == "dog"
    assert scene.sounding(12.0) == "phone"


@needs_speech
def test_the_soundtrack_follows_the_timeline(scene):
    waveform = scene.waveform
    assert waveform.shape == (round(DURATION_S * SAMPLE_RATE_HZ),)
    assert waveform.dtype == np.float32
    assert np.abs(waveform).max() <= 1.0
    for event in TIMELINE:
        assert level(waveform, event.start_s, event.start_s + 2.0) > 0.01
    for start_s, stop_s in ((0.0, 1.5), (5.0, 6.0), (9.0, 9.5), (25.0, DURATION_S)):
        assert level(waveform, start_s, stop_s) == 0.0
    np.testing.assert_array_equal(waveform, DemoScene(height_px=120, width_px=160).waveform)


@needs_speech
def test_other_objects_make_another_demo():
    names = ("cat", "bell", "car", "piano")
    other = DemoScene(names, height_px=120, width_px=160)
    assert tuple(p.instance.class_name for p in other.spec.objects) == names
    assert other.sounding(2.0) == "cat"
    assert level(other.waveform, 1.5, 4.0) > 0.01
