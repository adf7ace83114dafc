"""The matrix of a benchmark as a Markdown table and as one picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from av_grounding.evaluation.report.plots import check_plots
from av_grounding.files import replacing, write_json, write_text

FILES = ("matrix.json", "matrix.md", "matrix.png")
HEADINGS = (
    "backend", "precision", "image", "window, s", "encode_image", "encode_audio", "ground",
    "end to end", "times as fast as eager", "frames/s", "CPU %", "load, MB", "GPU, MB",
)  # fmt: skip
NUM_TEXT_COLUMNS = 4
STAGES = ("encode_image_ms", "encode_audio_ms", "ground_ms", "end_to_end_ms")
# Apart in lightness as well as in hue, for common colour vision deficiencies and for print.
COLOURS = ("#1f4e9e", "#d95f02", "#1b9e77", "#7a3b8f", "#8a8a8a", "#e6ab02")
MARKERS = "osD^vP"


def write_matrix(directory: str | Path, report: Mapping[str, Any]) -> None:
    """matrix.json, matrix.md and matrix.png in a directory, each whole or not at all."""
    check_plots()
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "matrix.json", report)
    write_text(directory / "matrix.md", "\n".join(markdown(report)) + "\n")
    with replacing(directory / "matrix.png") as partial:
        draw(report).savefig(partial, dpi=150)


def markdown(report: Mapping[str, Any]) -> Iterator[str]:
    """The table with what is needed to read it."""
    machine, model = report["machine"], report["model"]
    num = model["num_parameters"]
    size = "" if num is None else f", {num / 1e6:.1f} M parameters"
    yield f"{model['bundle']}{size}; {report['input']}."
    yield (
        f"{machine['processor']}, {machine['num_cores']} cores, load before the run "
        f"{machine['load_before']:.1f}."
        if machine["load_before"] is not None
        else f"{machine['processor']}, {machine['num_cores']} cores."
    )
    yield (
        "Milliseconds are p50 / p90 / p99. Ratios are medians against eager PyTorch in float32 in "
        "the same run, called in turns: image, audio, end to end. CPU is for 15 frames a second "
        "with their sound; 100 % is one core. Load is the memory that a backend added when it was "
        f"loaded; the process held {machine['rss_mb']:.0f} MB at the end, all backends together."
    )
    yield ""
    yield f"| {' | '.join(HEADINGS)} |"
    num_numbers = len(HEADINGS) - NUM_TEXT_COLUMNS
    yield "|" + " --- |" * NUM_TEXT_COLUMNS + " ---: |" * num_numbers
    for row in report["rows"]:
        yield f"| {' | '.join(_cells(row))} |"
    for row in report["not_run"]:
        place = [_or_all(row["image_size"]), _or_all(row["window_s"])]
        reason = row["reason"].replace("|", "\\|")
        cells = [row["backend"], row["precision"], *place, f"not run: {reason}"]
        yield f"| {' | '.join([*cells, *[''] * (num_numbers - 1)])} |"


def draw(report: Mapping[str, Any]) -> Any:
    """Latency against the window's length and against the image's size, a line per backend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    panels = (
        ("window_s", "encode_audio_ms", "window, s", "encode_audio"),
        ("image_size", "encode_image_ms", "short side of the image, px", "encode_image"),
    )
    for axis, (place, stage, label, title) in zip(axes, panels, strict=True):
        series = _series(report["rows"], place, stage)
        for number, (name, points) in enumerate(series.items()):
            at, middle, high = np.array(points).T
            axis.errorbar(
                at, middle, yerr=[np.zeros(len(at)), high - middle], capsize=3, label=name,
                color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
                markersize=5, linewidth=1.6, elinewidth=0.9,
            )  # fmt: skip
        axis.set_xticks(sorted({point[0] for points in series.values() for point in points}))
        axis.set(xlabel=label, title=title, ylabel="ms: median, and up to p90")
        axis.set_ylim(bottom=0)
        axis.margins(x=0.08)
        axis.tick_params(labelsize=8)
        axis.title.set_size(10)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    if report["rows"]:
        axes[0].legend(frameon=False, fontsize=8)
    machine = report["machine"]
    figure.suptitle(
        f"{report['model']['bundle']} on {machine['processor']}, {machine['num_cores']} cores",
        fontsize=10,
    )
    return figure


def _series(
    rows: Sequence[Mapping[str, Any]], place: str, stage: str
) -> dict[str, list[tuple[float, float, float]]]:
    """Per backend and precision: (place, p50, p90), once for each place, in order."""
    series: dict[str, dict[float, tuple[float, float, float]]] = {}
    for row in rows:
        of_name = series.setdefault(f"{row['backend']} {row['precision']}", {})
        of_name[row[place]] = (row[place], row[stage]["p50"], row[stage]["p90"])
    return {name: [of_place[at] for at in sorted(of_place)] for name, of_place in series.items()}


def _cells(row: Mapping[str, Any]) -> list[str]:
    ratio = row["ratio"]
    ratios = [ratio[name] for name in ("encode_image", "encode_audio", "end_to_end")]
    return [
        row["backend"],
        row["precision"],
        row["image"],
        f"{row['window_s']:g}",
        *(" / ".join(_ms(row[stage][name]) for name in ("p50", "p90", "p99")) for stage in STAGES),
        " / ".join("–" if value is None else f"{value:.2f}" for value in ratios),
        f"{row['frame_rate_hz']:.1f}",
        f"{row['cpu_percent']:.0f}",
        f"{row['load_mb']:.0f}",
        "–" if row["vram_mb"] is None else f"{row['vram_mb']:.0f}",
    ]


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _or_all(value: float | None) -> str:
    return "all" if value is None else f"{value:g}"
