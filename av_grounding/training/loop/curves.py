"""Training curves of a run as one picture."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from av_grounding.files import replacing
from av_grounding.training.loop.metrics_log import NOT_TERMS

logger = logging.getLogger(__name__)


def read_log(path: Path) -> dict[str, list[float]]:
    """The columns of a log.jsonl; a step logged again after a resume replaces the first."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # a line torn by a crash
        rows[row["step"]] = row
    ordered = [rows[step] for step in sorted(rows)]
    return {key: [row[key] for row in ordered] for key in ordered[0]} if ordered else {}


def draw_curves(run: Path, target: Path) -> Path | None:
    """Every stage's loss terms over its steps; None, with a warning, without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        logger.warning("no training curves: pip install matplotlib to draw %s", target)
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    stages = [(path.parent.name, read_log(path)) for path in sorted(run.glob("*/log.jsonl"))]
    figure, axes = pyplot.subplots(
        1, max(len(stages), 1), figsize=(6 * max(len(stages), 1), 4), squeeze=False
    )
    for axis, (name, columns) in zip(axes[0], stages, strict=False):
        for key in sorted(columns.keys() - NOT_TERMS):
            if max(columns[key]) > 0.05:
                axis.plot(columns["step"], columns[key], label=key.replace("_", " "), linewidth=1)
        axis.set(title=name, xlabel="step", ylabel="weighted loss", ylim=(0, None))
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    with replacing(target) as partial:
        figure.savefig(partial, dpi=110)
    pyplot.close(figure)
    return target
