"""report.md: the tables of a report, laid out as in papers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from av_grounding.evaluation.report.content import LABELS, cell, columns_of, row_label

MAX_PROBLEMS = 20


def to_markdown(report: Mapping[str, Any]) -> str:
    """The report without its samples, as GitHub-flavoured Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {report['benchmark']}"
    yield ""
    yield from facts(report)
    for name, one in report["protocols"].items():
        yield ""
        yield f"## Protocol `{name}`"
        yield ""
        yield definition(one["definition"])
        yield ""
        table = dict(one["table"])
        if "against" in report:
            second = report["against"]
            label = f"second: {second['model']['mode']}"
            table[label] = second["tables"][name]["model"]
        metrics = columns_of(table)
        yield from _table(
            ["Method", *(LABELS[metric] for metric in metrics)],
            [
                [row_label(row), *(cell(metric, values.get(metric)) for metric in metrics)]
                for row, values in table.items()
            ],
        )
    if "comparison" in report:
        yield from _comparison(report["comparison"])
    if "spread" in report:
        yield ""
        yield "## Spread: the same maps under every protocol"
        yield ""
        yield from _table(
            ["Metric", "lowest", "highest"],
            [
                [LABELS.get(metric, metric), _extreme(metric, of, min), _extreme(metric, of, max)]
                for metric, of in report["spread"].items()
            ],
        )
    if "sweep" in report:
        yield from _sweep(report["sweep"])
    yield from _problems(report["problems"])


def facts(report: Mapping[str, Any]) -> Iterator[str]:
    """What every report must say, one line each."""
    expected = report["num_expected"]
    published = "" if expected is None else f" of {expected} expected"
    yield f"- {report['citation']}" if report["citation"] else f"- task: {report['task']}"
    yield (
        f"- samples: {report['num_scored']} scored, {report['num_samples']} present{published}; "
        f"missing files: {report['num_missing_files']}"
    )
    yield (
        f"- protocol: {report['protocol']}; threshold: {report['threshold']}; "
        f"matching: {report['matching']}"
    )
    model = report["model"]
    way = ", ".join(
        f"{key} {model[key]}" for key in ("window_s", "hop_s", "frame_step_s") if key in model
    )
    yield f"- model: {model.get('bundle', '?')}; heard as: {model.get('mode', '?')} ({way})"
    if report["noise"]:
        noise = report["noise"]
        yield f"- noise: {noise['directory']} at {noise['snr_db']:g} dB"
    for key in ("notes", "note"):
        if report[key]:
            yield f"- {report[key]}"
    yield "- percent, except thresholds and dB; rows below the model's look at no sound"


def definition(of: Mapping[str, Any]) -> str:
    """A protocol in one sentence."""
    return (
        f"{of['source']}. Maps: {of['values']}, {of['upsampling']}, normalisation "
        f"{of['normalisation']}. Threshold: {of['threshold']}. AP: {of['average_precision']}. "
        f"Matching: {of['matching']}. Confidence: {of['confidence']}. Average over: "
        f"{of['average']}."
    )


def _comparison(comparison: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "## Compared: second minus first, 95 % paired bootstrap"
    for name, metrics in comparison.items():
        yield ""
        yield from _table(
            [f"`{name}`", "first", "second", "difference", "interval", "pairs"],
            [
                [
                    LABELS.get(metric, metric),
                    *(cell(metric, one[key]) for key in ("first", "second", "difference")),
                    f"{cell(metric, one['low'])} to {cell(metric, one['high'])}",
                    f"{one['num_pairs']} ({one['resampled']})",
                ]
                for metric, one in metrics.items()
            ],
        )


def _sweep(sweep: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "## The stream by window and hop"
    yield ""
    metrics = sweep["metrics"]
    whole = [cell(metric, sweep["whole_clip"][metric]) for metric in metrics]
    yield from _table(
        ["Window, s", "Hop, s", *(LABELS[metric] for metric in metrics)],
        [
            ["whole clip", "", *whole],
            *(
                [
                    f"{point['window_s']:g}",
                    f"{point['hop_s']:g}",
                    *(cell(metric, point["metrics"][metric]) for metric in metrics),
                ]
                for point in sweep["points"]
            ),
        ],
    )


def _problems(problems: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "## Problems"
    yield ""
    if not problems["list"]:
        yield "None."
        return
    yield from _table(
        ["Kind", "Number", "What was done"],
        [
            [kind, str(number), problems["policy"][kind]]
            for kind, number in problems["counts"].items()
        ],
    )
    yield ""
    for one in problems["list"][:MAX_PROBLEMS]:
        yield f"- {one['kind']}: {one['sample_id']}: {one['detail']}"
    rest = len(problems["list"]) - MAX_PROBLEMS
    if rest > 0:
        yield f"- … and {rest} more in report.json"


def _extreme(metric: str, of: Mapping[str, Any], choose: Any) -> str:
    name = choose(of["by_protocol"], key=lambda one: of["by_protocol"][one])
    return f"{cell(metric, of['by_protocol'][name])} ({name})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| --- |" + " ---: |" * (len(head) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
