"""Paper 004's findings in kind on the stages of the synthetic world: runs, numbers and page.

Every run begins with the same bundle, where the paper's begin with pretrained backbones, and has
LVS's contrast in it, without which nothing here would teach the sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from av_grounding.benchmarking.reproduction.kept import (
    MAP_PROTOCOL,
    Result,
    listed,
    values,
)
from av_grounding.benchmarking.reproduction.page import cell, verdict
from av_grounding.benchmarking.reproduction.runs import Budget, Run
from av_grounding.evaluation.benchmarks import open_benchmark
from av_grounding.evaluation.evaluating import evaluate_benchmark
from av_grounding.evaluation.prediction import AudioClip, GrounderPredictor, HeadGrids
from av_grounding.evaluation.scoring.rows import MODEL
from av_grounding.grounder import Grounder
from av_grounding.training.configuration import OasslRun
from av_grounding.training.loop.run_folder import Progress
from av_grounding.training.sources_run import run_oassl

OCA, ORI = "recipe.weight_oca=1.0", "recipe.weight_ori=0.1"
NO_OCA, NO_ORI = "recipe.weight_oca=0.0", "recipe.weight_ori=0.0"
COMPARED = (
    ("LVS", (NO_OCA, NO_ORI)),
    ("LVS + ORI", (NO_OCA, ORI)),
    ("OCA", (OCA, NO_ORI)),
    ("OCA + ORI, isolating", (OCA, ORI)),
    ("OCA + ORI, printed", (OCA, ORI, "recipe.pairs=printed")),
)
ABLATIONS = (
    ("OCA, τ 0.1", (OCA, NO_ORI, "recipe.false_negative_threshold=0.1")),
    ("OCA, τ 1", (OCA, NO_ORI, "recipe.false_negative_threshold=1.0")),
    ("OCA, labels alone", (OCA, NO_ORI, "data.captions=labels")),
    ("OCA, shuffled captions", (OCA, NO_ORI, "data.captions=shuffled")),
)
BENCHMARKS = {
    "lookalike": "synthetic-lookalike",
    "duet": "synthetic-lookalike-duet",
    "trio": "synthetic-trio",
}
COLUMNS = {
    "lookalike: peak": ("lookalike", "given", "peak"),
    "on its twin": ("lookalike", "given", "twin"),
    "with another's sound": ("lookalike", "swapped", "peak"),
    "duet: CIoU@0.3": ("duet", "given", "ciou@0.3"),
    "CAP": ("duet", "given", "cap"),
    "number right": ("duet", "inferred", "count_right"),
    "trio: CIoU@0.3": ("trio", "given", "ciou@0.3"),
    "inferred": ("trio", "inferred", "ciou@0.3"),
}


@dataclass(frozen=True)
class SourcesRun(Run):
    """One training of 004's table."""

    config: OasslRun  # type: ignore[assignment]


class SwappedClips:
    """A predictor that hears the clip of the sample before: who looks alone does as well so."""

    def __init__(self, predictor: GrounderPredictor) -> None:
        self._predictor, self._last = predictor, None
        self.is_told_sources = predictor.is_told_sources

    def describe(self) -> dict[str, Any]:
        return self._predictor.describe()

    def ground(self, image: Any, clip: AudioClip | None, *args: Any, **told: Any) -> HeadGrids:
        heard, self._last = self._last or clip, clip
        return self._predictor.ground(image, heard, *args, **told)


def list_runs(schedule: Budget, start: Path) -> list[SourcesRun]:
    """All runs; first one seed of everything."""
    shared = (f"start={start}",)
    return listed(SourcesRun, OasslRun(), COMPARED, ABLATIONS, schedule, shared)


def do_run(run: SourcesRun, num: int, data: Path, folder: Path, progress: Progress) -> Result:
    """Train in `folder`, resuming what is there, and measure."""
    bundle = run_oassl(run.config, data, folder, progress)
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    return measure(grounder, num, lambda done, total: progress("measuring", done, total, {}))


def measure(grounder: Grounder, num: int, progress: Callable[[int, int], None]) -> Result:
    """Benchmark -> how the number of sources was known -> its metrics, in [0, 1]."""
    given = GrounderPredictor(grounder, sources="given")
    ways = {
        "lookalike": {"given": given, "swapped": SwappedClips(given)},
        "duet": {"given": given, "inferred": GrounderPredictor(grounder)},
        "trio": {"given": given, "inferred": GrounderPredictor(grounder)},
    }
    found: Result = {}
    for name, predictors in ways.items():
        benchmark = open_benchmark(BENCHMARKS[name], num=num, seed=0)
        found[name] = {}
        for way, predictor in predictors.items():
            evaluation = evaluate_benchmark(
                benchmark, predictor, [MAP_PROTOCOL], num_workers=1, progress=progress
            )
            (table,) = evaluation.tables.values()
            found[name][way] = {k: v for k, v in table[MODEL].items() if isinstance(v, float)}
    return found


def lines(results: list[Result], schedule: Budget, total: int) -> Iterable[str]:
    yield "# The findings of paper 004 on the synthetic world"
    yield ""
    yield (
        f"{len(results)} of {total} runs: {schedule.steps} steps of {schedule.batch_size} stages "
        f"each, seeds {', '.join(map(str, schedule.seeds))}, for the ablations "
        f"{', '.join(map(str, schedule.ablation_seeds))}; {schedule.num_samples} test samples of "
        "each benchmark. Percent, mean ± standard deviation over seeds. A twin is of the class "
        "that sounds, and silent; the number of sources is given but where it says otherwise. "
        f"Maps are cut at the size of the truth (`{MAP_PROTOCOL.name}`). "
        "LVS's contrast, both ways, is part of every run. Written by `av-grounding reproduce "
        "--paper oassl`."
    )
    yield ""
    yield f"| | {' | '.join(COLUMNS)} |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for group, _ in (*COMPARED, *ABLATIONS):
        if values(results, group, *COLUMNS["lookalike: peak"]):
            cells = [cell(values(results, group, *COLUMNS[column])) for column in COLUMNS]
            yield f"| {group} | {' | '.join(cells)} |"
    yield ""
    peak, twin, duet, trio = (
        *("lookalike: peak", "on its twin", "duet: CIoU@0.3", "trio: CIoU@0.3"),
    )
    claims = [
        ("OCA above LVS, peak on what sounds (table 3)", "OCA", "LVS", peak),
        ("OCA below LVS, peak on the twin", "LVS", "OCA", twin),
    ]
    for pairs in ("isolating", "printed"):
        both = f"OCA + ORI, {pairs}"
        claims += [
            (f"{both}, above OCA on duets (table 3)", both, "OCA", duet),
            (f"{both}, above OCA on trios", both, "OCA", trio),
        ]
    claims += [
        (f"{name} loses peaks against OCA", "OCA", f"OCA, {name}", peak)
        for name in ("labels alone", "shuffled captions", "τ 0.1", "τ 1")
    ]
    for claim, higher, lower, column in claims:
        both = (values(results, group, *COLUMNS[column]) for group in (higher, lower))
        yield verdict(claim, *both)
    group = "OCA + ORI, isolating"
    heard = (values(results, group, *COLUMNS[column]) for column in (peak, "with another's sound"))
    yield verdict("another clip's sound lowers the peak", *heard)
    known = (values(results, group, *COLUMNS[column]) for column in (trio, "inferred"))
    yield verdict("trios: the number given above the number inferred", *known)
    yield ""
