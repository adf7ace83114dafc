"""The separator of instruments that ships: what plays comes out at its photograph."""

from pathlib import Path

import numpy as np
import pytest

from av_grounding import Grounder
from av_grounding.evaluation.metrics.separation import scale_invariant_sdr
from av_grounding.everyday.ensemble import EnsembleSamples, draw_ensemble
from av_grounding.everyday.packages import FOLDERS
from av_grounding.everyday.parts import PACKAGES
from av_grounding.everyday.playing import missing

BUNDLE = Path(__file__).parents[1] / "models" / "everyday-separator"
needs_packages = pytest.mark.skipif(
    bool(missing()) or not all(FOLDERS[name].is_dir() for name in PACKAGES),
    reason=f"needs {', '.join(PACKAGES)}, fluidsynth, fluid-soundfont-gm",
)


@pytest.fixture(scope="module")
def grounder():
    return Grounder.load(BUNDLE, backend="torch", device="cpu")


def test_it_is_small_and_says_what_it_knows(grounder):
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 14 * 2**20
    assert grounder.spec.separation is not None
    assert grounder.spec.head_names == ("sound",)


def test_silence_gives_silence(grounder):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    hiss = 1e-4 * rng.standard_normal(48_000).astype(np.float32)
    heard = grounder.separate(image, hiss, 16_000, point=(80, 60))
    assert np.abs(heard.separated).max() < 1e-3


@needs_packages
def test_the_right_photograph_and_not_the_wrong_one(grounder):
    right, wrong, mixture = [], [], []
    for index in range(6):
        rngs = (np.random.default_rng((7, index, purpose)) for purpose in range(2))
        drawn = draw_ensemble(2, *rngs)
        parts = np.stack(drawn.total.parts)
        estimates = np.stack(
            [
                grounder.separate(
                    drawn.scene.image, drawn.total.mixture, 16_000, mask=mask
                ).separated
                for mask in drawn.scene.masks
            ]
        )
        right += scale_invariant_sdr(parts, estimates).tolist()
        wrong += scale_invariant_sdr(parts, estimates[::-1]).tolist()
        mixture += scale_invariant_sdr(parts, np.stack([drawn.total.mixture] * 2)).tolist()
    assert np.mean(right) > np.mean(mixture) + 3.5
    assert np.mean(right) > np.mean(wrong) + 12.0


@needs_packages
def test_two_at_once_are_heard_and_somebody_who_speaks_is_not(grounder):
    samples = EnsembleSamples(3)
    for index in range(5):
        rngs = (np.random.default_rng((9, index, purpose)) for purpose in range(2))
        drawn = draw_ensemble(2, *rngs)
        assert grounder.ground(drawn.scene.image, drawn.total.mixture, 16_000).sound.any()
        sample = samples[index]
        assert not grounder.ground(sample.image, sample.speech, 16_000).sound.any()
