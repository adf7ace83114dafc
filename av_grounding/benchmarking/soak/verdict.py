"""Flat or not: what a soak's measurements must show, and their plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from av_grounding.files import replacing

SETTLE_SHARE = 0.25
"""Of the run, at its beginning: caches fill and allocators find their size."""
MIN_SAMPLES = 12

# Name -> (unit, the most it may be).
BOUNDS: dict[str, tuple[str, float]] = {
    "memory growth": ("MB", 24.0),
    "more threads": ("", 1.0),
    "more file descriptors": ("", 3.0),
    "drift error": ("ppm", 30.0),
    "audio lag change": ("s of real time", 1.0),
    "p99 late / p99 early": ("times", 2.0),
    "CPU late / CPU early": ("times", 1.25),
    "audio overruns": ("", 0.0),
    "old heatmaps shown as new": ("", 0.0),
    "frames unaccounted for": ("", 0.0),
    "counters off": ("", 0.0),
    "subscribers that failed": ("", 0.0),
}
SLOWDOWNS = ("p99 late / p99 early", "CPU late / CPU early")


def judge(
    samples: Sequence[Mapping[str, float]],
    facts: Mapping[str, float],
    bounds: Mapping[str, tuple[str, float]] = BOUNDS,
) -> dict[str, dict[str, Any]]:
    """Name -> {value, bound, unit, is_met}. `facts` are the counts that no sample holds.

    Growth is that of a straight line through the settled part; counts and percentiles are those
    of its last third over its first, each by the median, so that a single moment decides nothing.
    Raises ValueError where there are too few samples to say anything.
    """
    settled = list(samples)[int(SETTLE_SHARE * len(samples)) :]
    if len(settled) < MIN_SAMPLES:
        raise ValueError(
            f"got {len(settled)} settled samples, expected {MIN_SAMPLES}: the run was too short"
        )
    time_s = column(settled, "time_s")
    slope = np.polyfit(time_s, column(settled, "memory_mb"), 1)[0]
    values = {
        "memory growth": float(slope * (time_s[-1] - time_s[0])),
        "more threads": change(settled, "num_threads"),
        "more file descriptors": change(settled, "num_descriptors"),
        "drift error": float(np.nanmedian(np.abs(column(settled, "drift_error_ppm")))),
        "audio lag change": abs(change(settled, "audio_lag_s")),
        "p99 late / p99 early": ratio(settled, "p99_ms"),
        "CPU late / CPU early": ratio(settled, "cpu_percent"),
        **facts,
    }
    return {
        name: {
            "value": values[name],
            "bound": bound,
            "unit": unit,
            # NaN, of something that was never measured, is no pass.
            "is_met": bool(values[name] <= bound),
        }
        for name, (unit, bound) in bounds.items()
    }


def column(samples: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    return np.array([sample[name] for sample in samples], float)


def thirds(samples: Sequence[Mapping[str, float]], name: str) -> tuple[float, float]:
    """Medians of the first and of the last third; NaN where nothing was measured."""
    third = len(samples) // 3
    values = column(samples, name)
    early, late = values[:third], values[-third:]
    early, late = early[np.isfinite(early)], late[np.isfinite(late)]
    if not (early.size and late.size):
        return float("nan"), float("nan")
    return float(np.median(early)), float(np.median(late))


def change(samples: Sequence[Mapping[str, float]], name: str) -> float:
    early, late = thirds(samples, name)
    return late - early


def ratio(samples: Sequence[Mapping[str, float]], name: str) -> float:
    early, late = thirds(samples, name)
    return late / early


PLOTS = (
    ("memory_mb", "resident memory, MB"),
    ("cpu_percent", "CPU, % of one core"),
    ("num_threads", "threads"),
    ("num_descriptors", "file descriptors"),
    ("p50_ms", "p50 of frame to heatmap, ms"),
    ("p99_ms", "p99 of frame to heatmap, ms"),
    ("drift_ppm", "drift of the microphone, ppm"),
    ("audio_lag_s", "audio behind the frames, s of real time"),
)


def draw(samples: Sequence[Mapping[str, float]], path: Path, title: str) -> None:
    """Everything over time in one picture, from zero on where that says something."""
    from matplotlib.figure import Figure

    figure = Figure((7.5, 2.0 * len(PLOTS)), layout="constrained")
    figure.suptitle(title)
    minutes = column(samples, "time_s") / 60.0
    settled_min = minutes[int(SETTLE_SHARE * len(samples))]
    for axes, (name, label) in zip(figure.subplots(len(PLOTS), sharex=True), PLOTS, strict=True):
        values = column(samples, name)
        axes.plot(minutes, values, color="#1f4e9e", linewidth=1.2)
        axes.axvspan(minutes[0], settled_min, color="#8a8a8a", alpha=0.15, linewidth=0)
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        axes.grid(alpha=0.3)
        if name not in ("drift_ppm", "audio_lag_s"):
            axes.set_ylim(0.0, 1.15 * float(np.nanmax(values)))
    axes.set_xlabel("minutes (grey: settling, not judged)")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)
