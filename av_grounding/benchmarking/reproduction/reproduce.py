"""Reproduces the papers' findings in kind on the synthetic world: all runs, then one page.

Every run is trained, measured and kept in its own folder, so that a call that was stopped goes
on where it stopped, and a longer list only adds what is missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from av_grounding.benchmarking.reproduction.measuring import PROTOCOL, measure
from av_grounding.benchmarking.reproduction.page import write_page
from av_grounding.benchmarking.reproduction.runs import Budget, Run, list_runs
from av_grounding.files import write_json
from av_grounding.training.loop.run_folder import Progress
from av_grounding.training.runs import small_spec, train_recipe

RESULT_FILE = "result.json"
OnRun = Callable[[int, int, Run], None]


def reproduce(
    schedule: Budget,
    data: Path,
    out: Path,
    page: Path,
    progress: Progress,
    on_run: OnRun | None = None,
) -> Path:
    """Do what is missing of all runs, write `page` (Markdown, with its pictures beside it).

    `data` holds the synthetic banks. The page is written anew after every run, with what there
    is. Raises ValueError where a run was begun with other settings.
    """
    runs = list_runs(schedule)
    results: dict[str, dict[str, Any]] = {}
    for number, run in enumerate(runs):
        if on_run:
            on_run(number, len(runs), run)
        results[run.name] = do_run(run, schedule.num_samples, data, out, progress)
        write_page(page, results, schedule, out)
    return page


def do_run(
    run: Run, num_samples: int, data: Path, out: Path, progress: Progress
) -> dict[str, Any]:
    """The run's result, from its file where it has one for the same settings and samples."""
    folder = out / run.name
    result_file = folder / RESULT_FILE
    settings = run.config.to_json()
    if result_file.exists():
        result = json.loads(result_file.read_text(encoding="utf-8"))
        same = json.loads(json.dumps(settings)) == result["settings"]
        told = (result["num_samples"], result.get("protocol"))
        if same and told == (num_samples, PROTOCOL):
            return result
    started_s = time.monotonic()
    recipe, _ = train_recipe(run.config, data, folder, progress, pretext=pretext_folder(run, out))
    trained_s = time.monotonic() - started_s
    numbers = measure(
        recipe, small_spec(run.config, recipe.model), num_samples,
        lambda done, total: progress("measuring", done, total, {}),
    )  # fmt: skip
    result = {
        "group": run.group,
        "seed": run.seed,
        "num_samples": num_samples,
        "protocol": PROTOCOL,
        "heads": list(recipe.model.heads),
        "num_trained_steps": run.config.loop.steps,
        "seconds_of_this_call": round(trained_s, 1),
        **numbers,
        "settings": settings,
    }
    write_json(result_file, result)
    return result


def pretext_folder(run: Run, out: Path) -> Path:
    """The pretext that stands for pretrained backbones is one and the same for all runs."""
    return out / f"pretext-{run.config.pretext.steps}"
