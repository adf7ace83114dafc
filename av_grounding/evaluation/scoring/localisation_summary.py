"""Summaries of the scores that `localisation` gives: the tables and curves of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from av_grounding.evaluation.metrics import extended, localisation
from av_grounding.evaluation.protocols import Protocol
from av_grounding.evaluation.scoring.rows import DEGENERATE, MODEL, bins_of, mean_of

ROWS = (MODEL, *DEGENERATE)


def summarise(
    rows: Sequence[Mapping[str, Any]], protocol: Protocol, task: str
) -> dict[str, dict[str, float]]:
    """Row of the table -> metric -> value, over the scored samples.

    Where one source has several boxes the model's rows are also told apart by how many (003
    table 6), each beside its ceiling.
    """
    table = {name: _summarise_row(rows, protocol, task, name) for name in ROWS}
    by_number: dict[str, list[Mapping[str, Any]]] = {}
    if task == "localisation":
        for row in rows:
            by_number.setdefault(_number_of_boxes(row.get("num_boxes", 0)), []).append(row)
    if by_number.keys() - {"", "1 box"}:
        for number in sorted(by_number.keys() - {""}):
            for name in (MODEL, "ceiling"):
                found = _summarise_row(by_number[number], protocol, task, name)
                table[f"{name}, {number}"] = found
    return table


def _number_of_boxes(number: int) -> str:
    return {0: "", 1: "1 box", 2: "2 boxes"}.get(number, "3 boxes or more")


def _summarise_row(
    rows: Sequence[Mapping[str, Any]], protocol: Protocol, task: str, name: str
) -> dict[str, float]:
    sounding = [row for row in rows if row["presence"] == "sounding"]
    if not sounding:
        raise ValueError("got no sounding sample with a truth, expected one or more")
    scores = [row["protocols"][protocol.name][name] for row in sounding]
    extra = [0.0] * sum(one.get("num_extra", 0) for one in scores)
    ious = np.array([*(iou for one in scores for iou in one["iou"]), *extra])
    result: dict[str, float] = {}
    if protocol.threshold == "sweep19":
        curves = np.array([one["curve"] for one in scores])
        best, _ = localisation.best_of_sweep(curves)
        ious = curves[:, best]
        result["threshold"] = localisation.SWEEP[best]
    if protocol.score == "success_rate":
        result["ciou@0.5"] = localisation.success_rate(ious)
        result["ciou@0.3"] = localisation.success_rate(ious, 0.3)
        result["auc"] = localisation.success_auc(ious)
    result["mean_iou"] = float(ious.mean())
    if task == "multi_source":
        result["cap"] = mean_of([*(value for one in scores for value in one["ap"]), *extra])
        if protocol.average_precision != "pooled":
            result["piap"] = mean_of(value for one in scores for value in one["piap"])
    else:
        result["ap"] = mean_of(value for one in scores for value in one["ap"])
    if name == MODEL:
        result["peak"] = mean_of(hit for row in sounding for hit in row["peak"])
        if twins := [row["twin"] for row in sounding if "twin" in row]:
            result["twin"] = mean_of(twins)
        if task == "multi_source":
            right = [row.get("num_maps", 1) == len(row["class"]) for row in sounding]
            result["count_right"] = mean_of(right)
    if task == "interactive" and protocol.score == "success_rate":
        worst = list(
            localisation.interactive_ious(ious, [row["group"] for row in sounding]).values()
        )
        result["iiou@0.5"] = localisation.success_rate(worst)
        result["iauc"] = localisation.success_auc(worst)
    if task == "localisation" and protocol.score == "success_rate":
        confidences = np.array([one["confidence"] for one in scores])
        of_all = (ious, confidences, np.ones(len(ious), bool))
        result["max_f1"] = extended.extended_scores(*of_all).max_f1
        result["f1@0.5"] = extended.f1_at(0.5, *of_all)
    dark = [row["protocols"][protocol.name] for row in rows if row["presence"] != "sounding"]
    if dark:
        result |= _with_dark(ious, scores, dark, name)
    return result


def _with_dark(
    ious: np.ndarray, scores: Sequence[Mapping[str, Any]], dark: Sequence[Any], name: str
) -> dict[str, float]:
    """Metrics that need samples on which nothing visible sounds.

    The whole image and the disc are equally sure of everything, which AP answers with 0.
    """
    # Confidences repeat for each source where there are several.
    confidences = [one["confidence"] for one in scores for _ in one["iou"]]
    of_dark = [one[MODEL]["confidence"] if name == MODEL else 1.0 for one in dark]
    if name == "ceiling":
        # Distinct, the surest first: ties would cost the perfect detector all of its recall.
        confidences = 1.0 + np.argsort(np.argsort(ious, kind="stable")) / len(ious)
        of_dark = -np.arange(len(dark), dtype=np.float64)
    of_all = (
        np.append(ious, np.zeros(len(dark))),
        np.array([*confidences, *of_dark]),
        np.arange(len(ious) + len(dark)) < len(ious),
    )
    result = extended.extended_scores(*of_all)
    metrics = {"ext_ap": result.ap, "max_f1": result.max_f1, "loc_acc": result.loc_acc}
    if name == MODEL:
        metrics["f1@0.5"] = extended.f1_at(0.5, *of_all)
    if name == MODEL:
        metrics["nsa"] = mean_of(one[MODEL]["nsa"] for one in dark)
    return metrics


def success_curves(
    rows: Sequence[Mapping[str, Any]], protocol: Protocol
) -> dict[str, list[float]]:
    """Row -> share of sources with IoU ≥ 0.05·i, for the plot under the AUC."""
    sounding = [row for row in rows if row["presence"] == "sounding"]
    curves = {}
    for name in ROWS:
        scores = [row["protocols"][protocol.name][name] for row in sounding]
        ious = [i for one in scores for i in one["iou"]]
        ious += [0.0] * sum(one.get("num_extra", 0) for one in scores)
        curves[name] = [localisation.success_rate(ious, at) for at in localisation.AUC_THRESHOLDS]
    return curves


def size_bins(rows: Sequence[Mapping[str, Any]], protocol: Protocol) -> dict[str, dict]:
    """Bin -> number of sources, success at 0.5 and mean IoU of the model."""
    return bins_of(
        pair
        for row in rows
        if row["presence"] == "sounding"
        for pair in zip(row["area"], row["protocols"][protocol.name][MODEL]["iou"], strict=True)
    )
