"""The reports of `evaluate synthetic` and `evaluate everyday`: two heads, one mixture.

The structure is Extended IS3's (000 section 4.1): the sound of one object plus speech that names
another, over one image that holds both. Benchmarks ask, the harness answers; what is scored here
are the maps that a robot would publish: calibrated, gated, without a word timing unless a row
says so, resized bilinearly to the image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from av_grounding.evaluation.benchmark import HEADS
from av_grounding.evaluation.benchmarks.synthetic import SyntheticBenchmark
from av_grounding.evaluation.harness import predict_samples
from av_grounding.evaluation.metrics.boundary import best_boundary_f
from av_grounding.evaluation.metrics.pointing import gated_share
from av_grounding.evaluation.metrics.prompted import mean_iou
from av_grounding.evaluation.panels import Panel, write_panels
from av_grounding.evaluation.prediction import Predictor
from av_grounding.evaluation.report.content import finite
from av_grounding.evaluation.report.pictures import grounding_of
from av_grounding.evaluation.scoring.heads import (
    Asked,
    answers,
    baselines,
    ceilings,
    mean_leakage,
    published,
    relative,
    score_heads,
)
from av_grounding.evaluation.scoring.rows import GroundingJob
from av_grounding.files import write_json

RATIOS_DB = (0.0, -5.0)
NUM_PANELS = 12
GATE = 0.5
PROTOCOL = {
    "mixture": "sound of one object + speech naming another, -5 to 5 dB, noise at 20 to 40 dB",
    "clean": "the sound alone for the sound head, the speech alone for the speech head",
    "heatmap": "calibrated and gated, bilinear to the image, no word timing",
    "mAP": "pixel_continuous AP pooled over a class's images, mean over classes",
    "mAP_per_sample": "pixel_continuous AP of each image, mean over images",
    "miou": "oracle20_per_class",
    "miou_shared": "oracle20_shared",
    "peak": "largest value on the head's own object (expectation over ties; constant map: 0)",
    "leakage": "largest value on the other head's object, mean over both heads",
    "outlines": "boundary F, 2 px at 224, at the best of 20 thresholds for all maps; relative: "
    "each map from its least to its largest value, regions as 002 eq. 4",
    "gating": f"share of maps below {GATE} everywhere, mean over the rows of gating_cases",
}


def evaluate(
    predictor: Predictor,
    out_dir: str | Path,
    seed: int = 0,
    num: int = 500,
    progress: Callable[[int, int], None] | None = None,
    *,
    split: str = "test",
    world: str = "synthetic",
    vocabulary: Mapping[str, Sequence[str]] | None = None,
    stream: Predictor | None = None,
    cells: Predictor | None = None,
    voices: str = "own",
) -> dict[str, Any]:
    """Measure a model; write report.json and panels.png into `out_dir`, return the report.

    Sample i depends on `world`, `split` and `seed` alone, so two models see the same samples;
    every head that the model has is asked. `progress` is called with the number of samples done
    and in all. `vocabulary` names what each head knows, for a row without the rest; `stream` is
    the same model as the robot hears with it, for a row of the mixtures; `cells` is the same
    bundle's answer for cells where `predictor` answers for regions, for rows beside. `voices` is
    the engine that says the drawn world's phrases, "own" for those of its test split.
    Raises ValueError for `num` < 1, and for a model with neither head.
    """
    if num < 1:
        raise ValueError(f"got {num} samples, expected one or more: raise --num")
    facts = finite(predictor.describe())
    known = facts.get("heads", HEADS)
    heads = tuple(head for head in HEADS if head in known)
    if not heads:
        raise ValueError(f"got a model with {', '.join(known)}, expected a head sound or speech")
    started_s = time.perf_counter()

    def drawn(name: str, times: int = 1, ratio_db: float | None = None) -> SyntheticBenchmark:
        return SyntheticBenchmark(
            f"{world}-{name}", num=times * num, seed=seed, split=split, ratio_db=ratio_db,
            voices=voices,
        )  # fmt: skip

    benchmarks = {
        "mixture": drawn("simultaneous"),
        "clean": drawn("clean", 2),
        **{f"{ratio:g}": drawn("simultaneous", ratio_db=ratio) for ratio in RATIOS_DB},
        "dark": drawn("dark", 5),
    }
    if stream is not None:
        benchmarks["stream"] = benchmarks["mixture"]
    if cells is not None:
        benchmarks["cells"] = benchmarks["mixture"]
    others = {"stream": stream, "cells": cells}
    total, done = sum(map(len, benchmarks.values())), 0
    jobs: dict[str, list[GroundingJob]] = {}
    panels: list[Panel] = []
    for name, benchmark in benchmarks.items():
        told = progress and (lambda n, _, done=done: progress(done + n, total))
        own = jobs[name] = []
        asked_of = others.get(name) or predictor
        is_timed = name == "mixture"
        for job in predict_samples(benchmark, asked_of, [], None, told, times_words=is_timed):
            own.append(job)
            if name == "mixture" and len(panels) < NUM_PANELS:
                sounding = job.sample.targets[HEADS.index("sound")].class_name
                caption = (f"sounds: {sounding}", f'said: "{job.sample.text}"')
                panels.append(Panel(job.sample.load_image(), grounding_of(job), caption))
        done += len(benchmark)

    def scores(name: str) -> dict[str, dict[str, float]]:
        return score_heads(list(answers(jobs[name], heads)))[0]

    mixture = list(answers(jobs["mixture"], heads))
    summary, per_class = score_heads(mixture)
    leakage = mean_leakage(mixture)
    gating_cases = {
        case: gated_share(maps, GATE)
        for case, maps in sorted(_dark_maps(jobs["clean"], jobs["dark"], heads).items())
    }
    report = {
        "num_samples": num,
        "seed": seed,
        "split": split,
        "voices": voices,
        "protocol": {"benchmark": world, **PROTOCOL},
        "model": facts,
        "mixture": {
            **summary,
            "leakage": float(np.mean(list(leakage.values()))),
            "leakage_per_head": leakage,
        },
        "clean": scores("clean"),
        "ratios_db": {f"{ratio:g}": scores(f"{ratio:g}") for ratio in RATIOS_DB},
        "gating": float(np.mean(list(gating_cases.values()))),
        "gating_cases": gating_cases,
        "baselines": baselines(mixture, seed),
        "ceilings": ceilings(mixture),
        "per_class": per_class,
        "duration_s": round(time.perf_counter() - started_s, 1),
    }
    report["outlines"] = outlines_of(jobs["mixture"], heads)
    if cells is not None:
        report["cells"] = scores("cells")
        report["outlines_of_cells"] = outlines_of(jobs["cells"], heads)
    if stream is not None:
        report["streaming"] = scores("stream")
    if vocabulary is not None:
        report["in_vocabulary"] = _in_vocabulary(mixture, vocabulary)
    timed = [one for one in answers(jobs["mixture"], heads, timed=True) if one.head == "speech"]
    if timed:
        report["word_timing"] = {
            "without": summary["speech"]["mAP"],
            "oracle": score_heads(timed)[0]["speech"]["mAP"],
        }
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    write_panels(out_dir / "panels.png", panels)
    write_json(out_dir / "report.json", report)
    return report


def outlines_of(jobs: Sequence[GroundingJob], heads: Sequence[str]) -> dict[str, Any]:
    """The outlines of calibrated maps and of relative ones."""
    return {
        reading: outlines(list(answers(jobs, heads, read=read)))
        for reading, read in (("calibrated", published), ("relative", relative))
    }


def outlines(asked: Sequence[Asked]) -> dict[str, dict[str, float]]:
    """Head -> how well its maps' outlines follow the objects', and mean IoU of the same maps."""
    rows = {}
    for head in dict.fromkeys(one.head for one in asked):
        own = [one for one in asked if one.head == head]
        maps, masks = [one.heatmap for one in own], [one.mask for one in own]
        best = best_boundary_f(maps, masks)
        rows[head] = {
            "boundary_f": best.value,
            "threshold": best.threshold,
            "miou": mean_iou(maps, masks, [one.class_name for one in own]).mean,
        }
    return rows


def _dark_maps(
    clean: Iterable[GroundingJob], dark: Iterable[GroundingJob], heads: Sequence[str]
) -> dict[str, list[np.ndarray]]:
    """Case -> maps that should stay dark: of what is not in the picture, or of the other kind."""
    cases: dict[str, list[np.ndarray]] = {}
    for job in clean:
        (own,) = (target.head for target in job.sample.targets)
        for head in heads:
            if head != own:
                maps = cases.setdefault(f"{own}_alone.{head}", [])
                maps.append(published(job.grids, head))
    for job in dark:
        for target in job.sample.targets:
            if job.sample.presence != "sounding" and target.head in heads:
                maps = cases.setdefault(f"{job.sample.group}.{target.head}", [])
                maps.append(published(job.grids, target.head))
    return cases


def _in_vocabulary(
    asked: Iterable[Asked], vocabulary: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Head -> metrics over what it knows, with the number of samples and of classes."""
    known = [one for one in asked if one.class_name in vocabulary.get(one.head, ())]
    scores, per_class = score_heads(known)
    return {
        head: {
            "num": sum(one.head == head for one in known),
            "num_classes": len(per_class[head]),
            **of_head,
        }
        for head, of_head in scores.items()
    }
