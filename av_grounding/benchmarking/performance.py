"""Measures again what docs/performance.md states, and puts the numbers there.

`python -m av_grounding.benchmarking.performance` runs every command that the page names, each in a
process of its own, and replaces what stands between its marks; `--only NAME` does one of them.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from av_grounding.benchmarking.machine import NUM_CORES, processor_name
from av_grounding.benchmarking.matrix_report import markdown
from av_grounding.benchmarking.speed import TARGETS
from av_grounding.files import write_text

PAGE, OUT = Path("docs/performance.md"), Path("out/performance")


@dataclass(frozen=True)
class Section:
    """One command of the page; `lines` makes Markdown of its JSON `result`, None: of stdout.

    `before` are commands that it needs done.
    """

    name: str
    command: str
    result: str | None
    lines: Callable[[dict[str, Any]], Iterator[str]]
    before: tuple[str, ...] = ()
    page: Path = PAGE


def realtime(report: dict[str, Any]) -> Iterator[str]:
    yield "| measured | value | target | |"
    yield "| --- | ---: | ---: | --- |"
    for name, row in report["targets"].items():
        sign = "≥" if TARGETS[name][2] else "≤"
        value = "–" if row["value"] is None else f"{row['value']:.1f}"
        met = {True: "met", False: "missed", None: "not measured"}[row["met"]]
        yield f"| {name} | {value} | {sign} {row['bound']:g} | {met} |"
    yield ""
    load = report["machine"]["load_before"]
    yield f"{report['duration_s']:.0f} s; load before the run {load:.1f}."


def front(report: dict[str, Any]) -> Iterator[str]:
    yield f"| CPU ms for {report['window_s']:g} s by {report['hop_s']:g} s, one thread | |"
    yield "| --- | ---: |"
    names = {
        "whole": "whole window",
        "front": "of which the convolutional front",
        "front_kept": "the front with kept frames",
        "transformer": "the transformer",
    }
    for name, label in names.items():
        yield f"| {label} | {report['cpu_ms'][name]:.0f} |"
    yield f"| whole / with kept frames | {report['ratio']:.2f} |"
    yield f"| largest difference of the front's features | {report['max_difference']:.1e} |"


def clips(report: dict[str, Any]) -> Iterator[str]:
    sizes = list(report["cpu_ms_per_window"])
    yield f"| windows of {report['window_s']:g} s in a call | {' | '.join(sizes)} |"
    yield "| --- |" + " ---: |" * len(sizes)
    cells = " | ".join(f"{value:.1f}" for value in report["cpu_ms_per_window"].values())
    yield f"| CPU ms per window, one thread | {cells} |"
    yield ""
    yield f"Largest difference of a token from the window alone: {report['max_difference']:.0e}."


def windows(report: dict[str, Any]) -> Iterator[str]:
    sweep = report["sweep"]
    names = sweep["metrics"]
    yield f"| window, s | hop, s | {' | '.join(names)} |"
    yield "| ---: | ---: |" + " ---: |" * len(names)

    def cells(values: dict[str, float]) -> str:
        return " | ".join(f"{100 * values[name]:.1f}" for name in names)

    for point in sorted(sweep["points"], key=lambda one: (one["hop_s"], one["window_s"])):
        yield f"| {point['window_s']:g} | {point['hop_s']:g} | {cells(point['metrics'])} |"
    yield f"| whole clip | – | {cells(sweep['whole_clip'])} |"


def growth(report: dict[str, Any]) -> Iterator[str]:
    from av_grounding.benchmarking.growth import markdown as growth_markdown

    yield from growth_markdown(report)


EXPORTS = ("cpu-fp32", "cpu-bf16", "cpu-int8")
"""Backend and precision of the exports that the matrix compares, below out/performance/exports."""

SECTIONS = (
    Section("realtime", "av-grounding --quiet bench --duration 600", "bench.json", realtime),
    Section(
        "matrix",
        "av-grounding --quiet bench --matrix --image-sizes 96,160,224 --windows 0.64,1.28,2.56 "
        + " ".join(f"--exports {OUT}/exports/{name}" for name in EXPORTS),
        "matrix.json",
        markdown,
        tuple(
            "av-grounding --quiet export --backend {} --precision {} --out {}".format(
                *name.split("-"), OUT / "exports" / name
            )
            for name in EXPORTS
        ),
    ),
    Section("front", "python -m av_grounding.benchmarking.audio_front front", None, front),
    Section("clips", "python -m av_grounding.benchmarking.audio_front clips", None, clips),
    Section(
        "windows",
        "av-grounding --quiet evaluate synthetic-simultaneous --num 100 --streaming "
        "--window 0.64,0.96,1.28,1.92,2.56,3.84 --hop 0.16",
        "report.json",
        windows,
    ),
    Section(
        "growth",
        "python -m av_grounding.benchmarking.growth",
        None,
        growth,
        page=Path("docs/growth.md"),
    ),
)


def measure(section: Section, out: Path) -> list[str]:
    """Run a section's command and return its lines; CalledProcessError where it fails."""
    for command in section.before:
        subprocess.run(in_this_python(command), check=True, stdout=subprocess.DEVNULL)
    words = in_this_python(section.command)
    if section.result is not None:
        words += ["--out", str(out / section.name)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    text = done.stdout
    if section.result is not None:
        text = (out / section.name / section.result).read_text(encoding="utf-8")
    where = f"{processor_name()}, {NUM_CORES} cores."
    # The matrix tells its machine itself.
    told = [] if section.name == "matrix" else [where, ""]
    commands = [f"`{section.command}`"]
    if section.before:
        commands = ["```", *section.before, section.command, "```"]
    return [*commands, "", *told, *section.lines(json.loads(text))]


def in_this_python(command: str) -> list[str]:
    words = shlex.split(command)[1:]
    return [sys.executable, *(words if words[0] == "-m" else ["-m", "av_grounding", *words])]


def replaced(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with other lines between the marks of a section.

    Raises ValueError where the page lacks the marks.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    head, found, rest = page.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"no '{begin}' … '{end}' in the page: put both where the table goes")
    return "\n".join([head + begin, *lines, end + tail])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [section.name for section in SECTIONS]
    parser.add_argument("--only", choices=names, action="append", help="may be repeated")
    parser.add_argument("--page", type=Path, help="the section's own")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    for section in SECTIONS:
        if section.name in (args.only or names):
            print(section.command, flush=True)
            lines = measure(section, args.out)
            # Read only now: the page may have changed meanwhile.
            path = args.page or section.page
            write_text(path, replaced(path.read_text(encoding="utf-8"), section.name, lines))
            if section.name == "matrix":
                picture = args.out / section.name / "matrix.png"
                shutil.copyfile(picture, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
