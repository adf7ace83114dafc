"""The contents of a report, as plain values that JSON can hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from av_grounding.evaluation.comparison import compare
from av_grounding.evaluation.harness import POLICY, Evaluation
from av_grounding.evaluation.protocols import Protocol

LABELS = {
    "sound_mAP": "Sound mAP",
    "sound_miou": "Sound mIoU",
    "sound_peak": "Sound peak",
    "sound_mAP_per_sample": "Sound AP of a sample",
    "sound_leakage": "Sound leakage",
    "speech_mAP": "Speech mAP",
    "speech_miou": "Speech mIoU",
    "speech_peak": "Speech peak",
    "speech_mAP_per_sample": "Speech AP of a sample",
    "speech_leakage": "Speech leakage",
    "leakage": "Leakage",
    "ciou@0.5": "cIoU@0.5",
    "ciou@0.3": "cIoU@0.3",
    "auc": "AUC",
    "mean_iou": "Mean IoU",
    "ap": "AP",
    "cap": "CAP",
    "piap": "PIAP",
    "peak": "Peak",
    "twin": "Peak on twin",
    "count_right": "Number of sources right",
    "iiou@0.5": "IIoU@0.5",
    "iauc": "IAUC",
    "ext_ap": "Extended AP",
    "max_f1": "Max-F1",
    "f1@0.5": "F1@0.5",
    "loc_acc": "LocAcc",
    "nsa": "NSA",
    "threshold": "Threshold",
    "miou": "mIoU",
    "f": "F",
    "miou_present": "mIoU, classes present",
    "f_present": "F, classes present",
    "pred_dis": "PredDis",
    "act_dis": "ActDis",
    "sdr": "SDR",
    "sir": "SIR",
    "sar": "SAR",
    "si_sdr": "SI-SDR",
    "sdr_gain": "SDR gain",
    "ir_acc_i2a": "IR-Acc I→A",
    "ir_acc_a2i": "IR-Acc A→I",
    "ir_acc_i2a_of_128": "IR-Acc I→A of 128",
    "ir_acc_a2i_of_128": "IR-Acc A→I of 128",
    "xnn_acc_i2a": "xNN-Acc I→A",
    "xnn_acc_a2i": "xNN-Acc A→I",
    "wnn_acc_image": "wNN-Acc image",
    "wnn_acc_audio": "wNN-Acc audio",
    "iou_per_frame": "IoU of a frame",
    **{
        f"{way}_r{k}": f"{name} R@{k}"
        for way, name in (("i2a", "I→A"), ("a2i", "A→I"), ("label_a2i", "A→I label"))
        for k in (1, 5, 10)
    },
}
IN_DB = ("sdr", "sir", "sar", "si_sdr", "sdr_gain")
# What a task's spread and its panels are judged by.
HEADLINE = {
    "prompted": ("sound_miou", "speech_miou"),
    "simultaneous": ("sound_miou", "speech_miou"),
    "localisation": ("ciou@0.5", "mean_iou"),
    "extended": ("ext_ap", "ciou@0.5", "mean_iou"),
    "interactive": ("iiou@0.5", "ciou@0.5"),
    "multi_source": ("ciou@0.3", "mean_iou", "piap"),
    "segmentation": ("miou", "f"),
    "semantic": ("miou", "f"),
}


def build_report(
    evaluation: Evaluation,
    model: Mapping[str, Any],
    *,
    noise: Mapping[str, Any] | None = None,
    seed: int | None = None,
    duration_s: float = 0.0,
    against: tuple[Evaluation, Mapping[str, Any]] | None = None,
    sweep: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that the report says; `against` is a second model's evaluation and description;
    `sweep` the numbers of streams with several windows and hops.

    Values that are not finite become None, for JSON knows no others.
    """
    info, first = evaluation.info, evaluation.protocols[0]
    counts = Counter(problem.kind for problem in evaluation.problems)
    report: dict[str, Any] = {
        "benchmark": info.name,
        "task": info.task,
        "heads": list(info.heads),
        "citation": info.citation,
        "notes": info.notes,
        "protocol": first.name,
        "threshold": _threshold(first),
        "matching": first.matching,
        "num_samples": evaluation.num_samples,
        "num_expected": info.num_expected,
        "num_scored": len(evaluation.rows),
        "num_missing_files": counts["missing_file"],
        "seed": seed,
        "model": dict(model),
        "noise": dict(noise) if noise else None,
        "note": evaluation.extras.get("note", ""),
        "protocols": {
            protocol.name: {
                "definition": {**protocol.describe(), "threshold": _threshold(protocol)},
                "table": evaluation.tables[protocol.name],
            }
            for protocol in evaluation.protocols
        },
        "problems": {
            "counts": {kind: counts[kind] for kind in sorted(counts)},
            "policy": {kind: POLICY[kind] for kind in sorted(counts)},
            "list": [asdict(problem) for problem in evaluation.problems],
        },
        **{
            key: evaluation.extras.get(key)
            for key in ("per_class", "size_bins", "success_curves", "precision_recall")
        },
    }
    if len(evaluation.protocols) > 1:
        report["spread"] = spread(evaluation)
    if against is not None:
        other, other_model = against
        report["against"] = {
            "model": dict(other_model),
            "num_scored": len(other.rows),
            "tables": other.tables,
        }
        report["comparison"] = compare(evaluation, other)
    if sweep is not None:
        report["sweep"] = dict(sweep)
    report["duration_s"] = round(duration_s, 1)
    report["samples"] = evaluation.rows
    return finite(report)


def spread(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Metric -> the same maps' lowest and highest number over the protocols."""
    result: dict[str, dict[str, Any]] = {}
    for protocol in evaluation.protocols:
        for metric, value in evaluation.tables[protocol.name]["model"].items():
            result.setdefault(metric, {})[protocol.name] = value
    return {
        metric: {"lowest": min(of.values()), "highest": max(of.values()), "by_protocol": of}
        for metric, of in result.items()
        if len(of) > 1 and metric != "threshold"
    }


def finite(value: Any) -> Any:
    """The same value with None for NaN and infinities, and tuples as lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return value


def cell(metric: str, value: float | None) -> str:
    """A number as a table shows it: percent, dB, or a plain threshold."""
    if value is None:
        return "–"
    if metric == "threshold":
        return f"{value:.2f}"
    return f"{value:.2f}" if metric in IN_DB else f"{100 * value:.1f}"


def columns_of(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The metrics of a table in the order of the papers."""
    present = {metric for row in table.values() for metric in row}
    return [metric for metric in LABELS if metric in present]


def row_label(name: str) -> str:
    return name.replace("_", " ")


def _threshold(protocol: Protocol) -> str:
    amount = "" if protocol.amount is None else f" {protocol.amount}"
    return f"{protocol.threshold}{amount}"
