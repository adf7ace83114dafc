"""One clock: from the stamps of audio chunks to a timeline of samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from av_grounding.audio import NS_PER_S, samples_to_ns, samples_to_seconds, seconds_to_samples

BIN_S = 0.1
MIN_DRIFT_SPAN_S = 10.0
"""Below this span the jitter of stamps would be read as drift."""
MAX_DRIFT = 1e-3
"""No crystal is off by more than a tenth of this; more is a fault of the stamps."""
MAX_TOLERANCE_S = 0.25


@dataclass(frozen=True, slots=True)
class ChunkPlacement:
    """Where a chunk goes: after `num_gap` zeros, without its first `num_overlap` samples.

    `starts_over` says that its stamp cannot belong to this timeline at all.
    """

    num_gap: int = 0
    num_overlap: int = 0
    starts_over: bool = False


class SampleClock:
    """Fits stamp = a + b * index over the last chunks of a stream at one sample rate.

    Samples are placed contiguously by count; stamps only tell where the timeline lies and
    whether something is missing. So neither the jitter of stamps nor the size of chunks moves a
    sample.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        *,
        fit_s: float = 30.0,
        gap_tolerance_s: float = 0.06,
        max_gap_s: float = 10.0,
        max_backstep_s: float = 1.0,
        first_stamp_ns: int | None = None,
    ) -> None:
        """`first_stamp_ns`: where index 0 is expected, if an earlier stream tells."""
        self.sample_rate_hz = sample_rate_hz
        self._gap_tolerance_s = gap_tolerance_s
        self._max_gap_s = max_gap_s
        self._max_backstep_s = max_backstep_s
        self._anchor_ns = first_stamp_ns
        self._last_stamp_ns: int | None = None
        self.num_samples = 0
        """Index one past the newest sample, gaps included."""
        # One (seconds since the anchor, residual) point per 100 ms bounds memory and work when
        # chunks are tiny; residuals from the nominal line keep the sums small and precise. The
        # last `_max_points` rows are the fit's; twice as many, so that they seldom have to move.
        self._max_points = max(2, round(fit_s / BIN_S))
        self._points = np.empty((2 * self._max_points, 2))
        self._num_points = 0
        self._bin = -1
        self._bin_sums = (0, 0.0, 0.0)
        self._offset_s = 0.0
        self._drift = 0.0

    @property
    def drift_ppm(self) -> float:
        """How much slower the samples run than the stamps, in parts per million."""
        return self._drift * 1e6

    def stamp_ns_at(self, index: int | float) -> int:
        """Fitted capture time of a sample index."""
        assert self._anchor_ns is not None, "no chunk was placed yet"
        nominal_s = samples_to_seconds(index, self.sample_rate_hz)
        fitted_s = self._offset_s + self._drift * nominal_s
        whole = int(np.floor(index))
        part_s = samples_to_seconds(index - whole, self.sample_rate_hz)
        nominal_ns = samples_to_ns(whole, self.sample_rate_hz)
        return self._anchor_ns + nominal_ns + round((part_s + fitted_s) * NS_PER_S)

    def index_at(self, stamp_ns: int) -> float:
        """Inverse of `stamp_ns_at`; fractional, negative before the first sample."""
        assert self._anchor_ns is not None, "no chunk was placed yet"
        since_anchor_s = (stamp_ns - self._anchor_ns) / NS_PER_S
        return (since_anchor_s - self._offset_s) / (1.0 + self._drift) * self.sample_rate_hz

    def place(self, stamp_ns: int, num_samples: int) -> ChunkPlacement:
        """Decide where a chunk goes and advance past it (unless it `starts_over`)."""
        if self._anchor_ns is None:
            self._anchor_ns = stamp_ns
        if stamp_ns == self._last_stamp_ns:
            # A stamp that stands still says nothing; the samples are as good as ever.
            self.num_samples += num_samples
            return ChunkPlacement()
        deviation_s = (stamp_ns - self.stamp_ns_at(self.num_samples)) / NS_PER_S
        chunk_s = samples_to_seconds(num_samples, self.sample_rate_hz)
        tolerance_s = min(max(self._gap_tolerance_s, 1.5 * chunk_s), MAX_TOLERANCE_S)
        if deviation_s > self._max_gap_s or deviation_s < -self._max_backstep_s:
            return ChunkPlacement(starts_over=True)
        self._last_stamp_ns = stamp_ns
        num_gap = num_overlap = 0
        if deviation_s > tolerance_s:
            num_gap = seconds_to_samples(deviation_s, self.sample_rate_hz)
        elif deviation_s < -tolerance_s:
            num_overlap = min(num_samples, seconds_to_samples(-deviation_s, self.sample_rate_hz))
        if num_overlap < num_samples:
            first_stamp_ns = stamp_ns + samples_to_ns(num_overlap, self.sample_rate_hz)
            self._observe(self.num_samples + num_gap, first_stamp_ns)
        self.num_samples += num_gap + num_samples - num_overlap
        return ChunkPlacement(num_gap, num_overlap)

    def _observe(self, index: int, stamp_ns: int) -> None:
        assert self._anchor_ns is not None
        since_anchor_ns = stamp_ns - self._anchor_ns
        residual_s = (since_anchor_ns - samples_to_ns(index, self.sample_rate_hz)) / NS_PER_S
        nominal_s = samples_to_seconds(index, self.sample_rate_hz)
        bin_index = int(nominal_s / BIN_S)
        if bin_index != self._bin:
            self._close_bin()
            self._bin = bin_index
        count, sum_nominal_s, sum_residual_s = self._bin_sums
        self._bin_sums = (count + 1, sum_nominal_s + nominal_s, sum_residual_s + residual_s)

    def _close_bin(self) -> None:
        count, sum_nominal_s, sum_residual_s = self._bin_sums
        self._bin_sums = (0, 0.0, 0.0)
        if count == 0:
            return
        if self._num_points == len(self._points):
            self._points[: self._max_points] = self._points[self._max_points :]
            self._num_points = self._max_points
        self._points[self._num_points] = sum_nominal_s / count, sum_residual_s / count
        self._num_points += 1
        first = max(0, self._num_points - self._max_points)
        nominal_s, residual_s = self._points[first : self._num_points].T
        centre_s = float(nominal_s.mean())
        spread = nominal_s - centre_s
        self._drift = 0.0
        if nominal_s[-1] - nominal_s[0] >= MIN_DRIFT_SPAN_S:
            slope = float(spread @ residual_s / (spread @ spread))
            self._drift = float(np.clip(slope, -MAX_DRIFT, MAX_DRIFT))
        self._offset_s = float(residual_s.mean()) - self._drift * centre_s
