"""The separator that ships: what belongs to a thing comes out at that thing, and not elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from av_grounding import Grounder
from av_grounding.evaluation.benchmarks.synthetic import Key
from av_grounding.evaluation.benchmarks.synthetic_pairs import duet_separation
from av_grounding.evaluation.metrics.separation import scale_invariant_sdr

BUNDLE = Path(__file__).parents[1] / "models" / "synthetic-separator"
DUETS = (0, 1, 2, 5)


@pytest.fixture(scope="module")
def grounder():
    return Grounder.load(BUNDLE, backend="torch", device="cpu")


def centre(mask):
    """x, y of the marked pixel that is nearest to the middle of all."""
    rows, columns = np.nonzero(mask)
    near = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
    return float(columns[near]), float(rows[near])


def test_it_is_small_and_says_that_it_separates(grounder):
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 12 * 2**20
    assert grounder.spec.separation is not None
    assert grounder.spec.head_names == ("sound",)


def test_the_right_point_of_one_picture_and_not_the_wrong_one(grounder):
    right, wrong, mixture = [], [], []
    for index in DUETS:
        drawn = duet_separation(Key("synthetic-duet-separation", 0), index)
        arrays = drawn.arrays
        parts = np.stack([arrays["clip0"], arrays["clip1"]])
        heard = [
            grounder.separate(
                arrays["image"], arrays["mixture"], 16_000, point=centre(source.load_mask())
            )
            for source in drawn.sample.sources
        ]
        for one in heard:
            np.testing.assert_allclose(one.separated + one.residual, arrays["mixture"], atol=1e-5)
        estimates = np.stack([one.separated for one in heard])
        right += scale_invariant_sdr(parts, estimates).tolist()
        wrong += scale_invariant_sdr(parts, estimates[::-1]).tolist()
        mixture += scale_invariant_sdr(parts, np.stack([arrays["mixture"]] * 2)).tolist()
    assert np.mean(right) > np.mean(mixture) + 3.0
    assert np.mean(right) > np.mean(wrong) + 6.0
