"""report.html: one file with tables, plots and pictures, readable on a phone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from av_grounding.evaluation.report.content import LABELS, cell, columns_of, row_label
from av_grounding.evaluation.report.markdown import definition, facts
from av_grounding.evaluation.report.pictures import AnswerPicture

MAX_PROBLEMS = 200
STYLE = """
:root { color-scheme: light; font: 16px/1.45 system-ui, sans-serif; color: #1b1b1b; }
body { margin: 0 auto; max-width: 72rem; padding: 0 1rem 3rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
tr.model td { font-weight: 600; }
p.small, li, figcaption { font-size: .85rem; color: #444; overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
  gap: 1rem; }
.plots svg { width: 100%; height: auto; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr));
  gap: .6rem; }
figure { margin: 0; } figure img { width: 100%; display: block; border-radius: 4px; }
details summary { cursor: pointer; padding: .4rem 0; }
"""


def to_html(
    report: Mapping[str, Any],
    plots: Sequence[tuple[str, str]],
    pictures: Mapping[str, Sequence[AnswerPicture]],
) -> str:
    """The whole page; it refers to nothing outside itself."""
    return "\n".join(_lines(report, plots, pictures)) + "\n"


def _lines(
    report: Mapping[str, Any],
    plots: Sequence[tuple[str, str]],
    pictures: Mapping[str, Sequence[AnswerPicture]],
) -> Iterator[str]:
    title = escape(f"{report['benchmark']} under {report['protocol']}")
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>{title}</h1><ul>"
    for line in facts(report):
        yield f"<li>{escape(line.removeprefix('- '))}</li>"
    yield "</ul>"
    for name, one in report["protocols"].items():
        is_first = name == report["protocol"]
        yield f"<details{' open' if is_first else ''}><summary><b>{escape(name)}</b></summary>"
        yield f'<p class="small">{escape(definition(one["definition"]))}</p>'
        table = dict(one["table"])
        if "against" in report:
            second = report["against"]
            table[f"second: {second['model']['mode']}"] = second["tables"][name]["model"]
        yield from _table(table)
        yield "</details>"
    if "comparison" in report:
        yield from _comparison(report)
    if plots:
        yield '<h2>Curves</h2><div class="plots">'
        for caption, svg in plots:
            yield f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        yield "</div>"
    for name, own in pictures.items():
        yield f"<h2>The {len(own)} {name}</h2>"
        yield (
            '<p class="small">Amber: sound head, blue: speech head. White outline: what sounds, '
            "green outline: what is named.</p>"
        )
        yield '<div class="pictures">'
        for picture in own:
            text = escape(picture.caption)
            yield (
                f'<figure><img loading="lazy" alt="{text}" src="{picture.url}">'
                f"<figcaption>{text}</figcaption></figure>"
            )
        yield "</div>"
    yield from _classes(report)
    yield from _problems(report["problems"])
    yield "</body></html>"


def _table(table: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    metrics = columns_of(table)
    yield '<div class="wide"><table><tr><th></th>'
    yield "".join(f"<th>{escape(LABELS[metric])}</th>" for metric in metrics) + "</tr>"
    for row, values in table.items():
        kind = ' class="model"' if row == "model" else ""
        cells = "".join(f"<td>{cell(metric, values.get(metric))}</td>" for metric in metrics)
        yield f"<tr{kind}><td>{escape(row_label(row))}</td>{cells}</tr>"
    yield "</table></div>"


def _comparison(report: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Compared: second minus first, 95 % paired bootstrap</h2>"
    yield f'<p class="small">second: {escape(str(report["against"]["model"].get("bundle")))}</p>'
    for name, metrics in report["comparison"].items():
        yield '<div class="wide"><table><tr>'
        heads = (name, "first", "second", "difference", "from", "to", "pairs")
        yield "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"
        for metric, one in metrics.items():
            cells = "".join(
                f"<td>{cell(metric, one[key])}</td>"
                for key in ("first", "second", "difference", "low", "high")
            )
            label = escape(LABELS.get(metric, metric))
            pairs = f"{one['num_pairs']} ({one['resampled']})"
            yield f"<tr><td>{label}</td>{cells}<td>{pairs}</td></tr>"
        yield "</table></div>"


def _classes(report: Mapping[str, Any]) -> Iterator[str]:
    per_class = (report["per_class"] or {}).get(report["protocol"])
    if not per_class:
        return
    keys = sorted({key for metrics in per_class.values() for key in metrics})
    yield f"<h2>Classes</h2><details><summary>{len(per_class)} classes</summary>"
    yield '<div class="wide"><table><tr><th></th>'
    yield "".join(f"<th>{escape(key.replace('_', ' '))}</th>" for key in keys) + "</tr>"
    for name, metrics in per_class.items():
        cells = "".join(f"<td>{cell(key, metrics.get(key))}</td>" for key in keys)
        yield f"<tr><td>{escape(name)}</td>{cells}</tr>"
    yield "</table></div></details>"


def _problems(problems: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Problems</h2>"
    if not problems["list"]:
        yield "<p>None.</p>"
        return
    yield "<ul>"
    for kind, number in problems["counts"].items():
        yield f"<li><b>{number}</b> {escape(kind)}: {escape(problems['policy'][kind])}</li>"
    yield "</ul><details><summary>List</summary><ul>"
    for one in problems["list"][:MAX_PROBLEMS]:
        yield f"<li>{escape(': '.join((one['kind'], one['sample_id'], one['detail'])))}</li>"
    yield "</ul></details>"
