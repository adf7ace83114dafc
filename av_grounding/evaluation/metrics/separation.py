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
    """One value for each source, in dB; +inf where the respective error is exactly zero."""

    sdr: Float[np.ndarray, " k"]
    sir: Float[np.ndarray, " k"]
    sar: Float[np.ndarray, " k"]


def is_silent(source: Float[np.ndarray, " s"]) -> bool:
    """Whether a reference is too quiet for a ratio: such sources are skipped and counted."""
    return bool(np.sqrt(np.mean(np.square(source, dtype=np.float64))) < SILENT_RMS)


def separation_scores(
    references: Float[np.ndarray, "k s"],
    estimates: Float[np.ndarray, "_ _"],
    num_taps: int = NUM_TAPS,
) -> SeparationScores:
    """BSS-eval v3 of estimate i against reference i, no permutation.

    Raises ValueError for shapes that differ, for samples that are not finite and for a reference
    or an estimate that is all zeros, where a ratio of energies says nothing.
    """
    if references.shape != estimates.shape:
        raise ValueError(
            f"got references of shape {references.shape} and estimates of {estimates.shape}, "
            "expected one shape: cut both to the mixture's length"
        )
    for name, values in (("reference", references), ("estimate", estimates)):
        if not np.isfinite(values).all():
            raise ValueError(f"got a {name} that is not finite: check the separator")
        if not values.any(axis=1).all():
            raise ValueError(f"got a {name} of zeros alone: leave it out and count it")
    # Beyond the end the filtered sources ring on: pad, so that projections see all of it.
    references, estimates = (
        np.pad(values.astype(np.float64), ((0, 0), (0, num_taps - 1)))
        for values in (references, estimates)
    )
    solve_all = _Projector(references, num_taps)
    rows = []
    for number, estimate in enumerate(estimates):
        target = _Projector(references[number : number + 1], num_taps)(estimate)
        within = solve_all(estimate)
        interference, artefact = within - target, estimate - within
        rows.append(
            (
                _ratio_db(target, interference + artefact),
                _ratio_db(target, interference),
                _ratio_db(within, artefact),
            )
        )
    return SeparationScores(*(np.array(column) for column in zip(*rows, strict=True)))


def scale_invariant_sdr(
    references: Float[np.ndarray, "k s"], estimates: Float[np.ndarray, "k s"]
) -> Float[np.ndarray, " k"]:
    """SI-SDR (Le Roux et al. 2019) of estimate i against reference i, in dB.

    The reference may be scaled, and nothing else: where BSS-eval forgives a filter of 512 taps,
    this forgives one. 0 for the mixture of two equally loud sources that share nothing.
    """
    references = references.astype(np.float64)
    scale = (references * estimates).sum(axis=1) / np.square(references).sum(axis=1)
    targets = scale[:, None] * references
    return np.array(
        [_ratio_db(t, e - t) for t, e in zip(targets, estimates.astype(np.float64), strict=True)]
    )


class _Projector:
    """Least-squares projection onto all delays 0 … num_taps − 1 of some sources."""

    def __init__(self, sources: np.ndarray, num_taps: int) -> None:
        self.num_taps, self.length = num_taps, sources.shape[1]
        self.num_fft = 1 << (self.length + num_taps - 1).bit_length()
        self.spectra = np.fft.rfft(sources, self.num_fft, axis=1)
        num = len(sources)
        lags = np.arange(num_taps)
        gram = np.empty((num * num_taps, num * num_taps))
        for i in range(num):
            for j in range(num):
                correlation = np.fft.irfft(self.spectra[i] * self.spectra[j].conj(), self.num_fft)
                # Entry (p, q): ⟨source i delayed by p, source j delayed by q⟩.
                block = correlation[lags[None, :] - lags[:, None]]
                rows, columns = i * num_taps, j * num_taps
                gram[rows : rows + num_taps, columns : columns + num_taps] = block
        self.gram = gram

    def __call__(self, signal: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
        spectrum = np.fft.rfft(signal, self.num_fft)
        products = np.fft.irfft(spectrum * self.spectra.conj(), self.num_fft, axis=1)
        wanted = products[:, : self.num_taps].ravel()
        try:
            filters = np.linalg.solve(self.gram, wanted)
        except np.linalg.LinAlgError:
            filters = np.linalg.lstsq(self.gram, wanted, rcond=None)[0]
        taps = np.fft.rfft(filters.reshape(-1, self.num_taps), self.num_fft, axis=1)
        return np.fft.irfft((taps * self.spectra).sum(axis=0), self.num_fft)[: self.length]


def _ratio_db(signal: np.ndarray, error: np.ndarray) -> float:
    energy, error_energy = float(np.sum(signal**2)), float(np.sum(error**2))
    if error_energy == 0.0:
        return float("inf")
    return float(10.0 * np.log10(max(energy, 1e-300) / error_energy))
