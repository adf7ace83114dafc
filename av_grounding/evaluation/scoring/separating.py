"""Scores of separation benchmarks: a separator between doing nothing and the ideal mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from av_grounding.audio import to_clean_mono
from av_grounding.evaluation.benchmark import SampleProblem, SeparationSample
from av_grounding.evaluation.metrics.separation import is_silent, separation_scores
from av_grounding.evaluation.scoring.rows import MODEL, Scored, loaded, mean_of

# Sound of Pixels: n_fft 1022, hop 256.
NUM_FFT = 1022
HOP = 256
FLOOR_MIXTURE = "mixture"
IDEAL = "ideal_binary_mask"


def score(sample: SeparationSample, separated: Float[np.ndarray, "k s"] | None) -> Scored:
    """SDR, SIR and SAR of every source that can be heard, for the model and two references.

    `mixture`: the mixture itself as every estimate, which a separator must beat.
    `ideal_binary_mask`: bins of the mixture where the source holds more than half of the
    magnitude, with the mixture's phase: the best that a binary mask can do.
    """
    mixture = _mono(loaded(sample.load_mixture, sample.id).waveform)
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
    references = references[heard]
    answers = {
        FLOOR_MIXTURE: np.tile(mixture, (len(heard), 1)),
        IDEAL: ideal_binary_mask(references, mixture),
    }
    if separated is not None:
        answers = {MODEL: np.asarray(separated, np.float64)[heard], **answers}
    row: dict[str, Any] = {
        "id": sample.id,
        "class": [sample.sources[i].class_name for i in heard],
        "num_silent": len(sample.sources) - len(heard),
        "rows": {},
    }
    for name, estimates in answers.items():
        scores = separation_scores(references, estimates)
        row["rows"][name] = {key: value.tolist() for key, value in scores._asdict().items()}
    return Scored(row)


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over all sources, in dB."""
    names = [name for name in (MODEL, FLOOR_MIXTURE, IDEAL) if name in rows[0]["rows"]]
    return {
        name: {
            metric: mean_of(value for row in rows for value in row["rows"][name][metric])
            for metric in ("sdr", "sir", "sar")
        }
        for name in names
    }


def ideal_binary_mask(
    references: Float[np.ndarray, "k s"], mixture: Float[np.ndarray, " s"]
) -> Float[np.ndarray, "k s"]:
    """What masking the mixture's STFT by the truth gives back for every source."""
    spectrum = _stft(mixture)
    estimates = []
    for source in references:
        mask = np.abs(_stft(source)) > 0.5 * np.abs(spectrum)
        estimates.append(_istft(spectrum * mask, mixture.size))
    return np.stack(estimates)


def _window() -> Float[np.ndarray, " n"]:
    # Periodic, so that its squares at one hop add up to a constant.
    return np.hanning(NUM_FFT + 1)[:-1]


def _stft(signal: Float[np.ndarray, " s"]) -> np.ndarray:
    padded = np.pad(signal, (NUM_FFT // 2, NUM_FFT // 2 + HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, NUM_FFT)[::HOP]
    return np.fft.rfft(frames * _window(), axis=1)


def _istft(spectrum: np.ndarray, num_samples: int) -> Float[np.ndarray, " s"]:
    window = _window()
    frames = np.fft.irfft(spectrum, NUM_FFT, axis=1) * window
    length = (len(frames) - 1) * HOP + NUM_FFT
    signal, weight = np.zeros(length), np.zeros(length)
    for number, frame in enumerate(frames):
        place = slice(number * HOP, number * HOP + NUM_FFT)
        signal[place] += frame
        weight[place] += window**2
    start = NUM_FFT // 2
    kept = slice(start, start + num_samples)
    return signal[kept] / np.maximum(weight[kept], 1e-8)


def _mono(waveform: np.ndarray) -> Float[np.ndarray, " s"]:
    return to_clean_mono(waveform)[0].astype(np.float64)
