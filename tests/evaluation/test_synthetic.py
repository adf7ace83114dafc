"""The benchmark measured on models whose right answer is known."""

import json

import numpy as np
import pytest

from av_grounding.evaluation.benchmark import AudioClip
from av_grounding.evaluation.prediction import GrounderPredictor, HeadGrids
from av_grounding.evaluation.scoring.heads import published
from av_grounding.evaluation.synthetic import evaluate
from av_grounding.grounder import Grounder
from av_grounding.synthetic.samples import SyntheticSamples
from tests.helpers.other_backends import RegionBackend, SourcesBackend

NUM, SEED = 4, 11
HEADS = ("sound", "speech")


@pytest.fixture(autouse=True, scope="module")
def _drawn_once():
    """The benchmarks' samples, each drawn once for all tests of this file."""
    drawn = {}

    def once(what, draw):
        if what not in drawn:
            drawn[what] = draw()
        return drawn[what]

    plain, absent = SyntheticSamples.__getitem__, SyntheticSamples.absent
    with pytest.MonkeyPatch.context() as patch:
        for name, draw in (("__getitem__", plain), ("absent", absent)):
            patch.setattr(
                SyntheticSamples,
                name,
                lambda self, index, name=name, draw=draw: once(
                    (name, self.split, self.seed, self.ratio_db, index), lambda: draw(self, index)
                ),
            )
        yield


class Oracle:
    """Knows the samples: answers with the masks, and with nothing where nothing belongs."""

    heads = HEADS

    def __init__(self):
        samples = SyntheticSamples("test", SEED)
        self.samples = [samples[i] for i in range(NUM)]
        self.absent = [samples.absent(i) for i in range(NUM)]

    def describe(self):
        return {"heads": self.heads}

    def ground(self, image, clip, word_span_s=None, frame_s=None):
        (index,) = (i for i, s in enumerate(self.samples) if np.array_equal(s.image, image))
        sample, waveform = self.samples[index], clip.waveform
        sound, speech = sample.mask_sound.astype(np.float32), sample.mask_speech.astype(np.float32)
        if any(np.array_equal(waveform, wave) for wave in self.absent[index].values()):
            sound, speech = 0 * sound, 0 * speech
        elif np.array_equal(waveform, sample.sound):
            speech = 0 * speech
        elif np.array_equal(waveform, sample.speech):
            sound = 0 * sound
        maps = dict(zip(HEADS, self.distort(sound, speech, word_span_s), strict=True))
        with np.errstate(divide="ignore"):
            logits = {
                head: np.clip(np.log(maps[head] / (1.0 - maps[head])), -30, 30)[None]
                for head in self.heads
            }
        gated = tuple(head for head in self.heads if not maps[head].any())
        return HeadGrids(logits, gated)

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
    # Mixture, clean sound and speech, two ratios; and five clips a scene, of which four are dark.
    assert seen == [(i + 1, 10 * NUM) for i in range(10 * NUM)]
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
            assert baseline[head]["mAP"] < 0.5
    assert (tmp_path / "panels.png").stat().st_size > 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["panels.png", "report.json"]


def test_ceilings_know_the_cells_or_the_objects_and_not_the_head(tmp_path):
    report = evaluate(Oracle(), tmp_path, SEED, NUM)
    for head in HEADS:
        grid, either = (
            report["ceilings"][name][head] for name in ("truth_on_grid", "either_object")
        )
        # The oracle's grid is the picture's, so its cells hold the whole truth.
        assert grid["mAP"] == grid["peak"] == 1.0
        assert 0.2 < either["mAP"] < 0.9
        assert 0.2 < either["peak"] < 0.8


def test_what_a_head_knows_has_a_row_of_its_own_and_a_stream_too(tmp_path):
    classes = [sample.speech_class for sample in Oracle().samples]
    report = evaluate(
        Oracle(), tmp_path, SEED, NUM, vocabulary={"speech": classes[:1]}, stream=Swapped(),
        cells=Oracle(),
    )  # fmt: skip
    known = report["in_vocabulary"]
    assert known.keys() == {"speech"}
    assert known["speech"]["num"] == classes.count(classes[0])
    assert known["speech"]["num_classes"] == known["speech"]["mAP"] == 1
    assert report["streaming"]["sound"]["peak"] == 0.0
    # Beside an answer for regions stands that of the same bundle's cells.
    assert report["cells"]["sound"]["peak"] == 1.0
    assert report["outlines_of_cells"] == report["outlines"]


def test_swapped_heads_leak_and_miss(tmp_path):
    report = evaluate(Swapped(), tmp_path, SEED, NUM)
    assert report["mixture"]["leakage"] == 1.0
    assert report["mixture"]["sound"]["peak"] == report["mixture"]["speech"]["peak"] == 0.0
    assert report["mixture"]["sound"]["mAP"] < 0.5
    # The right answers of the other head light up where this one must stay dark.
    assert report["gating_cases"]["sound_alone.speech"] == 0.0


def test_oracle_timing_reaches_the_model_in_its_own_row_alone(tmp_path):
    report = evaluate(NeedsTiming(), tmp_path, SEED, NUM)
    assert report["word_timing"]["oracle"] == 1.0
    assert report["word_timing"]["without"] == report["mixture"]["speech"]["mAP"] < 0.5
    assert report["mixture"]["sound"]["mAP"] == 1.0


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
    assert report["baselines"]["whole_image"]["sound"]["mAP"] == pytest.approx(share)


def test_a_model_of_one_head_is_asked_for_no_other(tmp_path):
    class SoundAlone(Oracle):
        heads = ("sound",)

    report = evaluate(SoundAlone(), tmp_path, SEED, NUM)
    assert set(report["per_class"]) == {"sound"}
    assert report["mixture"]["sound"]["mAP"] == 1.0
    assert set(report["gating_cases"]) == {
        "absent_sound.sound", "noise.sound", "silence.sound", "speech_alone.sound"
    }  # fmt: skip
    assert "word_timing" not in report

    class Neither(Oracle):
        heads = ("music",)

    with pytest.raises(ValueError, match="model with music, expected a head sound or speech"):
        evaluate(Neither(), tmp_path, SEED, NUM)


@pytest.mark.parametrize("backend", [RegionBackend(), SourcesBackend()])
def test_regions_and_several_sources_are_measured_as_one_map(backend, tmp_path):
    grounder = Grounder(backend)
    report = evaluate(GrounderPredictor(grounder), tmp_path, SEED, 2)
    sample = SyntheticSamples("test", SEED)[0]
    shown = grounder.ground(sample.image, sample.mixture, 16_000)
    grids = GrounderPredictor(grounder).ground(sample.image, AudioClip(sample.mixture, 16_000))
    for head in HEADS:
        np.testing.assert_allclose(published(grids, head), shown.heatmap(head), atol=1e-6)
        assert 0.0 < report["mixture"][head]["mAP"] < 1.0


def test_no_samples_are_refused(tmp_path):
    with pytest.raises(ValueError, match="raise --num"):
        evaluate(Oracle(), tmp_path, SEED, 0)
