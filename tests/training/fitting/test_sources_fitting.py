"""Thresholds of identification: fitted on what is heard, whatever the floor silences."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from av_grounding.grounder import Grounder
from av_grounding.identification import SourcesSpec
from av_grounding.synthetic.stage_samples import stage_samples
from av_grounding.training.fitting import sources
from av_grounding.training.fitting.sources import (
    count,
    features_of,
    fit_counting,
    fit_identification,
)

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


def test_how_many_are_heard_is_learned_from_mixtures_alone(monkeypatch):
    """From three sounds a class, and judged by mixtures that were kept out of the fit."""
    grounder = Grounder.load(BUNDLE, backend="torch", device="cpu")
    drawn = list(sources.mixtures(100, 0, "val"))
    monkeypatch.setattr(sources, "mixtures", lambda num, *_: drawn[:num])
    told = []
    weights, share = fit_counting(grounder, 100, 0, lambda *done: told.append(done))
    assert told[-1] == (100, 100)
    assert np.shape(weights) == (3, 2 * 64 + 1)
    assert share > 0.55  # always 1 is right of four in ten
    # Too few of each number teach nothing.
    assert fit_counting(grounder, 8, 0) == ((), 0.0)
    two = grounder.with_spec(replace(grounder.spec, sources=SourcesSpec(max_sources=2)))
    assert len(fit_counting(two, 50, 0)[0]) == 2
