"""The plots of a report as SVG text, readable on a narrow screen."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from av_grounding.evaluation.metrics.localisation import AUC_THRESHOLDS
from av_grounding.evaluation.metrics.ranking import RECALL_GRID
from av_grounding.evaluation.report.content import HEADLINE, LABELS, row_label

# Apart in lightness as well as in hue, for common colour vision deficiencies and for print.
COLOURS = {
    "model": "#1f4e9e",
    "ceiling": "#8a8a8a",
    "centred_disc": "#d95f02",
    "whole_image": "#e6ab02",
}
HEAD_COLOURS = {"sound": "#c25700", "speech": "#1f4e9e"}
# Their protocols pool pixels; a single sample is judged at the calibrated 0.5.
POOLED = ("prompted", "simultaneous")
SIZE_IN = (4.6, 3.1)
REMEDY = "plots need matplotlib: pip install 'av_grounding[evaluate]'"


def check_plots() -> None:
    """ImportError with its remedy, before the long work and not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(REMEDY) from error


def draw_plots(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(title, SVG) of every plot that the report has numbers for."""
    name = report["protocol"]
    if report["precision_recall"]:
        yield "Precision and recall of pixels", _precision_recall(report["precision_recall"])
    if report["success_curves"]:
        yield (
            f"Share of samples with at least this IoU ({name})",
            _success(report["success_curves"][name]),
        )
    if report["size_bins"]:
        threshold = "calibrated 0.5" if report["task"] in POOLED else name
        yield f"By size of the source ({threshold})", _sizes(report["size_bins"][name])
    if "spread" in report:
        for metric in HEADLINE.get(report["task"], ()):
            if metric in report["spread"]:
                yield f"{LABELS[metric]} by protocol", _spread(report["spread"][metric])
    if report.get("sweep"):
        yield from _sweeps(report["sweep"])


def _precision_recall(curves: Mapping[str, Any]) -> str:
    figure, axes = _figure()
    for head, precision in curves.items():
        axes.plot(RECALL_GRID, precision, color=HEAD_COLOURS.get(head, "#1f4e9e"), label=head)
    _percent(axes, "recall", "precision")
    axes.legend(frameon=False)
    return _svg(figure)


def _success(curves: Mapping[str, Any]) -> str:
    figure, axes = _figure()
    for row, rates in curves.items():
        axes.plot(
            AUC_THRESHOLDS,
            rates,
            color=COLOURS[row],
            label=row_label(row),
            linestyle="-" if row == "model" else "--",
        )
    axes.axvline(0.5, color="#cccccc", linewidth=0.8)
    _percent(axes, "IoU", "samples")
    axes.legend(frameon=False)
    return _svg(figure)


def _sizes(bins: Mapping[str, Any]) -> str:
    figure, axes = _figure()
    names = [name for name in ("small", "medium", "large", "huge") if name in bins]
    place = np.arange(len(names))
    for offset, (metric, colour) in enumerate((("ciou@0.5", "#1f4e9e"), ("mean_iou", "#9ec1ea"))):
        values = [bins[name][metric] for name in names]
        axes.bar(place + 0.4 * offset - 0.2, values, 0.38, color=colour, label=LABELS[metric])
    axes.set_xticks(place, [f"{name}\n{bins[name]['num']}" for name in names])
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(_formatter())
    axes.legend(frameon=False)
    return _svg(figure)


def _spread(of: Mapping[str, Any]) -> str:
    names = list(of["by_protocol"])[::-1]
    figure, axes = _figure(height_in=0.6 + 0.3 * len(names))
    values = [of["by_protocol"][name] for name in names]
    axes.barh(names, values, color="#1f4e9e")
    for place, value in enumerate(values):
        axes.text(value + 0.01, place, f"{100 * value:.1f}", va="center", fontsize=8)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([])
    return _svg(figure)


def _sweeps(sweep: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A line for each hop over the window, with the whole clip as the level to reach."""
    for metric in sweep["metrics"]:
        figure, axes = _figure()
        hops = sorted({point["hop_s"] for point in sweep["points"]})
        for number, hop_s in enumerate(hops):
            own = sorted(
                (point for point in sweep["points"] if point["hop_s"] == hop_s),
                key=lambda point: point["window_s"],
            )
            axes.plot(
                [point["window_s"] for point in own],
                [point["metrics"].get(metric) for point in own],
                marker="o",
                color=list(COLOURS.values())[number % 4],
                label=f"hop {hop_s:g} s",
            )
        axes.axhline(sweep["whole_clip"][metric], color="#333333", linestyle=":", linewidth=1)
        axes.set_xlabel("window, s (dotted: the whole clip)")
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(_formatter())
        axes.legend(frameon=False)
        yield f"{LABELS[metric]} of the stream", _svg(figure)


def _figure(height_in: float = SIZE_IN[1]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE_IN[0], height_in), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes


def _percent(axes: Any, x: str, y: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x, ylabel=y)
    axes.yaxis.set_major_formatter(_formatter())


def _formatter() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0, decimals=0)


def _svg(figure: Any) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    # Text stays text: sharp, small, and readable by a screen reader; ids do not vary.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "av-grounding"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]
