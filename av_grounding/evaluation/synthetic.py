"""The report of `evaluate synthetic`: simultaneous grounding in the synthetic world.

The structure is Extended IS3's (000 section 4.1): the sound of one object plus speech that names
another, over one image that holds both. Benchmarks ask, the harness answers; what is scored here
are the maps that a robot would publish: calibrated, gated, without a word timing unless a row
says so, resized bilinearly to the image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from av_grounding.evaluation.benchmark import HEADS
from av_grounding.evaluation.benchmarks.synthetic import SyntheticBenchmark
from av_grounding.evaluation.harness import predict_samples
from av_grounding.evaluation.metrics.maps import centred_disc
from av_grounding.evaluation.metrics.pointing import gated_share, peak_hit, peak_leak
from av_grounding.evaluation.metrics.prompted import mean_iou, pooled_average_precision
from av_grounding.evaluation.metrics.ranking import average_precision
from av_grounding.evaluation.panels import Panel, write_panels
from av_grounding.evaluation.prediction import HeadGrids, Predictor
from av_grounding.evaluation.report.content import finite
from av_grounding.evaluation.report.pictures import grounding_of
from av_grounding.evaluation.scoring.rows import GroundingJob, sigmoid
from av_grounding.files import write_json
from av_grounding.image import resize_heatmap

RATIOS_DB = (0.0, -5.0)
NUM_PANELS = 12
GATE = 0.5
PROTOCOL = {
    "benchmark": "synthetic",
    "mixture": "sound of one object + speech naming another, -5 to 5 dB, noise at 20 to 40 dB",
    "clean": "the sound alone for the sound head, the speech alone for the speech head",
    "heatmap": "calibrated and gated, bilinear to the image, no word timing",
    "mAP": "pixel_continuous AP pooled over a class's images, mean over classes",
    "mAP_per_sample": "pixel_continuous AP of each image, mean over images",
    "miou": "oracle20_per_class",
    "miou_shared": "oracle20_shared",
    "peak": "largest value on the head's own object (expectation over ties; constant map: 0)",
    "leakage": "largest value on the other head's object, mean over both heads",
    "gating": f"share of maps below {GATE} everywhere, mean over the rows of gating_cases",
}


class Asked(NamedTuple):
    """What one head answered to one sample, at the truth's size, and the truth."""

    head: str
    class_name: str
    heatmap: Float32[np.ndarray, "H W"]
    mask: Bool[np.ndarray, "H W"]
    others: list[Bool[np.ndarray, "H W"]]
    """What other heads should find in the same sample."""


def evaluate(
    predictor: Predictor,
    out_dir: str | Path,
    seed: int = 0,
    num: int = 500,
    progress: Callable[[int, int], None] | None = None,
    *,
    split: str = "test",
) -> dict[str, Any]:
    """Measure a model; write report.json and panels.png into `out_dir`, return the report.

    Sample i depends on `split` and `seed` alone, so two models see the same samples; every head
    that the model has is asked. `progress` is called with the number of samples done and in all.
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
    benchmarks = {
        "mixture": SyntheticBenchmark("synthetic-simultaneous", num=num, seed=seed, split=split),
        "clean": SyntheticBenchmark("synthetic-clean", num=2 * num, seed=seed, split=split),
        **{
            f"{ratio:g}": SyntheticBenchmark(
                "synthetic-simultaneous", num=num, seed=seed, split=split, ratio_db=ratio
            )
            for ratio in RATIOS_DB
        },
        "dark": SyntheticBenchmark("synthetic-dark", num=5 * num, seed=seed, split=split),
    }
    total, done = sum(map(len, benchmarks.values())), 0
    jobs: dict[str, list[GroundingJob]] = {}
    panels: list[Panel] = []
    for name, benchmark in benchmarks.items():
        told = progress and (lambda n, _, done=done: progress(done + n, total))
        own = jobs[name] = []
        is_timed = name == "mixture"
        for job in predict_samples(benchmark, predictor, [], None, told, times_words=is_timed):
            own.append(job)
            if name == "mixture" and len(panels) < NUM_PANELS:
                sounding = job.sample.targets[HEADS.index("sound")].class_name
                caption = (f"sounds: {sounding}", f'said: "{job.sample.text}"')
                panels.append(Panel(job.sample.load_image(), grounding_of(job), caption))
        done += len(benchmark)

    asked = {name: list(answers(own, heads)) for name, own in jobs.items() if name != "dark"}
    mixture, per_class = score_heads(asked["mixture"])
    timed = [one for one in answers(jobs["mixture"], heads, timed=True) if one.head == "speech"]
    leakage = {
        head: float(np.mean([leak for one in asked["mixture"] if one.head == head
                             for leak in _leaks(one)]))
        for head in heads
    }  # fmt: skip
    gating_cases = {
        case: gated_share(maps, GATE)
        for case, maps in sorted(_dark_maps(jobs["clean"], jobs["dark"], heads).items())
    }
    report = {
        "num_samples": num,
        "seed": seed,
        "split": split,
        "protocol": PROTOCOL,
        "model": facts,
        "mixture": {
            **mixture,
            "leakage": float(np.mean(list(leakage.values()))),
            "leakage_per_head": leakage,
        },
        "clean": score_heads(asked["clean"])[0],
        "ratios_db": {f"{r:g}": score_heads(asked[f"{r:g}"])[0] for r in RATIOS_DB},
        "gating": float(np.mean(list(gating_cases.values()))),
        "gating_cases": gating_cases,
        "baselines": _baselines(asked["mixture"], seed),
        "per_class": per_class,
        "duration_s": round(time.perf_counter() - started_s, 1),
    }
    if timed:
        report["word_timing"] = {
            "without": mixture["speech"]["mAP"],
            "oracle": score_heads(timed)[0]["speech"]["mAP"],
        }
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    write_panels(out_dir / "panels.png", panels)
    write_json(out_dir / "report.json", report)
    return report


def published(grids: HeadGrids, head: str) -> Float32[np.ndarray, "h w"]:
    """A head's heatmap, zeros where it heard nothing."""
    merged = grids.merged(head)
    return np.zeros_like(merged) if head in grids.gated else sigmoid(merged)


def answers(
    jobs: Iterable[GroundingJob],
    heads: Sequence[str] = HEADS,
    *,
    timed: bool = False,
    read: Callable[[HeadGrids, str], Float32[np.ndarray, "h w"]] = published,
) -> Iterator[Asked]:
    """Every target that one of these heads should find, with what `read` takes of the answer."""
    for job in jobs:
        grids = job.timed if timed else job.grids
        masks = [np.asarray(target.load_mask()) > 0 for target in job.sample.targets]
        for number, (target, mask) in enumerate(zip(job.sample.targets, masks, strict=True)):
            if target.head in heads:
                assert grids is not None, "a sample without a word's time was asked for by it"
                heatmap = resize_heatmap(read(grids, target.head), *mask.shape)
                others = masks[:number] + masks[number + 1 :]
                yield Asked(target.head, target.class_name, heatmap, mask, others)


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


def score_heads(
    asked: Sequence[Asked],
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, dict[str, float]]]]:
    """Head -> metric -> value, and head -> class -> metric -> value."""
    summary, per_class = {}, {}
    for head in dict.fromkeys(one.head for one in asked):
        own = [one for one in asked if one.head == head]
        maps, masks = [one.heatmap for one in own], [one.mask for one in own]
        summary[head], per_class[head] = score(maps, masks, [one.class_name for one in own])
    return summary, per_class


def score(
    heatmaps: Sequence[Float32[np.ndarray, "H W"]],
    masks: Sequence[Bool[np.ndarray, "H W"]],
    classes: Sequence[str],
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """All metrics of one head under one condition: over all samples, and class by class."""
    ap = pooled_average_precision(heatmaps, masks, classes)
    iou = mean_iou(heatmaps, masks, classes)
    peaks = [peak_hit(*pair) for pair in zip(heatmaps, masks, strict=True)]
    each = [
        average_precision(*pair)
        for pair in zip(heatmaps, masks, strict=True)
        if pair[1].any()
    ]
    summary = {
        "mAP": ap.mean,
        "miou": iou.mean,
        "peak": float(np.mean(peaks)),
        "mAP_per_sample": float(np.mean(each)),
        "miou_shared": mean_iou(heatmaps, masks, classes, "oracle20_shared").mean,
    }
    per_class = {}
    for name in sorted(ap.per_class):
        own = [peak for peak, other in zip(peaks, classes, strict=True) if other == name]
        per_class[name] = {
            "num": len(own),
            "ap": ap.per_class[name],
            "iou": iou.per_class[name],
            "peak": float(np.mean(own)),
        }
    return summary, per_class


def _leaks(one: Asked) -> list[float]:
    return [peak_leak(one.heatmap, one.mask, other) for other in one.others]


def _baselines(asked: Sequence[Asked], seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """The rows that any model must beat: they look at neither image nor sound."""
    rng = np.random.default_rng(seed)
    rows = {
        "whole_image": lambda shape: np.ones(shape, np.float32),
        "centred_disc": lambda shape: centred_disc(*shape).astype(np.float32),
        "random": lambda shape: rng.random(shape, dtype=np.float32),
    }
    # Head by head, so that a head's random maps do not depend on what other heads there are.
    ordered = sorted(asked, key=lambda one: HEADS.index(one.head))
    return {
        name: score_heads([one._replace(heatmap=draw(one.mask.shape)) for one in ordered])[0]
        for name, draw in rows.items()
    }
