"""The bundle of regions that ships: masks with names, on what sounds."""

from pathlib import Path

import numpy as np
import pytest

from av_grounding import Grounder
from av_grounding.config import read_vocabulary
from av_grounding.image import peak_cell, resize_heatmap
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.samples import SyntheticSamples

BUNDLE = Path(__file__).parents[1] / "models" / "synthetic-regions"
NUM_SAMPLES = 16
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def answers():
    grounder = Grounder.load(BUNDLE, backend="torch", device="cpu")
    world = SyntheticSamples("test", 31)
    return [
        (sample, grounder.ground(sample.image, sample.sound, RATE_HZ))
        for sample in (world[index] for index in range(NUM_SAMPLES))
    ]


def test_it_is_small_and_names_what_it_knows():
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 12 * 2**20
    assert sorted(read_vocabulary(BUNDLE)["sound"]) == sorted(CLASSES)


def test_the_peak_lies_on_what_sounds(answers):
    hits = []
    for sample, grounding in answers:
        sound = resize_heatmap(grounding.heatmap("sound"), *sample.mask_sound.shape)
        hits.append(bool(sample.mask_sound[peak_cell(sound)]))
    assert np.mean(hits) >= 0.8


def test_a_region_that_is_surely_heard_has_the_right_name(answers):
    right = []
    for sample, grounding in answers:
        regions = grounding["sound"].regions
        best = int(np.argmax(regions.scores))
        if regions.scores[best] >= 0.5:
            right.append(regions.labels[best] == sample.sound_class)
    assert len(right) >= 0.7 * NUM_SAMPLES
    assert np.mean(right) >= 0.8
