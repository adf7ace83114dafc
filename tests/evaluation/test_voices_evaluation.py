"""`evaluate voices`: ranks of the noun that was said, in the noise that was asked for."""

import numpy as np
import pytest

from av_grounding.evaluation import voices as evaluation
from av_grounding.everyday import voices

VOCABULARY = ("cat", "dog", "guinea pig")


def test_shares_count_ranks_from_zero():
    assert evaluation.shares([0, 0, 1, 4, 5]) == {"top1": 0.4, "top5": 0.8, "num": 5.0}


@pytest.mark.parametrize("snr_db", [10.0, 0.0])
def test_noise_has_the_ratio_that_was_asked_for(snr_db):
    tone = np.sin(np.arange(16_000) * 0.3).astype(np.float32)
    clip = evaluation.in_noise(tone, snr_db, "tone")
    assert len(clip) % evaluation.UNIT_SAMPLES == 0
    margin = round(evaluation.MARGIN_S * 16_000)
    noise = clip.copy()
    noise[margin : margin + len(tone)] -= tone
    ratio = np.mean(np.square(tone)) / np.mean(np.square(noise))
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.01)
    np.testing.assert_array_equal(clip, evaluation.in_noise(tone, snr_db, "tone"))


def test_an_encoder_that_hears_one_noun_is_right_for_that_noun_alone(monkeypatch):
    said = {"espeak:one": [("alone", noun, np.ones(1600, np.float32)) for noun in VOCABULARY]}
    monkeypatch.setattr(evaluation, "_clips", lambda voice, nouns: iter(said[voice]))
    tokens = np.array([[0.1, 0.0], [0.5, 0.4], [0.2, 0.3]])
    results = evaluation.evaluate_voices(lambda clip: tokens, VOCABULARY, ["espeak:one"])
    row = results["espeak:one"]["alone, clean"]
    assert row["top1"] == pytest.approx(1 / 3)
    assert row["top5"] == 1.0
    assert evaluation.by_engine(results)["espeak"]["alone, clean"] == row


def test_the_missing_stamps_are_answered_with_the_line_that_installs_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get install tuxpaint-stamps-default"):
        evaluation.person(VOCABULARY, tmp_path / "none")


@pytest.mark.skipif(not evaluation.STAMPS.is_dir(), reason="needs tuxpaint-stamps-default")
def test_the_person_says_single_nouns_of_the_vocabulary():
    spoken = evaluation.person(("dog", "kangaroo"))
    assert sorted(noun for noun, _ in spoken) == ["dog", "kangaroo"]
    assert all(0.3 < len(waveform) / voices.SAMPLE_RATE_HZ < 6 for _, waveform in spoken)


@pytest.mark.parametrize("num_samples", [30, 80, 90, 200, 275])
def test_the_tokens_of_a_clip_follow_one_another_through_its_windows(num_samples):
    clip = np.arange(num_samples, dtype=np.float32)
    tokens = evaluation.in_windows(lambda window: window[::10][None], 80, 8)(clip)[0]
    expected = clip[::10]
    np.testing.assert_array_equal(tokens[: len(expected)], expected)
    assert not tokens[len(expected) :].any()


def test_a_bundle_without_a_vocabulary_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no vocabulary"):
        evaluation.vocabulary_of(tmp_path)
    (tmp_path / "config.json").write_text('{"vocabulary": {"speech": ["cat"]}}')
    assert evaluation.vocabulary_of(tmp_path) == ("cat",)
