"""The picture of the reproduction: every run's contrastive loss over its steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from av_grounding.files import replacing
from av_grounding.training.loop.curves import read_log


def draw(picture: Path, results: Mapping[str, Mapping[str, Any]], out: Path) -> bool:
    """The contrastive terms of all runs over their steps; False where nothing can be drawn."""
    logs = []
    for name, result in results.items():
        recipe = "sss" if result["group"].startswith("sss") else "denseav"
        path = out / name / recipe / "log.jsonl"
        if path.exists():
            logs.append((recipe, result["group"], read_log(path)))
    try:
        import matplotlib
    except ImportError:
        return False
    if not logs:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(13, 4.5))
    for axis, recipe in zip(axes, ("denseav", "sss"), strict=True):
        colours: dict[str, str] = {}
        for of_recipe, group, columns in logs:
            terms = [
                k for k in columns if k.startswith(("contrast", "correspondence", "disentang"))
            ]
            if of_recipe != recipe or not terms:
                continue
            mean = [
                sum(row) / len(terms) for row in zip(*(columns[k] for k in terms), strict=True)
            ]
            # Seeds of a group share its colour and one entry of the legend.
            label = None if group in colours else group
            colour = colours.setdefault(group, f"C{len(colours)}")
            axis.plot(columns["step"], mean, color=colour, label=label, linewidth=1)
        axis.set(title=recipe, xlabel="step", ylabel="mean InfoNCE", ylim=(0, None))
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=7)
    figure.tight_layout()
    with replacing(picture) as partial:
        figure.savefig(partial, dpi=110)
    pyplot.close(figure)
    return True
