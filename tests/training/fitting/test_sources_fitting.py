"""Thresholds of identification: fitted on what is heard, whatever the floor silences."""

from dataclasses import replace
from pathlib import Path

from av_grounding.grounder import Grounder
from av_grounding.synthetic.stage_samples import stage_samples
from av_grounding.training.fitting.sources import count, features_of, fit_identification

BUNDLE = Path(__file__).parents[3] / "models" / "synthetic-sources"


def test_thresholds_are_those_that_count_most_stages_right():
    grounder = Grounder.load(BUNDLE, backend="torch", device="cpu")
    spec, share = fit_identification(grounder, 4, 0)
    right = [
        count(*features_of(grounder, sample), replace(spec, num_sources=0)) == len(sample.sounding)
        for sample in stage_samples(4, 0, "val")
    ]
    assert share == sum(right) / 4
    assert share >= 0.5


def test_stages_on_which_nothing_is_heard_teach_nothing():
    grounder = Grounder.load(BUNDLE, backend="torch", device="cpu")
    deaf = grounder.with_spec(grounder.spec.with_heads(min_token_norm={"sound": 1e9}))
    assert features_of(deaf, next(iter(stage_samples(1, 0, "val"))))[1].shape == (0,)
    spec, share = fit_identification(deaf, 2, 0)
    assert share == 0.0
    assert spec.max_sources == grounder.spec.sources.max_sources
