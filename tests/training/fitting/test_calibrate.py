"""Calibration: the fit against known truth, the error by hand, the cases it is fitted on."""

import numpy as np
import pytest
import torch

from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import Bundle
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig, head_specs
from av_grounding.synthetic import espeak_worker, speech
from av_grounding.training.fitting.calibration import (
    expected_calibration_error,
    fit_calibration,
    fit_cases,
    largest_similarities,
    synthetic_cases,
    uncalibrated,
)
from av_grounding.types import HeadCalibration, ModelSpec
from tests.helpers.other_backends import RegionBackend, SourcesBackend
from tests.helpers.tiny_backend import TinyBackend


def drawn(scale, bias, num=40_000, seed=0):
    rng = np.random.default_rng(seed)
    peaks = rng.normal(-bias / scale, 1.5 / scale, num)
    return peaks, rng.random(num) < 1 / (1 + np.exp(-(scale * peaks + bias)))


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (12.0, -5.0), (0.02, 3.0)])
def test_the_fit_recovers_a_known_logistic(scale, bias):
    peaks, matching = drawn(scale, bias)
    fitted = fit_calibration(peaks, matching)
    assert fitted.scale == pytest.approx(scale, rel=0.05)
    assert scale * (-fitted.bias / fitted.scale) == pytest.approx(-bias, abs=0.05)
    assert expected_calibration_error(fitted(peaks), matching) < 0.01


def test_rare_matches_do_not_move_the_threshold():
    """Both outcomes weigh alike: 0.5 means "as likely as not" before any habit of the data."""
    rng = np.random.default_rng(1)
    peaks = np.concatenate([rng.normal(1.0, 1.0, 20_000), rng.normal(-1.0, 1.0, 1_000)])
    matching = np.arange(len(peaks)) < 20_000
    fitted = fit_calibration(peaks, matching)
    # Two unit Gaussians two apart: the log odds are 2 x, whatever their counts.
    assert fitted.scale == pytest.approx(2.0, rel=0.08)
    assert -fitted.bias / fitted.scale == pytest.approx(0.0, abs=0.06)


def test_separable_and_constant_peaks_stay_finite():
    matching = np.arange(20) >= 10
    apart = fit_calibration(np.where(matching, 2.0, 1.0), matching)
    assert np.isfinite([apart.scale, apart.bias]).all()
    assert apart(np.array([1.0]))[0] < 0.1
    assert apart(np.array([2.0]))[0] > 0.9
    flat = fit_calibration(np.full(20, 3.0), matching)
    assert flat(np.array([3.0]))[0] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("peaks", "matching", "message"),
    [
        ([0.0, np.nan, np.inf], [True, False, True], "2 similarities are not finite"),
        ([0.0, 1.0], [True, True], "2 matching of 2 pairs; expected some of both"),
        ([0.0, 1.0], [False, False], "0 matching of 2 pairs"),
        ([], [], "0 matching of 0 pairs"),
    ],
)
def test_what_cannot_be_fitted_is_refused(peaks, matching, message):
    with pytest.raises(ValueError, match=message):
        fit_calibration(np.array(peaks), np.array(matching, bool))


def test_expected_calibration_error_by_hand():
    probability = np.array([0.05, 0.15, 0.15, 1.0])
    outcome = np.array([True, False, True, True])
    # Bins of a tenth: |0.05 - 1| / 4 + 2 |0.15 - 0.5| / 4 + |1 - 1| / 4
    assert expected_calibration_error(probability, outcome) == pytest.approx(0.4125)
    assert expected_calibration_error(probability, outcome, num_bins=1) == pytest.approx(0.4125)
    assert expected_calibration_error(np.array([0.2, 0.2]), np.array([True, False]), 1) == (
        pytest.approx(0.3)
    )
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0.0


@pytest.fixture(scope="module")
def grounder():
    torch.manual_seed(0)
    config = ModelConfig(
        image_options={"dim": 16},
        audio_options={"dim": 16, "num_mels": 32},
        head_dim=8,
    )
    model = DualEncoder(config).eval()
    spec = ModelSpec(
        heads=head_specs(model.heads, calibration=HeadCalibration(9.0, 4.0)),
        sample_rate_hz=16_000,
        window_s=2.56,
        hop_s=0.64,
        num_tokens=32,
        short_side_px=64,
        patch_px=model.patch_px,
        context_s=model.audio_backbone.context_s,
    )
    from av_grounding.backends.torch_eager import TorchBackend

    return Grounder(TorchBackend(Bundle(model, spec, "random")))


@pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)
def test_cases_and_the_fit_on_them(grounder):
    steps = []
    cases = synthetic_cases(grounder, 3, 7, lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert set(cases) == {"sound", "speech"}
    peaks, matching = cases["sound"]
    # Mixture, sound; speech alone and the three of absent objects: all of them are audible.
    assert (matching.sum(), (~matching).sum()) == (6, 12)
    # The bundle's own calibration is left out: cosines times evidence lie within -1 and 1.
    assert np.abs(peaks).max() < 1.0
    assert cases["speech"][1].sum() >= 4
    again = synthetic_cases(grounder, 3, 7)["sound"]
    np.testing.assert_array_equal(again[0], peaks)

    fitted, reliability = fit_cases(grounder, cases)
    assert fitted["sound"] == fit_calibration(peaks, matching)
    before = expected_calibration_error(HeadCalibration(9.0, 4.0)(peaks), matching)
    assert reliability["sound"].ece_before == pytest.approx(before)
    assert reliability["sound"].ece_after < reliability["sound"].ece_before
    assert (reliability["sound"].num_matching, reliability["sound"].num_others) == (6, 12)
    assert grounder.spec.head("sound").calibration == HeadCalibration(9.0, 4.0)


def test_uncalibrated_logits_are_similarities_however_large():
    image = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    tone = np.sin(np.arange(16_000)).astype(np.float32)
    for backend in (TinyBackend(), RegionBackend(), SourcesBackend()):
        backend._of_sound *= 1000.0
        plain = uncalibrated(Grounder(backend))
        given = plain.ground(image, tone, 16_000).heads
        shown = Grounder(backend).ground(image, tone, 16_000).heads
        peaks = largest_similarities(plain.ground(image, tone, 16_000))
        assert set(peaks) == {head for head, one in shown.items() if len(one.logits)} != set()
        for head, peak in peaks.items():
            assert peak == given[head].logits.max() > 30.0
            assert shown[head].logits.max() == 30.0
    silence = np.zeros(16_000, np.float32)
    assert largest_similarities(plain.ground(image, silence, 16_000)) == {}
