"""Windows for the sound head: reproducible, at the right tokens, and learnable."""

import numpy as np
import pytest
import torch

from av_grounding.everyday.music import PHRASE_S, PROGRAMS, phrases_midi
from av_grounding.everyday.nouns import NOUNS
from av_grounding.everyday.recordings import OTHER, Recording
from av_grounding.training.everyday.sound_head import train_sound_head
from av_grounding.training.everyday.sound_windows import NOBODY, SoundWindows
from av_grounding.training.fitting.evidence_floor import reached_floor


def tone(hz, seconds=0.6):
    return np.sin(2 * np.pi * hz * np.arange(round(16_000 * seconds)) / 16_000).astype(np.float32)


def windows(seed=0):
    rows = [
        Recording("dog", "a", "1", tone(300)),
        Recording("cat", "a", "2", tone(900)),
        Recording(OTHER, "a", "3", tone(2000, 4.0)),
    ]
    return SoundWindows(rows, [tone(150, 1.0)], tuple(NOUNS), seed=seed)


def test_a_window_depends_on_seed_and_number_alone():
    first, again, other = windows()[5], windows()[5], windows(seed=1)[5]
    np.testing.assert_array_equal(first.waveform, again.waveform)
    assert first.waveform.shape == (14 * 3072,)
    assert not np.array_equal(first.waveform, other.waveform)


def test_a_thing_is_asked_for_where_it_sounds_and_nowhere_else():
    known = {list(NOUNS).index("dog"), list(NOUNS).index("cat")}
    drawn = [windows()[number].thing for number in range(40)]
    heard = [set(thing[thing >= 0].tolist()) for thing in drawn]
    assert all(len(of) <= 1 and of <= known for of in heard)
    assert {number for of in heard for number in of} == known
    assert any((thing == NOBODY).all() for thing in drawn)
    assert any((thing == NOBODY).any() and (thing >= 0).any() for thing in drawn)


def test_windows_need_things_others_and_speech():
    with pytest.raises(ValueError, match="expected some of each"):
        SoundWindows([Recording("dog", "a", "1", tone(300))], [tone(150)], tuple(NOUNS))


def test_a_head_learns_prototypes_and_evidence():
    generator = torch.Generator().manual_seed(0)
    things = torch.tensor([[0, 0, NOBODY], [1, 1, NOBODY], [NOBODY] * 3]).repeat(30, 1)
    features = 0.1 * torch.randn(90, 8, 3, generator=generator)
    for number in (0, 1, NOBODY):
        features[:, number] += 3.0 * (things == number)
    head = train_sound_head(
        features, things, 2, steps=200, batch_size=32, learning_rate=0.03, dropout=0.0
    )
    tokens = head(features)
    assert (tokens.argmax(dim=1)[things >= 0] == things[things >= 0]).float().mean() > 0.95
    assert tokens.sum(dim=1)[things >= 0].mean() > 0.4
    assert tokens.sum(dim=1)[things == NOBODY].mean() < 0.2


def test_phrases_are_midi_of_the_right_length():
    midi = phrases_midi("violin", 40, 3)
    assert midi[:4] == b"MThd"
    assert midi[14:18] == b"MTrk"
    assert midi[22:25] == bytes([0, 0xC0, 40])
    assert int.from_bytes(midi[18:22], "big") == len(midi) - 22
    assert PHRASE_S == 4.0
    assert PROGRAMS.keys() <= NOUNS.keys()


def test_nine_in_ten_of_what_a_head_should_hear_reach_the_floor():
    wanted, others = np.linspace(0.2, 1.2, 11), np.array([0.1, 0.5])
    floor = reached_floor(wanted, others)
    assert floor == pytest.approx(0.3)
    assert np.mean(wanted >= floor - 1e-9) == pytest.approx(10 / 11)
