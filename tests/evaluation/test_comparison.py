"""Paired intervals against SciPy's, and what two evaluations share."""

import numpy as np
import pytest

from av_grounding.evaluation.benchmark import BenchmarkInfo
from av_grounding.evaluation.comparison import compare, paired_bootstrap
from av_grounding.evaluation.harness import Evaluation
from av_grounding.evaluation.protocols import PROTOCOLS


def test_interval_equals_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    first = rng.random(80)
    second = first + rng.normal(0.05, 0.1, 80)
    own = paired_bootstrap(first, second, num_resamples=4000)
    expected = stats.bootstrap(
        (second - first,), np.mean, n_resamples=4000, method="percentile", rng=rng
    ).confidence_interval
    assert own.difference == pytest.approx(np.mean(second - first))
    assert own.low == pytest.approx(expected.low, abs=3e-3)
    assert own.high == pytest.approx(expected.high, abs=3e-3)
    assert own == paired_bootstrap(first, second, num_resamples=4000)


def test_pairs_cancel_what_samples_have_in_common():
    hard = np.random.default_rng(1).normal(size=200)
    own = paired_bootstrap(hard, hard + 0.01)
    assert own.low == pytest.approx(0.01)
    assert own.high == pytest.approx(0.01)
    apart = paired_bootstrap(hard, np.roll(hard, 1) + 0.01)
    assert apart.high - apart.low > 0.1
    with pytest.raises(ValueError, match="two or more"):
        paired_bootstrap(hard[:1], hard[:1])


def evaluation(ious, dropped=()):
    protocol = PROTOCOLS["median_gt"]
    info = BenchmarkInfo(
        name="x", task="localisation", heads=("sound",), citation="", num_expected=None
    )
    rows = [
        {
            "id": f"s{i}",
            "presence": "sounding",
            "protocols": {"median_gt": {"model": {"iou": [iou], "ap": [iou / 2]}}},
        }
        for i, iou in enumerate(ious)
        if i not in dropped
    ]
    return Evaluation(info, (protocol,), len(ious), [], rows)


def test_only_samples_that_both_scored_are_compared():
    first = evaluation([0.2, 0.6, 0.4, 0.9], dropped=(0,))
    second = evaluation([0.9, 0.7, 0.3, 0.9], dropped=(3,))
    result = compare(first, second)["median_gt"]
    assert result["mean_iou"]["num_pairs"] == 2
    assert result["mean_iou"]["first"] == pytest.approx(0.5)
    assert result["mean_iou"]["difference"] == pytest.approx(0.0)
    assert result["ciou@0.5"]["first"] == 0.5
    assert result["ap"]["resampled"] == "sample"
