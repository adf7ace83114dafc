"""Writes report.json, report.md and report.html, each whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from av_grounding.evaluation.harness import Evaluation
from av_grounding.evaluation.report.markdown import to_markdown
from av_grounding.evaluation.report.page import to_html
from av_grounding.evaluation.report.pictures import draw
from av_grounding.evaluation.report.plots import draw_plots
from av_grounding.files import write_json, write_text

FILES = ("report.json", "report.md", "report.html")


def write_report(out_dir: str | Path, report: Mapping[str, Any], evaluation: Evaluation) -> None:
    """The numbers first, so that a page that cannot be drawn costs none of them."""
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    write_json(out_dir / "report.json", dict(report))
    write_text(out_dir / "report.md", to_markdown(report))
    page = to_html(report, list(draw_plots(report)), draw(evaluation))
    write_text(out_dir / "report.html", page)
