"""Scores of prompted and simultaneous benchmarks: classes pooled, heads apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from av_grounding.evaluation.benchmark import GroundingSample, Head, SampleProblem
from av_grounding.evaluation.metrics.pointing import peak_hit, peak_leak
from av_grounding.evaluation.metrics.ranking import average_precision
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.evaluation.prediction import HeadGrids
from av_grounding.evaluation.protocols import Protocol
from av_grounding.evaluation.scoring.pooled import Pool
from av_grounding.evaluation.scoring.rows import (
    DEGENERATE,
    MODEL,
    TIMED,
    TOTAL,
    GroundingJob,
    Scored,
    bins_of,
    degenerate_mask,
    enlarged,
    loaded,
    mean_of,
    total_of,
)


def score(job: GroundingJob, protocols: Sequence[Protocol] = ()) -> Scored:
    """Per-sample numbers of every target, and the masks that the class pools need."""
    sample = job.sample
    assert isinstance(sample, GroundingSample)
    truths = [
        np.asarray(loaded(target.load_mask, sample.id), np.float32) > 0
        for target in sample.targets
    ]
    for target, truth in zip(sample.targets, truths, strict=True):
        if not truth.any():
            return Scored(
                None, problem=SampleProblem("empty_ground_truth", sample.id, target.class_name)
            )
    shape = truths[0].shape
    targets = []
    for number, (target, truth) in enumerate(zip(sample.targets, truths, strict=True)):
        others = [other for i, other in enumerate(truths) if i != number]
        row: dict[str, Any] = {
            "head": target.head,
            "class": target.class_name,
            "area": float(truth.mean()),
            "rows": {},
            "range": {},
        }
        for name, grid in _grids_of(job, target.head).items():
            values = enlarged(grid, shape, "similarity", "bilinear")
            calibrated = enlarged(grid, shape, "calibrated", "bilinear")
            row["rows"][name] = _numbers(values, calibrated, truth, others)
            row["range"][name] = [float(values.min()), float(values.max())]
        for name in DEGENERATE:
            values = np.float32(degenerate_mask(name, shape) if name != "ceiling" else truth)
            row["rows"][name] = _numbers(values, values, truth, others)
        targets.append(row)
    row = {"id": sample.id, "text": sample.text, "gated": list(job.grids.gated)}
    return Scored({**row, "targets": targets}, tuple(PackedMask.of(truth) for truth in truths))


def _numbers(
    values: np.ndarray, calibrated: np.ndarray, truth: np.ndarray, others: list[np.ndarray]
) -> dict[str, float]:
    predicted = calibrated >= 0.5
    union = np.count_nonzero(predicted | truth)
    numbers = {
        "ap": average_precision(values, truth),
        "iou": float(np.count_nonzero(predicted & truth) / union),
        "peak": peak_hit(values, truth),
    }
    if others:
        numbers["leak"] = max(peak_leak(values, truth, other) for other in others)
    return numbers


def _grids_of(job: GroundingJob, head: Head) -> dict[str, np.ndarray]:
    grids: dict[str, HeadGrids] = {MODEL: job.grids}
    if job.timed is not None and head == "speech":
        grids[TIMED] = job.timed
    rows = {name: one.merged(head) for name, one in grids.items()}
    if len(job.grids.logits) > 1:
        rows[TOTAL] = total_of(job.grids)
    return rows


def pools(
    rows: Sequence[Mapping[str, Any]],
    jobs: Sequence[GroundingJob],
    masks: Sequence[tuple[PackedMask, ...]],
) -> Iterator[tuple[tuple[str, str, str], Pool]]:
    """(row of the table, head, class) -> its pixels; in a fixed order."""
    members: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for i, row in enumerate(rows):
        for j, target in enumerate(row["targets"]):
            for name in target["rows"]:
                members.setdefault((name, target["head"], target["class"]), []).append((i, j))
    ranges = _ranges(rows)
    for key in sorted(members):
        name, head, _ = key
        own = members[key]
        is_degenerate = name in DEGENERATE
        grids = () if is_degenerate else tuple(_grids_of(jobs[i], head)[name] for i, _ in own)
        yield (
            key,
            Pool(
                grids,
                tuple(masks[i][j] for i, j in own),
                name if is_degenerate else "",
                None if is_degenerate else ranges[name, head],
            ),
        )


def _ranges(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[float, float]]:
    """(row of the table, head) -> lowest and highest value over the set."""
    listed: dict[tuple[str, str], list[list[float]]] = {}
    for row in rows:
        for target in row["targets"]:
            for name, bounds in target["range"].items():
                listed.setdefault((name, target["head"]), []).append(bounds)
    return {
        key: (min(low for low, _ in bounds), max(high for _, high in bounds))
        for key, bounds in listed.items()
    }


def summarise(
    rows: Sequence[Mapping[str, Any]],
    pooled: Mapping[tuple[str, str, str], Mapping[str, Any]],
    protocol: Protocol,
) -> dict[str, dict[str, float]]:
    """Row of the table -> metric -> value; metrics carry their head's name."""
    result: dict[str, dict[str, float]] = {}
    for name, head in sorted({key[:2] for key in pooled}, key=_table_order):
        own = [scores for key, scores in pooled.items() if key[:2] == (name, head)]
        numbers = [
            target["rows"][name]
            for row in rows
            for target in row["targets"]
            if target["head"] == head and name in target["rows"]
        ]
        metrics = result.setdefault(name, {})
        metrics[f"{head}_mAP"] = mean_of(scores["ap"] for scores in own)
        metrics[f"{head}_miou"] = _POOLED_IOU[protocol.threshold](own)
        if name != "whole_image":
            metrics[f"{head}_peak"] = mean_of(one["peak"] for one in numbers)
        metrics[f"{head}_mAP_per_sample"] = mean_of(one["ap"] for one in numbers)
        leaks = [one["leak"] for one in numbers if "leak" in one and name != "whole_image"]
        if leaks:
            metrics[f"{head}_leakage"] = mean_of(leaks)
    for metrics in result.values():
        leaks = [value for key, value in metrics.items() if key.endswith("_leakage")]
        if len(leaks) > 1:
            metrics["leakage"] = mean_of(leaks)
    return result


def size_bins(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Bin -> number of targets and the model's IoU at a calibrated 0.5, both heads together."""
    return bins_of(
        (target["area"], target["rows"][MODEL]["iou"]) for row in rows for target in row["targets"]
    )


def _best_shared(pooled: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([one["iou_curve_shared"] for one in pooled], axis=0).max())


_POOLED_IOU: dict[str, Callable[[Sequence[Mapping[str, Any]]], float]] = {
    "oracle20_per_class": lambda pooled: mean_of(one["iou_oracle"] for one in pooled),
    "oracle20_shared": _best_shared,
    "absolute": lambda pooled: mean_of(one["iou_at_half"] for one in pooled),
}


def _table_order(key: tuple[str, str]) -> tuple[int, str]:
    return ((MODEL, TIMED, TOTAL, *DEGENERATE).index(key[0]), key[1])
