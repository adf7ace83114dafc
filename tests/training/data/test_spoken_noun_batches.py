"""Batches of spoken nouns: repeatable, and the labels lie where the noun is."""

import numpy as np
import pytest
import torch

from av_grounding.everyday.corpus import CorpusShard
from av_grounding.training.data import spoken_nouns
from av_grounding.training.data.spoken_nouns import TOKEN_SAMPLES, SpokenNounBatches, in_a_room

SECOND = 16_000


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """Utterances of 2 s that are loud from 0.8 to 1.4 s, where the noun is."""
    utterance = np.zeros(2 * SECOND, np.int16)
    utterance[12_800:22_400] = np.random.default_rng(0).integers(-9000, 9000, 9600)
    shard = CorpusShard(
        np.tile(utterance, 3),
        2 * SECOND * np.arange(4),
        np.tile([12_800, 22_400], (3, 1)),
        np.arange(3),
        ("cat", "dog", "hen"),
    )
    monkeypatch.setattr(spoken_nouns.corpus, "load", lambda path: shard)
    sounds = [np.random.default_rng(1).standard_normal(SECOND).astype(np.float32)]
    return SpokenNounBatches([tmp_path / "espeak_all_00.npz"], sounds, batch_size=24)


def test_a_batch_depends_on_its_number_alone(batches):
    first, other = batches[3], batches[4]
    again = batches[3]
    for key, value in first.items():
        torch.testing.assert_close(value, again[key])
    assert not torch.equal(first["waveform"], other["waveform"])


def test_tokens_inside_the_noun_are_marked_and_no_others(batches, monkeypatch):
    monkeypatch.setattr(spoken_nouns, "in_a_room", lambda clips, rng: clips)
    monkeypatch.setattr(spoken_nouns, "with_noise", lambda clip, noise, rng: clip)
    batch = batches[0]
    level = batch["waveform"].unflatten(1, (-1, TOKEN_SAMPLES)).square().mean(-1).sqrt()
    said = batch["noun"] >= 0
    inside, near = batch["inside"], batch["near"]
    assert said.any()
    assert (~said).any()
    assert inside[said].any(dim=1).all()
    assert not inside[~said].any()
    assert not near[~said].any()
    assert (near | ~inside).all()
    assert (level[inside] > 0.5).all()
    assert (level[~near] == 0).all()


def test_a_room_keeps_the_onset_and_the_length():
    clips = np.zeros((40, SECOND), np.float32)
    clips[:, 4000] = 1.0
    heard = in_a_room(clips, np.random.default_rng(0))
    assert heard.shape == clips.shape
    assert np.abs(heard).argmax(axis=1) == pytest.approx(4000, abs=3)
    before, behind = np.abs(heard[:, 3000:3900]).max(1), np.abs(heard[:, 4500:5500]).max(1)
    assert before.max() < 0.01
    assert 0.2 < np.mean(behind > 0.01) < 0.7


def test_nothing_to_learn_from_is_said():
    with pytest.raises(ValueError, match="build the corpus first"):
        SpokenNounBatches([], [])
