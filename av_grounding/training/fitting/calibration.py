"""Calibration: from a head's similarity to the probability that its object is in the picture.

Per head, an affine and a sigmoid are fitted on the largest similarity of matching pairs (the
object is there) and non-matching pairs (it is not), so that 0.5 means "as likely as not".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from av_grounding.backends.caching import CachingBackend
from av_grounding.evaluation.prediction import Unbounded
from av_grounding.grounder import Grounder, clip_hop_s
from av_grounding.synthetic.acoustics import mix
from av_grounding.synthetic.samples import SyntheticSamples
from av_grounding.training.fitting.clip_folder import find_clips
from av_grounding.types import Grounding, HeadCalibration

logger = logging.getLogger(__name__)

Cases = dict[str, tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]]


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
    grounder: Grounder,
    num: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    samples: Any = None,
) -> Cases:
    """Largest similarities of validation samples per head, and whether the object was there.

    Matching: the sample's mixture and its clean sound or speech. Not matching: a sound or a noun
    whose object is not in the picture, alone and under the other head's matching track. Cases
    that a gate already answers with zeros teach nothing and are left out. `samples` are another
    world's, such as `EverydaySamples`.
    """
    plain = uncalibrated(grounder)
    samples = SyntheticSamples("val", seed) if samples is None else samples
    found: dict[str, list[tuple[float, bool]]] = {head: [] for head in plain.spec.head_names}

    def add(image: np.ndarray, waveform: np.ndarray, matching: dict[str, bool]) -> None:
        rate_hz = plain.spec.sample_rate_hz
        grounding = plain.ground(image, waveform, rate_hz, hop_s=clip_hop_s(plain.spec))
        for head, peak in largest_similarities(grounding).items():
            found[head].append((peak, matching[head]))

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
    return as_arrays(found)


def folder_cases(
    grounder: Grounder,
    folder: Path,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    *,
    num_others: int = 3,
) -> Cases:
    """The same for a folder of clips: each picture with its own sound, and with other clips'.

    Clips are videos with sound (the picture is their middle frame), or pictures and sounds of the
    same name, anywhere below `folder`; those below `folder`/sound or `folder`/speech count for
    that head alone. `num_others` is how many other clips each picture is paired with.
    """
    clips = find_clips(folder)
    pictures = [clip.picture.middle_frame() for clip in clips]
    sounds = [clip.sound.read_audio() for clip in clips]
    heads = [clip.head for clip in clips]
    return pair_cases(grounder, pictures, sounds, heads, seed, progress, num_others=num_others)


def pair_cases(
    grounder: Grounder,
    pictures: Sequence[UInt8[np.ndarray, "H W 3"]],
    sounds: Sequence[tuple[np.ndarray, int]],
    heads: Sequence[str | None],
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    *,
    num_others: int = 3,
) -> Cases:
    """The same for decoded clips: `sounds` are samples and rate, `heads` None counts for all."""
    plain = uncalibrated(grounder)
    found: dict[str, list[tuple[float, bool]]] = {head: [] for head in plain.spec.head_names}
    order = np.random.default_rng(seed).permutation(len(pictures))
    num_others = min(num_others, len(pictures) - 1)
    total, done = len(pictures) * (1 + num_others), 0
    for place, index in enumerate(order):
        for step in range(1 + num_others):
            other = order[(place + step) % len(order)]
            hop_s = clip_hop_s(plain.spec)
            grounding = plain.ground(pictures[index], *sounds[other], hop_s=hop_s)
            for head, peak in largest_similarities(grounding).items():
                if {heads[index], heads[other]} <= {None, head}:
                    found[head].append((peak, step == 0))
            done += 1
            if progress:
                progress(done, total)
    return as_arrays(found)


def uncalibrated(grounder: Grounder) -> Grounder:
    """The same model, whose logits are its similarities; it encodes nothing twice."""
    spec = grounder.spec
    plain = spec.with_heads(calibration=dict.fromkeys(spec.head_names, Unbounded()))
    return Grounder(CachingBackend(grounder.backend), grounder.config).with_spec(plain)


def largest_similarities(grounding: Grounding) -> dict[str, float]:
    """Of the heads that heard something, from an uncalibrated grounder."""
    return {
        head: float(one.logits.max()) for head, one in grounding.heads.items() if len(one.logits)
    }


def as_arrays(found: dict[str, list[tuple[float, bool]]]) -> Cases:
    return {
        head: (np.array([p for p, _ in rows]), np.array([m for _, m in rows], bool))
        for head, rows in found.items()
    }


def reliability_facts(reliabilities: Mapping[str, Reliability]) -> dict[str, Any]:
    """As a bundle's info keeps them."""
    return {"reliability": {head: asdict(one) for head, one in reliabilities.items()}}


def fit_cases(
    grounder: Grounder, cases: Cases
) -> tuple[dict[str, HeadCalibration], dict[str, Reliability]]:
    """Fit every head that heard anything; ValueError if none did, or only one kind of pair."""
    calibrations, reliabilities = {}, {}
    for head, (peaks, matching) in cases.items():
        if not peaks.size:
            logger.warning("no clip has anything for the %s head: its calibration stays", head)
            continue
        before = grounder.spec.head(head).calibration
        after = fit_calibration(peaks, matching)
        calibrations[head] = after
        reliabilities[head] = Reliability(
            ece_before=expected_calibration_error(before(peaks), matching),
            ece_after=expected_calibration_error(after(peaks), matching),
            num_matching=int(matching.sum()),
            num_others=int((~matching).sum()),
        )
    if not calibrations:
        raise ValueError("all clips are silent; expected sound, or speech, in some of them")
    return calibrations, reliabilities
