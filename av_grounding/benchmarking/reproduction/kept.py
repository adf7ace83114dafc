"""What is kept of a table of runs: each run's result, and the page that is written of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from av_grounding.benchmarking.reproduction.page import NOTES
from av_grounding.benchmarking.reproduction.runs import Budget, Run
from av_grounding.evaluation.protocols import PROTOCOLS
from av_grounding.files import write_json, write_text
from av_grounding.training.loop.run_folder import Progress
from av_grounding.training.settings import override

RESULT_FILE = "result.json"
MAP_PROTOCOL = PROTOCOLS["top_area"]
"""Masks as large as the truth: above a map's median lies half the picture, whose IoU with a thing
as small as those of the synthetic world is under any threshold."""
Result = dict[str, Any]
Rows = tuple[tuple[str, tuple[str, ...]], ...]
"""Group -> settings beside those that all runs share."""


def listed(kind: type[Run], config: Any, compared: Rows, ablations: Rows, schedule: Budget,
           shared: tuple[str, ...] = ()) -> list[Any]:  # fmt: skip
    """All runs of a table; first one seed of everything, so that it is whole early."""
    runs = []
    for rows, seeds in ((compared, schedule.seeds), (ablations, schedule.ablation_seeds)):
        for place, seed in enumerate(seeds):
            for group, settings in rows:
                budget = (
                    f"loop.steps={schedule.steps}",
                    f"loop.seed={seed}",
                    f"data.batch_size={schedule.batch_size}",
                )
                own = override(config, [*shared, *budget, *settings, *schedule.settings])
                runs.append((place, kind(group, seed, own)))
    return [run for _, run in sorted(runs, key=lambda placed: placed[0])]


def do_runs(
    runs: Sequence[Run],
    num: int,
    out: Path,
    page: Path,
    make: Callable[[Any, Path], Result],
    lines: Callable[[list[Result]], Iterable[str]],
    on_run: Callable[[int, int, Run], None] | None = None,
) -> Path:
    """Do what is missing of all runs and write `page`, anew after every run.

    A run's result is what `make(run, folder)` finds, or what lies in its folder from the same
    settings and number of samples.
    """
    results: list[Result] = []
    for number, run in enumerate(runs):
        if on_run:
            on_run(number, len(runs), run)
        folder = out / run.name
        told = {
            "group": run.group,
            "seed": run.seed,
            "num_samples": num,
            "settings": run.config.to_json(),
        }
        results.append(kept(folder / RESULT_FILE, told, partial(make, run, folder)))
        write_kept_page(page, lines(results))
    return page


@runtime_checkable
class Table(Protocol):
    """A paper's table of runs that all begin with one bundle: the module of its name."""

    def list_runs(self, schedule: Budget, start: Path) -> Sequence[Run]:
        """All runs; first one seed of everything."""
        ...

    def do_run(self, run: Any, num: int, data: Path, folder: Path, progress: Progress) -> Result:
        """Train in `folder`, resuming what is there, and measure."""
        ...

    def lines(self, results: list[Result], schedule: Budget, total: int) -> Iterable[str]:
        """The page."""
        ...


def reproduce_from(
    table: Table,
    schedule: Budget,
    start: Path,
    data: Path,
    out: Path,
    page: Path,
    progress: Progress,
    on_run: Callable[[int, int, Run], None] | None = None,
) -> Path:
    """Do what is missing of a table's runs and write `page`, anew after every run.

    `data` holds the banks that the runs draw from, and gets those that they share. ValueError
    where a run was begun with other settings.
    """
    runs = table.list_runs(schedule, start)
    num = schedule.num_samples
    return do_runs(
        runs, num, out, page,
        lambda run, folder: table.do_run(run, num, data, folder, progress),
        lambda results: table.lines(results, schedule, len(runs)),
        on_run,
    )  # fmt: skip


def kept(file: Path, told: dict[str, Any], make: Callable[[], Result]) -> Result:
    """What the file holds if it was made from what is `told`, else what `make` finds, which is
    written there with what was told."""
    told = json.loads(json.dumps(told))
    if file.exists():
        known = json.loads(file.read_text(encoding="utf-8"))
        if all(known.get(name) == value for name, value in told.items()):
            return known
    result = told | make()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, result)
    return result


def values(results: list[Result], group: str, name: str, way: str, metric: str) -> list[float]:
    """One number of all seeds of a group, in percent."""
    return [100.0 * one[name][way][metric] for one in results if one["group"] == group]


def write_kept_page(page: Path, lines: Iterable[str]) -> None:
    """Write the page anew; what people wrote below `NOTES` stays."""
    page.parent.mkdir(parents=True, exist_ok=True)
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    _, mark, notes = old.partition(NOTES)
    text = "\n".join(lines)
    write_text(page, f"{text}\n{mark}{notes}" if mark else text)
