"""Phrases of sampled instruments: what a test hears, no training has heard."""

from pathlib import Path

import numpy as np
import pytest

from av_grounding.everyday.music import (
    INSTRUMENTS,
    PROGRAMS,
    UNSEEN_KEYS,
    UNSEEN_PROGRAMS,
    phrases_midi,
)
from av_grounding.everyday.nouns import NOUNS
from av_grounding.everyday.playing import NUM_SAMPLES, missing, play, play_split

needs_font = pytest.mark.skipif(bool(missing()), reason="needs fluidsynth, fluid-soundfont-gm")


def keys_played(midi):
    """Keys of the note-on events of a file of `phrases_midi`: three bytes behind each delta."""
    body, keys, at = midi[22:], [], 0
    while at < len(body):
        while body[at] & 0x80:  # a delta of several bytes
            at += 1
        at += 1
        kind = body[at]
        if kind == 0xFF:
            return keys
        if kind & 0xF0 == 0x90:
            keys.append(body[at + 1])
        at += 2 if kind & 0xF0 == 0xC0 else 3
    raise AssertionError("the track has no end")


@pytest.mark.parametrize("noun", [noun for noun in INSTRUMENTS if noun != "drum"])
def test_no_key_of_the_test_is_played_in_training(noun):
    train, test = (
        set(keys_played(phrases_midi(noun, PROGRAMS[noun][0][0], 40, split)))
        for split in ("train", "test")
    )
    assert train
    assert test
    assert not train & test
    assert {key % UNSEEN_KEYS for key in test} == {UNSEEN_KEYS - 1}
    low, high = PROGRAMS[noun][1]
    assert low <= min(train | test) <= max(train | test) <= high


def test_validation_plays_trainings_keys_in_phrases_of_its_own():
    train, validation = (
        keys_played(phrases_midi("violin", 40, 30, split)) for split in ("train", "validation")
    )
    assert train != validation
    assert not any(key % UNSEEN_KEYS == UNSEEN_KEYS - 1 for key in validation)


def test_programs_of_the_test_are_none_of_trainings():
    for noun, programs in UNSEEN_PROGRAMS.items():
        assert not set(programs) & set(PROGRAMS[noun][0])
    assert set(INSTRUMENTS) <= NOUNS.keys()
    assert phrases_midi("drum", -9, 1)[22:25] == bytes([0, 0xC9, 8])


@needs_font
def test_a_phrase_sounds_at_its_notes():
    (phrase,) = play("flute", 73, 1, "test")
    (first, *_) = keys_played(phrases_midi("flute", 73, 1, "test"))
    spectrum = np.abs(np.fft.rfft(phrase[1600:4800] * np.hanning(3200), 2**16))
    found_hz = spectrum[400:].argmax() + 400
    expected_hz = 440 * 2 ** ((first - 69) / 12)
    harmonic = found_hz * 16_000 / 2**16 / expected_hz
    assert abs(harmonic - round(harmonic)) < 0.02


@needs_font
def test_an_instruments_programs_take_turns():
    played = play_split("trumpet", "test", 3)
    assert played.shape == (3, NUM_SAMPLES)
    assert (np.sqrt(np.square(played).mean(axis=1)) > 0.01).all()
    assert not np.allclose(played[0], played[1])


def test_a_missing_font_names_what_installs_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"apt-get install -y .* fluid-soundfont-gm"):
        list(play("violin", 40, 1, soundfont=Path(tmp_path / "none.sf2")))


@needs_font
def test_partials_above_half_the_rate_do_not_come_back():
    """fluidsynth folds them, where it is asked for 16 kHz itself."""
    phrase = next(iter(play("harmonica", 22, 1, "test")))
    (first, *_) = keys_played(phrases_midi("harmonica", 22, 1, "test"))
    size = 2**16
    spectrum = np.abs(np.fft.rfft(phrase[800:4000] * np.hanning(3200), size))
    key_hz = 440 * 2 ** ((first - 69) / 12)
    hz = np.fft.rfftfreq(size, 1 / 16_000)
    near = np.abs(hz / key_hz - np.round(hz / key_hz)) * key_hz < 60
    between = spectrum[~near & (hz > key_hz)].max()
    assert 20 * np.log10(between / spectrum.max()) < -40
