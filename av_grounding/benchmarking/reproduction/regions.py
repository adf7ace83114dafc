"""Paper 002's findings in kind on the videos of the synthetic world: runs, numbers and page.

Every run begins with the frozen backbones of the same bundle, where the paper has CLIP and VGGish.
"MICL on mixtures" is the control that the paper's table 3 leaves out: it hears the mixtures that
MSA-MICL hears, and knows only each picture's own clip as positive, so that what the objective
adds is told apart from what the mixtures add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from av_grounding.benchmarking.reproduction.kept import Result, listed, values
from av_grounding.benchmarking.reproduction.page import cell, verdict
from av_grounding.benchmarking.reproduction.runs import Budget, Run
from av_grounding.evaluation.benchmarks import open_benchmark
from av_grounding.evaluation.evaluating import evaluate_benchmark
from av_grounding.evaluation.prediction import GrounderPredictor
from av_grounding.evaluation.protocols import PROTOCOLS
from av_grounding.evaluation.scoring.rows import MODEL, GroundingJob
from av_grounding.grounder import Grounder
from av_grounding.image import resize_heatmap
from av_grounding.training.configuration import SeacRun
from av_grounding.training.loop.run_folder import Progress
from av_grounding.training.regions_run import run_seac

GRID, CROPS = "model.proposals=grid", ("model.views=crops", "model.crop_px=64")
COMPARED = (
    ("MSA", ("recipe.mixing=msa",)),
    ("MICL", ("recipe.mixing=none",)),
    ("MICL on mixtures", ("recipe.mixing=naive",)),
    ("MSA, grid of 100", (GRID, "model.proposals_options.num_regions=100")),
)
ABLATIONS = (
    ("MSA, grid of 16", (GRID, "model.proposals_options.num_regions=16")),
    *(
        (f"MSA, {num} masks", (f"model.proposals_options.num_regions={num}",))
        for num in (4, 8, 32)
    ),
    *((f"MSA, {num} pictures", (f"num_scenes={num}",)) for num in (400, 800)),
    *(
        (f"MSA, {name} views", (*CROPS, f"model.local_weight={weight}"))
        for name, weight in (("local", 1.0), ("global", 0.0), ("both", 0.6))
    ),
)
BENCHMARKS = {"single": "synthetic-s4", "multi": "synthetic-ms3"}
PROTOCOL_NAMES = ("seac_0.5", "seac_0.9")
COLUMNS = {
    "single: mIoU at 0.5": ("single", "seac_0.5", "miou"),
    "mIoU at 0.9": ("single", "seac_0.9", "miou"),
    "F": ("single", "seac_0.5", "f"),
    "multi: mIoU at 0.5": ("multi", "seac_0.5", "miou"),
    "mIoU at 0.9 ": ("multi", "seac_0.9", "miou"),
    "F ": ("multi", "seac_0.5", "f"),
    "recall@N": ("single", "proposals", "recall"),
    "best IoU": ("single", "proposals", "best_iou"),
}
SINGLE, MULTI = "single: mIoU at 0.5", "multi: mIoU at 0.5"


@dataclass(frozen=True)
class RegionsRun(Run):
    """One training of 002's table."""

    config: SeacRun  # type: ignore[assignment]


def list_runs(schedule: Budget, start: Path) -> list[RegionsRun]:
    """All runs; first one seed of everything."""
    shared = (f"start={start}",)
    return listed(RegionsRun, SeacRun(), COMPARED, ABLATIONS, schedule, shared)


def do_run(run: RegionsRun, num: int, data: Path, folder: Path, progress: Progress) -> Result:
    """Train in `folder`, resuming what is there, and measure."""
    bundle = run_seac(run.config, data, folder, progress, regions_of(run.config, data))
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    return measure(grounder, num, lambda done, total: progress("measuring", done, total, {}))


def regions_of(config: SeacRun, data: Path) -> Path:
    """The bank that runs with the same regions and views of them share."""
    model = config.model
    kind = f"{model.proposals}-{model.proposals_options.get('num_regions', 'default')}"
    views = f"-crops-{model.local_weight:g}" if model.views == "crops" else ""
    return data / "regions-of" / f"{kind}{views}"


def measure(grounder: Grounder, num: int, progress: Callable[[int, int], None]) -> Result:
    """Benchmark -> protocol -> metric, in [0, 1]; for "single" also how good the regions are."""
    protocols = [PROTOCOLS[name] for name in PROTOCOL_NAMES]
    found: Result = {}
    for name, benchmark_name in BENCHMARKS.items():
        benchmark = open_benchmark(benchmark_name, num=num, seed=0)
        predictor = GrounderPredictor(grounder)
        evaluation = evaluate_benchmark(
            benchmark, predictor, protocols, num_workers=1, progress=progress
        )
        found[name] = {
            protocol: {key: float(value) for key, value in table[MODEL].items()}
            for protocol, table in evaluation.tables.items()
        }
        if name == "single":
            found[name]["proposals"] = recall_of(evaluation.jobs.values())
    return found


def recall_of(jobs: Iterable[GroundingJob]) -> dict[str, float]:
    """Of what sounds, the share that one region covers with an IoU of 0.5 or more (recall@N), and
    the mean IoU of the best region. Frames on which nothing was heard have no regions and count as
    missed."""
    best = []
    for job in jobs:
        truth = np.asarray(job.sample.targets[0].load_mask(), np.float32)
        regions = job.grids.regions.get("sound")
        if regions is None:
            best.append(0.0)
            continue
        masks = regions.masks
        thing = resize_heatmap(truth, *masks.shape[1:]) >= 0.5
        shared = (masks & thing).sum(axis=(1, 2))
        union = (masks | thing).sum(axis=(1, 2))
        best.append(float((shared / np.maximum(union, 1)).max()))
    return {"recall": float(np.mean(np.array(best) >= 0.5)), "best_iou": float(np.mean(best))}


def lines(results: list[Result], schedule: Budget, total: int) -> Iterable[str]:
    yield "# The findings of paper 002 on the synthetic world"
    yield ""
    yield (
        f"{len(results)} of {total} runs: {schedule.steps} steps of {schedule.batch_size} "
        f"pictures each, seeds {', '.join(map(str, schedule.seeds))}, for the ablations "
        f"{', '.join(map(str, schedule.ablation_seeds))}; {schedule.num_samples} test frames with "
        "one thing that sounds (single) and with two (multi). Percent, mean ± standard deviation "
        "over seeds. Maps are relative (002 eq. 4), at both thresholds that the paper may mean; F "
        "is AVSBench's. Regions are 16 classical masks and their dense features where a row says "
        "nothing else; recall@N is theirs, at an IoU of 0.5. Written by `av-grounding reproduce "
        "--paper seac`."
    )
    yield ""
    yield f"| | {' | '.join(name.strip() for name in COLUMNS)} |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for group, _ in (*COMPARED, *ABLATIONS):
        if values(results, group, *COLUMNS[SINGLE]):
            cells = [cell(values(results, group, *COLUMNS[column])) for column in COLUMNS]
            yield f"| {group} | {' | '.join(cells)} |"
    yield ""
    both = "MSA, both views"
    pairs = (
        ("MSA above MICL (table 3)", "MSA", "MICL"),
        ("the objective and not the mixtures: MSA above MICL on mixtures",
         "MSA", "MICL on mixtures"),
        ("16 masks above a grid of 16", "MSA", "MSA, grid of 16"),
        ("16 masks above a grid of 100", "MSA", "MSA, grid of 100"),
        ("8 masks above 4 (figure 5)", "MSA, 8 masks", "MSA, 4 masks"),
        ("16 masks above 8", "MSA", "MSA, 8 masks"),
        ("32 masks above 16", "MSA, 32 masks", "MSA"),
        ("local and global above local alone (figure 4)", both, "MSA, local views"),
        ("local and global above global alone", both, "MSA, global views"),
        ("800 pictures above 400 (table 4)", "MSA, 800 pictures", "MSA, 400 pictures"),
        ("1200 pictures above 800", "MSA", "MSA, 800 pictures"),
    )  # fmt: skip
    for claim, higher, lower in pairs:
        for place, column in (("single", SINGLE), ("multi", MULTI)):
            compared = (values(results, group, *COLUMNS[column]) for group in (higher, lower))
            yield verdict(f"{claim}, {place}", *compared)
    yield ""
