"""Calibration: from a head's similarity to the probability that its object is in the picture.

Per head, an affine and a sigmoid are fitted on the largest similarity of matching pairs (the
object is there) and non-matching pairs (it is not), so that 0.5 means "as likely as not".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from av_grounding.grounder import Grounder
from av_grounding.synthetic.acoustics import mix
from av_grounding.synthetic.samples import SyntheticSamples
from av_grounding.types import HeadCalibration


@dataclass(frozen=True)
class Reliability:
    """Expected calibration error before and after the fit, and how many pairs it rests on."""

    ece_before: float
    ece_after: float
    num_matching: int
    num_others: int


def fit_calibration(
    peaks: Float[np.ndarray, " n"], matching: Bool[np.ndarray, " n"], *, ridge: float = 1e-3
) -> HeadCalibration:
    """Logistic regression of `matching` on `peaks`, both outcomes weighted alike (Platt scaling).

    Raises ValueError unless there are both matching and other pairs, all of them finite.
    """
    peaks, matching = np.asarray(peaks, np.float64), np.asarray(matching, bool)
    if not np.isfinite(peaks).all():
        raise ValueError(f"{(~np.isfinite(peaks)).sum()} similarities are not finite")
    if matching.all() or not matching.any():
        raise ValueError(
            f"{matching.sum()} matching of {len(matching)} pairs; expected some of both kinds"
        )
    mean, spread = peaks.mean(), max(peaks.std(), 1e-9)
    x = np.stack([(peaks - mean) / spread, np.ones_like(peaks)], axis=1)
    weight = np.where(matching, 0.5 / matching.mean(), 0.5 / (1 - matching.mean()))
    penalty = np.diag([ridge, 1e-9]) * len(peaks)
    beta = np.zeros(2)
    for _ in range(100):
        probability = 1 / (1 + np.exp(-x @ beta))
        gradient = x.T @ (weight * (probability - matching)) + penalty @ beta
        curvature = weight * probability * (1 - probability)
        step = np.linalg.solve((x.T * curvature) @ x + penalty + 1e-9 * np.eye(2), gradient)
        beta -= np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-9:
            break
    scale = beta[0] / spread
    return HeadCalibration(scale=float(scale), bias=float(beta[1] - scale * mean))


def expected_calibration_error(
    probability: Float[np.ndarray, " n"], outcome: Bool[np.ndarray, " n"], num_bins: int = 10
) -> float:
    """Mean |confidence - accuracy| over equal-width bins, weighted by their counts."""
    bins = np.minimum((np.asarray(probability) * num_bins).astype(int), num_bins - 1)
    total = 0.0
    for number in range(num_bins):
        members = bins == number
        if members.any():
            total += members.mean() * abs(probability[members].mean() - outcome[members].mean())
    return float(total)


def synthetic_cases(
    grounder: Grounder, num: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]]:
    """Largest similarities of validation samples per head, and whether the object was there.

    Matching: the sample's mixture and its clean sound or speech. Not matching: a sound or a noun
    whose object is not in the picture, alone and under the other head's matching track. Cases
    that a gate already answers with zeros teach nothing and are left out.
    """
    identity = dict.fromkeys(grounder.spec.heads, HeadCalibration())
    plain = grounder.with_spec(replace(grounder.spec, calibration=identity))
    samples = SyntheticSamples("val", seed)
    found: dict[str, list[tuple[float, bool]]] = {head: [] for head in ("sound", "speech")}

    def add(image: np.ndarray, waveform: np.ndarray, matching: dict[str, bool]) -> None:
        heatmaps = plain.ground(image, waveform, plain.spec.sample_rate_hz)
        for head, matches in matching.items():
            score = getattr(heatmaps, f"{head}_score")
            if score > 0.0:
                found[head].append((float(np.log(score / (1.0 - score))), matches))

    for index in range(num):
        sample, absent = samples[index], samples.absent(index)
        add(sample.image, sample.mixture, {"sound": True, "speech": True})
        add(sample.image, sample.sound, {"sound": True, "speech": False})
        add(sample.image, sample.speech, {"sound": False, "speech": True})
        add(sample.image, absent["sound"], {"sound": False, "speech": False})
        add(sample.image, absent["speech"], {"sound": False, "speech": False})
        both = mix(absent["sound"], absent["speech"], 0.0)[0]
        add(sample.image, both, {"sound": False, "speech": False})
        if progress:
            progress(index + 1, num)
    return {
        head: (np.array([p for p, _ in rows]), np.array([m for _, m in rows]))
        for head, rows in found.items()
    }


def calibrate(
    grounder: Grounder, num: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> tuple[dict[str, HeadCalibration], dict[str, Reliability]]:
    """Fit both heads on the synthetic validation split; see `synthetic_cases`."""
    calibrations, reliabilities = {}, {}
    for head, (peaks, matching) in synthetic_cases(grounder, num, seed, progress).items():
        before = grounder.spec.calibration.get(head, HeadCalibration())
        after = fit_calibration(peaks, matching)
        calibrations[head] = after
        reliabilities[head] = Reliability(
            ece_before=expected_calibration_error(before(peaks), matching),
            ece_after=expected_calibration_error(after(peaks), matching),
            num_matching=int(matching.sum()),
            num_others=int((~matching).sum()),
        )
    return calibrations, reliabilities
