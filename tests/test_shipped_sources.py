"""The bundle of several sources that ships: the one that sounds, and not its silent twin."""

from pathlib import Path

import numpy as np
import pytest

from av_grounding import Grounder
from av_grounding.image import resize_heatmap
from av_grounding.synthetic.acoustics import active_rms
from av_grounding.synthetic.samples import IMAGE_PX, SyntheticSamples
from av_grounding.synthetic.scene import render_scene
from av_grounding.synthetic.stage import draw_stage, lookalikes

BUNDLE = Path(__file__).parents[1] / "models" / "synthetic-sources"
NUM_STAGES = 16
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def grounder():
    return Grounder.load(BUNDLE, backend="torch", device="cpu")


def stages(num_sounding):
    """(stage, its rendering, the mixture of what sounds)."""
    world = SyntheticSamples("test", 31)
    for index in range(NUM_STAGES):
        rng = world.rng(index, purpose=2)
        stage = draw_stage(rng, "test", lambda rng: lookalikes(num_sounding, rng))
        sounds = [
            world.draw_sound(stage.actors[slot].class_name, rng)
            for slot in stage.slots("sounding")
        ]
        mixture = sum(sound * np.float32(0.1 / active_rms(sound)) for sound in sounds)
        yield stage, render_scene(stage.scene, IMAGE_PX, IMAGE_PX), mixture


def test_it_is_small_and_says_that_it_tells_sources_apart(grounder):
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 12 * 2**20
    assert grounder.spec.sources is not None
    assert grounder.spec.head_names == ("sound",)


def test_the_peak_lies_on_what_sounds_and_not_on_its_twin(grounder):
    found = {"sounding": 0, "twin": 0, "bystander": 0}
    for stage, rendered, mixture in stages(1):
        sound = grounder.ground(rendered.image, mixture, RATE_HZ).heatmap("sound")
        sound = resize_heatmap(sound, IMAGE_PX, IMAGE_PX)
        row, column = np.unravel_index(sound.argmax(), sound.shape)
        for role in found:
            found[role] += any(rendered.masks[slot][row, column] for slot in stage.slots(role))
    assert found["sounding"] >= 0.7 * NUM_STAGES
    assert found["twin"] <= 0.2 * NUM_STAGES
    assert found["bystander"] <= 0.1 * NUM_STAGES


def test_silence_is_dark(grounder):
    _, rendered, mixture = next(stages(1))
    heard = grounder.ground(rendered.image, np.zeros_like(mixture), RATE_HZ)
    assert heard.heatmap("sound").max() < 0.5
