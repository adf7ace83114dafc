"""What a run did: counters and a bounded record of latencies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

MIN_LATENCY_S = 1e-4
GROWTH = 1.02
NUM_BINS = 700


class LatencyHistogram:
    """Durations in bins that grow by 2 %: percentiles to that precision in constant memory.

    Covers 0.1 ms to about 100 s; what lies outside counts in the first or last bin.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(NUM_BINS, np.int64)

    @property
    def count(self) -> int:
        """Durations recorded so far."""
        return int(self._counts.sum())

    def record(self, seconds: float) -> None:
        """Add one duration."""
        ratio = max(seconds, MIN_LATENCY_S) / MIN_LATENCY_S
        self._counts[min(NUM_BINS - 1, int(np.log(ratio) / np.log(GROWTH)))] += 1

    def percentile(self, percent: int | float) -> float:
        """Duration in seconds that `percent` of those recorded do not exceed; NaN without any."""
        if self.count == 0:
            return float("nan")
        rank = max(1, int(np.ceil(percent / 100.0 * self.count)))
        index = int(np.searchsorted(np.cumsum(self._counts), rank))
        return MIN_LATENCY_S * GROWTH ** (index + 0.5)

    def summary_ms(self) -> dict[str, float | None]:
        """p50, p90 and p99 in milliseconds; None without any."""
        if self.count == 0:
            return {"p50": None, "p90": None, "p99": None}
        return {f"p{percent}": 1e3 * self.percentile(percent) for percent in (50, 90, 99)}


@dataclass
class RunReport:
    """Counters of one run. Every captured frame is published or counted in one of the drops."""

    num_frames_captured: int = 0
    num_frames_published: int = 0
    num_frames_replaced: int = 0
    """Dropped because a newer frame came before the model was free."""
    num_frames_too_old: int = 0
    """Dropped because their turn came later than the greatest age allowed."""
    num_frames_unreadable: int = 0
    """Taken, but they could not be decoded."""
    num_frames_unwanted: int = 0
    """Not looked at, since nobody took answers then."""
    num_frames_unanswered: int = 0
    """Captured, but the run was stopped before their turn."""
    num_published_late: int = 0
    """Published, but older than the greatest age by the time the heatmaps were ready."""
    num_answered_again: int = 0
    """Further answers to frames, to newer sound; none of them counts as published."""
    num_audio_chunks: int = 0
    num_audio_overruns: int = 0
    """Chunks dropped because the model fell behind by more than the queue holds."""
    duration_s: float = 0.0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    """Arrival to heatmap, or in an offline run the time to compute one."""
    stream: dict[str, Any] = field(default_factory=dict)
    """`GroundingStream.stats` at the end."""

    @property
    def frame_rate_hz(self) -> float:
        """Heatmaps published per second of the run."""
        return self.num_frames_published / self.duration_s if self.duration_s > 0.0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For report.json: numbers, strings and None only."""
        values = {
            name: value for name, value in vars(self).items() if name not in ("latency", "stream")
        }
        return {
            **values,
            "frame_rate_hz": self.frame_rate_hz,
            "latency_ms": self.latency.summary_ms(),
            "stream": dict(self.stream),
        }
