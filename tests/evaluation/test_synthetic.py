"""The benchmark measured on grounders whose right answer is known."""

import json
from typing import ClassVar

import numpy as np
import pytest

from av_grounding.evaluation.synthetic import centred_disc, evaluate
from av_grounding.synthetic.samples import SyntheticSamples
from av_grounding.types import Grounding

NUM, SEED = 4, 11


class Drawn(SyntheticSamples):
    """The benchmark's samples, each drawn once for all tests of this file."""

    drawn: ClassVar = {}

    def __getitem__(self, index):
        return self._once(("sample", index), lambda: super(Drawn, self).__getitem__(index))

    def absent(self, index):
        return self._once(("absent", index), lambda: super(Drawn, self).absent(index))

    def _once(self, what, draw):
        key = (self.split, self.seed, self.ratio_db, *what)
        if key not in self.drawn:
            self.drawn[key] = draw()
        return self.drawn[key]


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch):
    monkeypatch.setattr("av_grounding.evaluation.synthetic.SyntheticSamples", Drawn)


class Oracle:
    """Knows the samples: answers with the masks, and with nothing where nothing belongs."""

    def __init__(self):
        samples = Drawn("test", SEED)
        self.samples = [samples[i] for i in range(NUM)]
        self.absent = [samples.absent(i) for i in range(NUM)]

    def ground(self, image, waveform, sample_rate, *, word_span_s=None):
        (index,) = (i for i, s in enumerate(self.samples) if np.array_equal(s.image, image))
        sample = self.samples[index]
        sound, speech = sample.mask_sound.astype(np.float32), sample.mask_speech.astype(np.float32)
        if any(np.array_equal(waveform, wave) for wave in self.absent[index].values()):
            sound, speech = 0 * sound, 0 * speech
        elif np.array_equal(waveform, sample.sound):
            speech = 0 * speech
        elif np.array_equal(waveform, sample.speech):
            sound = 0 * sound
        sound, speech = self.distort(sound, speech, word_span_s)
        return Grounding(sound, speech, float(sound.max()), float(speech.max()), 0)

    def distort(self, sound, speech, word_span_s):
        return sound, speech


class Swapped(Oracle):
    def distort(self, sound, speech, word_span_s):
        return speech, sound


class NeedsTiming(Oracle):
    def distort(self, sound, speech, word_span_s):
        return sound, speech if word_span_s is not None else 0 * speech


class NeverSilent(Oracle):
    def distort(self, sound, speech, word_span_s):
        return np.maximum(sound, 0.6), np.maximum(speech, 0.4)


def test_the_right_answer_scores_one(tmp_path):
    seen = []
    report = evaluate(
        Oracle(), tmp_path, SEED, NUM, lambda done, total: seen.append((done, total))
    )
    assert seen == [(i + 1, NUM) for i in range(NUM)]
    assert json.loads((tmp_path / "report.json").read_text()) == report
    rows = [report["mixture"], report["clean"], *report["ratios_db"].values()]
    assert len(rows) == 4
    for row in rows:
        for head in ("sound", "speech"):
            assert row[head] == pytest.approx(dict.fromkeys(row[head], 1.0))
    assert report["mixture"]["leakage"] == 0.0
    assert report["gating"] == 1.0
    assert report["word_timing"] == {"without": 1.0, "oracle": 1.0}
    counts = [row["num"] for row in report["per_class"]["speech"].values()]
    assert sum(counts) == NUM
    for baseline in report["baselines"].values():
        for head in ("sound", "speech"):
            assert baseline[head]["map"] < 0.5
    assert (tmp_path / "panels.png").stat().st_size > 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["panels.png", "report.json"]


def test_swapped_heads_leak_and_miss(tmp_path):
    report = evaluate(Swapped(), tmp_path, SEED, NUM)
    assert report["mixture"]["leakage"] == 1.0
    assert report["mixture"]["sound"]["peak"] == report["mixture"]["speech"]["peak"] == 0.0
    assert report["mixture"]["sound"]["map"] < 0.5
    # The right answers of the other head light up where this one must stay dark.
    assert report["gating_cases"]["sound_alone.speech"] == 0.0


def test_oracle_timing_reaches_the_grounder_in_its_own_row_alone(tmp_path):
    report = evaluate(NeedsTiming(), tmp_path, SEED, NUM)
    assert report["word_timing"]["oracle"] == 1.0
    assert report["word_timing"]["without"] == report["mixture"]["speech"]["map"] < 0.5
    assert report["mixture"]["sound"]["map"] == 1.0


def test_gating_names_the_head_that_stays_lit(tmp_path):
    report = evaluate(NeverSilent(), tmp_path, SEED, NUM)
    assert report["gating_cases"] == {
        "absent_sound.sound": 0.0,
        "absent_speech.speech": 1.0,
        "noise.sound": 0.0,
        "noise.speech": 1.0,
        "silence.sound": 0.0,
        "silence.speech": 1.0,
        "sound_alone.speech": 1.0,
        "speech_alone.sound": 0.0,
    }
    assert report["gating"] == 0.5


def test_whole_image_baseline_is_the_share_of_positive_pixels(tmp_path):
    report = evaluate(Oracle(), tmp_path, SEED, NUM)
    masks = {}
    for sample in Oracle().samples:
        masks.setdefault(sample.sound_class, []).append(sample.mask_sound)
    share = np.mean([np.mean(of_class) for of_class in masks.values()])
    assert report["baselines"]["whole_image"]["sound"]["map"] == pytest.approx(share)


def test_disc_covers_half_of_the_image_around_its_centre():
    disc = centred_disc((90, 120))
    assert disc.mean() == pytest.approx(0.5, abs=0.01)
    assert disc[45, 60] == 1.0
    assert disc[0, 0] == disc[-1, -1] == 0.0
    np.testing.assert_array_equal(disc, disc[::-1, ::-1])


def test_no_samples_are_refused(tmp_path):
    with pytest.raises(ValueError, match="raise --num"):
        evaluate(Oracle(), tmp_path, SEED, 0)
