"""What is kept of a table of runs: each run's result, and the page that is written of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from av_grounding.benchmarking.reproduction.page import NOTES
from av_grounding.benchmarking.reproduction.runs import Budget, Run
from av_grounding.files import write_json, write_text
from av_grounding.training.configuration import override

RESULT_FILE = "result.json"
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


def kept_result(run: Run, num: int, out: Path, make: Callable[[Path], Result]) -> Result:
    """The run's result: from its file where it has one for the same settings and number of
    samples, else what `make` finds in the run's folder, which is written then."""
    folder = out / run.name
    settings = json.loads(json.dumps(run.config.to_json()))
    if (folder / RESULT_FILE).exists():
        result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        if (result["settings"], result["num_samples"]) == (settings, num):
            return result
    result = {"group": run.group, "seed": run.seed, "num_samples": num, "settings": settings}
    result |= make(folder)
    write_json(folder / RESULT_FILE, result)
    return result


def write_kept_page(page: Path, lines: Iterable[str]) -> None:
    """Write the page anew; what people wrote below `NOTES` stays."""
    page.parent.mkdir(parents=True, exist_ok=True)
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    _, mark, notes = old.partition(NOTES)
    text = "\n".join(lines)
    write_text(page, f"{text}\n{mark}{notes}" if mark else text)
