"""Scores of separation benchmarks: a separator between doing nothing and the ideal mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from av_grounding.audio import Stft, to_clean_mono
from av_grounding.evaluation.benchmark import SampleProblem, SeparationSample
from av_grounding.evaluation.metrics.separation import (
    is_silent,
    scale_invariant_sdr,
    separation_scores,
)
from av_grounding.evaluation.scoring.rows import MODEL, Scored, loaded, mean_of

# Sound of Pixels has windows of 1022 samples; frames every 256 as there.
STFT = Stft(1024, 256)
FLOOR_MIXTURE = "mixture"
SWAPPED = "swapped_image"
IDEAL = "ideal_binary_mask"
DOMINANCE = "ideal_dominant_mask"
NMF = "nmf"
NMF_ROUNDS = 200
NOISE_DB = -60.0
"""White noise under the mixture that stands in for an estimate of silence."""


def score(sample: SeparationSample, separated: Float[np.ndarray, "k s"] | None) -> Scored:
    """SDR, SIR and SAR of every source that can be heard, for the model and its references.

    `mixture`: the mixture itself as every estimate, which a separator must beat.
    `swapped_image`: the model's estimates, each against the next source; a separator that uses
    its pictures is far below its own row there.
    `ideal_binary_mask`: bins of the mixture where the source holds more than half of the
    magnitude, with the mixture's phase, as Sound of Pixels has it.
    `ideal_dominant_mask`: bins where the source is louder than all others together; the higher
    ceiling of the two for most sounds, which fill many bins.

    `nmf`: the mixture in as many factors as it has sources (see `nmf_masks`), in the order that
    suits them best; what hears no more than the mixture must be beaten.

    A silent estimate is scored as faint white noise and counted: to skip it would hide a failure.
    """
    mixed = loaded(sample.load_mixture, sample.id)
    mixture = _mono(mixed.waveform)
    references = np.stack(
        [_mono(loaded(source.load_clip, sample.id).waveform) for source in sample.sources]
    )
    if references.shape[1] != mixture.size:
        raise ValueError(
            f"{sample.id}: got sources of {references.shape[1]} samples and a mixture of "
            f"{mixture.size}, expected one length"
        )
    heard = [i for i, source in enumerate(references) if not is_silent(source)]
    if len(heard) < 2:
        few = "fewer than 2 audible sources"
        return Scored(None, problem=SampleProblem("empty_ground_truth", sample.id, few))
    references, num_silent_estimates = references[heard], 0
    answers = {
        FLOOR_MIXTURE: np.tile(mixture, (len(heard), 1)),
        IDEAL: masked(mixture, binary_masks(references, mixture)),
        DOMINANCE: masked(mixture, dominant_masks(references)),
        NMF: in_best_order(references, masked(mixture, nmf_masks(mixture, len(heard)))),
    }
    if separated is not None:
        own = np.asarray(separated, np.float64)[heard]
        for estimate in own:
            if is_silent(estimate):
                num_silent_estimates += 1
                level = np.sqrt(np.mean(np.square(mixture))) * 10 ** (NOISE_DB / 20)
                estimate += level * np.random.default_rng(0).standard_normal(estimate.size)
        answers = {MODEL: own, **answers, SWAPPED: np.roll(own, 1, axis=0)}
    row: dict[str, Any] = {
        "id": sample.id,
        "class": [sample.sources[i].class_name for i in heard],
        "stratum": sample.stratum,
        "sample_rate_hz": mixed.sample_rate_hz,
        "num_silent": len(sample.sources) - len(heard),
        "num_silent_estimates": num_silent_estimates,
        "rows": {},
    }
    estimates = np.stack(list(answers.values()))
    scores = separation_scores(references, estimates)._asdict()
    scores["si_sdr"] = scale_invariant_sdr(references, estimates)
    for number, name in enumerate(answers):
        row["rows"][name] = {metric: values[number].tolist() for metric, values in scores.items()}
    return Scored(row)


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over all sources, in dB; `sdr_gain` is over the mixture itself.

    Strata have rows of their own.
    """
    table = _summarise(rows)
    for stratum in sorted({row["stratum"] for row in rows} - {""}):
        part = _summarise([row for row in rows if row["stratum"] == stratum])
        names = (MODEL, FLOOR_MIXTURE, DOMINANCE)
        table |= {f"{name}, {stratum}": part[name] for name in names if name in part}
    return table


def told(rows: Sequence[Mapping[str, Any]], separates: bool) -> str:
    """What a reader must know of the numbers: their rate, and estimates that hold nothing."""
    rates = ", ".join(f"{rate:,}" for rate in sorted({row["sample_rate_hz"] for row in rows}))
    notes = [f"Scored at {rates} Hz."]
    if not separates:
        notes.append("The model separates nothing: references alone.")
    elif num := sum(row["num_silent_estimates"] for row in rows):
        notes.append(f"{num} silent estimates are scored as faint noise.")
    return " ".join(notes)


def _summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    order = (MODEL, FLOOR_MIXTURE, NMF, SWAPPED, IDEAL, DOMINANCE)
    table = {
        name: {
            metric: mean_of(value for row in rows for value in row["rows"][name][metric])
            for metric in ("sdr", "sir", "sar", "si_sdr")
        }
        for name in order
        if name in rows[0]["rows"]
    }
    for name in table:
        table[name]["sdr_gain"] = table[name]["sdr"] - table[FLOOR_MIXTURE]["sdr"]
    return table


def binary_masks(
    references: Float[np.ndarray, "k s"], mixture: Float[np.ndarray, " s"]
) -> Bool[np.ndarray, "k f t"]:
    """Bins in which each source has more than half of the mixture's magnitude."""
    total = np.abs(STFT(mixture))
    return np.stack([np.abs(STFT(source)) > 0.5 * total for source in references])


def dominant_masks(references: Float[np.ndarray, "k s"]) -> Bool[np.ndarray, "k f t"]:
    """Bins in which each source has more power than all others together."""
    power = np.stack([np.abs(STFT(source)) ** 2 for source in references])
    return 2.0 * power > power.sum(axis=0)


def nmf_masks(mixture: Float[np.ndarray, " s"], num: int) -> Float[np.ndarray, "k f t"]:
    """Soft masks of `num` factors of the mixture's magnitude, one spectrum and one course each.

    Nonnegative matrix factorisation under the Kullback-Leibler divergence, by the multiplicative
    updates of Lee and Seung (2000) from a fixed start.
    """
    magnitude = np.abs(STFT(mixture)) + 1e-9
    rng = np.random.default_rng(0)
    spectra = rng.random((len(magnitude), num)) + 0.1
    courses = rng.random((num, magnitude.shape[1])) + 0.1
    for _ in range(NMF_ROUNDS):
        spectra *= (magnitude / (spectra @ courses)) @ courses.T / courses.sum(axis=1)
        ratio = magnitude / (spectra @ courses)
        courses *= spectra.T @ ratio / spectra.sum(axis=0)[:, None]
    parts = spectra.T[:, :, None] * courses[:, None]
    return parts / parts.sum(axis=0)


def in_best_order(
    references: Float[np.ndarray, "k s"], estimates: Float[np.ndarray, "k s"]
) -> Float[np.ndarray, "k s"]:
    """The estimates in the order of the highest mean scale-invariant SDR."""
    orders = [list(order) for order in permutations(range(len(estimates)))]
    return estimates[
        max(orders, key=lambda of: scale_invariant_sdr(references, estimates[of]).mean())
    ]


def masked(
    mixture: Float[np.ndarray, " s"], masks: Float[np.ndarray, "k f t"] | Bool[np.ndarray, "k f t"]
) -> Float[np.ndarray, "k s"]:
    """What each mask leaves of the mixture, in the mixture's phase."""
    spectrum = STFT(mixture)
    return np.stack([STFT.inverse(spectrum * mask, mixture.size) for mask in masks])


def _mono(waveform: np.ndarray) -> Float[np.ndarray, " s"]:
    return to_clean_mono(waveform)[0].astype(np.float64)
