"""Two models on the same samples: paired bootstrap confidence intervals of what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from av_grounding.evaluation.harness import Evaluation
from av_grounding.evaluation.protocols import Protocol
from av_grounding.evaluation.scoring.rows import MODEL

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
CHUNK = 50


class Difference(NamedTuple):
    """Second minus first, with the interval that holds it in 95 % of resamplings."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    num_pairs: int


def paired_bootstrap(
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
    *,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """Percentile interval of the mean difference; both models keep the samples drawn together.

    Raises ValueError for fewer than two pairs or lengths that differ.
    """
    if first.shape != second.shape or first.size < 2:
        raise ValueError(
            f"got {first.size} and {second.size} values, expected two or more and as many of each"
        )
    rng = np.random.default_rng(seed)
    difference = np.asarray(second - first, np.float64)
    means = np.empty(num_resamples)
    for start in range(0, num_resamples, CHUNK):
        stop = min(start + CHUNK, num_resamples)
        drawn = rng.integers(difference.size, size=(stop - start, difference.size))
        means[start:stop] = difference[drawn].mean(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Difference(
        float(first.mean()),
        float(second.mean()),
        float(difference.mean()),
        float(low),
        float(high),
        int(first.size),
    )


def compare(first: Evaluation, second: Evaluation) -> dict[str, dict[str, Any]]:
    """Protocol -> metric -> difference, over what both models have scored.

    Metrics that are means over samples are resampled by sample; mAP and mIoU of pooled classes,
    which no sample has, by class.
    """
    result: dict[str, dict[str, Any]] = {}
    for protocol in first.protocols:
        metrics: dict[str, Any] = {}
        of_samples = (sample_values(one, protocol) for one in (first, second))
        of_classes = (_class_values(one, protocol) for one in (first, second))
        for unit, (mine, theirs) in (("sample", of_samples), ("class", of_classes)):
            for metric in mine:
                shared = sorted(set(mine[metric]) & set(theirs.get(metric, {})))
                if len(shared) < 2:
                    continue
                pair = (np.array([side[metric][key] for key in shared]) for side in (mine, theirs))
                metrics[metric] = {**paired_bootstrap(*pair)._asdict(), "resampled": unit}
        result[protocol.name] = metrics
    return result


def sample_values(evaluation: Evaluation, protocol: Protocol) -> dict[str, dict[str, float]]:
    """Metric -> sample id -> the model's value, for what a single sample has."""
    values: dict[str, dict[str, float]] = {}
    for row in evaluation.rows:
        for metric, value in _values_of(row, protocol).items():
            values.setdefault(metric, {})[row["id"]] = value
    return values


def _values_of(row: Mapping[str, Any], protocol: Protocol) -> dict[str, float]:
    if "protocols" in row:
        if row["presence"] != "sounding":
            return {}
        scores = row["protocols"][protocol.name][MODEL]
        ious = np.asarray(scores["iou"])
        values = {"mean_iou": float(ious.mean()), "ap": float(np.mean(scores["ap"]))}
        # What a sweep calls a success depends on the set.
        if protocol.score == "success_rate" and protocol.threshold != "sweep19":
            values = {"ciou@0.5": float(np.mean(ious >= 0.5)), **values}
        return values
    if "targets" in row:
        return {
            f"{target['head']}_{metric}": target["rows"][MODEL][key]
            for target in row["targets"]
            for metric, key in (("mAP_per_sample", "ap"), ("peak", "peak"))
        }
    if "num_before_i2a" in row:
        return {
            f"{way}_r{k}": float(row[f"num_before_{way}"] < k)
            for way in ("i2a", "a2i")
            for k in (1, 5, 10)
        }
    if "iou" in row:
        return {"iou_per_frame": row["iou"][MODEL]}
    scores = row["rows"].get(MODEL, {})
    return {metric: float(np.mean(values)) for metric, values in scores.items()}


def _class_values(evaluation: Evaluation, protocol: Protocol) -> dict[str, dict[str, float]]:
    """Metric -> class -> value, from the classes of the report."""
    names = {"ap": "mAP", "iou": "miou"}
    if protocol.threshold not in ("oracle20_per_class", "argmax"):
        names.pop("iou")
    values: dict[str, dict[str, float]] = {}
    per_class = evaluation.extras.get("per_class", {}).get(protocol.name, {})
    for name, metrics in per_class.items():
        for key, value in metrics.items():
            head, _, kind = key.rpartition("_")
            if kind in names:
                metric = f"{head}_{names[kind]}" if head else names[kind]
                values.setdefault(metric, {})[name] = value
    return values
