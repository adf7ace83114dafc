"""Separation: SDR, SIR and SAR of BSS-eval version 3 (Vincent et al. 2006).

An estimate is split into what a 512-tap filter can make of its own source, what such filters of
all sources can make beyond that, and the rest; the three ratios compare their energies. This is
what `mir_eval.separation` computed until its removal in 0.9, for one source order: Sound of
Pixels (2018), OneAVM (003) and others know which estimate belongs to which source.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NUM_TAPS = 512
SILENT_RMS = 1e-5


class SeparationScores(NamedTuple):
    """One value for each estimate, in dB; +inf where the respective error is exactly zero."""

    sdr: Float[np.ndarray, "*answers k"]
    sir: Float[np.ndarray, "*answers k"]
    sar: Float[np.ndarray, "*answers k"]


def is_silent(source: Float[np.ndarray, " s"]) -> bool:
    """Whether a reference is too quiet for a ratio: such sources are skipped and counted."""
    return bool(np.sqrt(np.mean(np.square(source, dtype=np.float64))) < SILENT_RMS)


def separation_scores(
    references: Float[np.ndarray, "k s"],
    estimates: Float[np.ndarray, "*answers _ _"],
    num_taps: int = NUM_TAPS,
) -> SeparationScores:
    """BSS-eval v3 of estimate i against reference i, no permutation.

    Several answers (*answers, k, s) to the same references cost little more than one: the
    equations are solved for all of them together.

    Raises ValueError for shapes that differ, for samples that are not finite and for a reference
    or an estimate that is all zeros, where a ratio of energies says nothing.
    """
    if references.shape != estimates.shape[-2:]:
        raise ValueError(
            f"got references of shape {references.shape} and estimates of {estimates.shape}, "
            "expected one shape: cut both to the mixture's length"
        )
    for name, values in (("reference", references), ("estimate", estimates)):
        if not np.isfinite(values).all():
            raise ValueError(f"got a {name} that is not finite: check the separator")
        if not values.any(axis=-1).all():
            raise ValueError(f"got a {name} of zeros alone: leave it out and count it")
    # Beyond the end the filtered sources ring on: pad, so that projections see all of it.
    references, estimates = (
        np.pad(values.astype(np.float64), [(0, 0)] * (values.ndim - 1) + [(0, num_taps - 1)])
        for values in (references, estimates)
    )
    within = _project(estimates, references, num_taps)
    own = [
        _project(estimates[..., i, :], references[i : i + 1], num_taps)
        for i in range(len(references))
    ]
    target = np.stack(own, axis=-2)
    return SeparationScores(
        sdr=_ratio_db(target, estimates - target),
        sir=_ratio_db(target, within - target),
        sar=_ratio_db(within, estimates - within),
    )


def scale_invariant_sdr(
    references: Float[np.ndarray, "k s"], estimates: Float[np.ndarray, "*answers k s"]
) -> Float[np.ndarray, "*answers k"]:
    """SI-SDR (Le Roux et al. 2019) of estimate i against reference i, in dB.

    The reference may be scaled, and nothing else: where BSS-eval forgives a filter of 512 taps,
    this forgives one. 0 for the mixture of two equally loud sources that share nothing.
    """
    references, estimates = references.astype(np.float64), estimates.astype(np.float64)
    scale = (references * estimates).sum(axis=-1) / np.square(references).sum(axis=-1)
    targets = scale[..., None] * references
    return _ratio_db(targets, estimates - targets)


def _project(
    signals: Float[np.ndarray, "*signals s"], sources: Float[np.ndarray, "n s"], num_taps: int
) -> Float[np.ndarray, "*signals s"]:
    """Least-squares projection of each signal onto all delays 0 … num_taps − 1 of the sources."""
    num, length = sources.shape
    num_fft = 1 << (length + num_taps - 1).bit_length()
    spectra = np.fft.rfft(sources, num_fft)
    lags = np.arange(num_taps)
    correlations = np.fft.irfft(spectra[:, None] * spectra.conj(), num_fft)
    # Entry (i, p, j, q): ⟨source i delayed by p, source j delayed by q⟩.
    gram = correlations[:, :, lags[None, :] - lags[:, None]].transpose(0, 2, 1, 3)
    gram = gram.reshape(num * num_taps, num * num_taps)
    flat = signals.reshape(-1, length)
    products = np.fft.irfft(np.fft.rfft(flat, num_fft)[:, None] * spectra.conj(), num_fft)
    wanted = products[..., :num_taps].reshape(len(flat), -1).T
    try:
        filters = np.linalg.solve(gram, wanted)
    except np.linalg.LinAlgError:
        filters = np.linalg.lstsq(gram, wanted, rcond=None)[0]
    taps = np.fft.rfft(filters.T.reshape(len(flat), num, num_taps), num_fft)
    filtered = np.fft.irfft((taps * spectra).sum(axis=1), num_fft)
    return filtered[:, :length].reshape(signals.shape)


def _ratio_db(
    signal: Float[np.ndarray, "*signals s"], error: Float[np.ndarray, "*signals s"]
) -> Float[np.ndarray, "*signals"]:
    energy, error_energy = (np.square(values).sum(axis=-1) for values in (signal, error))
    with np.errstate(divide="ignore"):
        ratio = 10.0 * np.log10(np.maximum(energy, 1e-300) / error_energy)
    return np.where(error_energy == 0.0, np.inf, ratio)
