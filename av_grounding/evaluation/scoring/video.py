"""Scores of segmentation (AVSBench) and semantic (AVSS) benchmarks, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from av_grounding.evaluation.benchmark import GroundingSample, SemanticSample
from av_grounding.evaluation.metrics import segmentation, semantic
from av_grounding.evaluation.metrics.maps import whole_image
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.evaluation.protocols import Protocol
from av_grounding.evaluation.scoring.rows import (
    DEGENERATE,
    MODEL,
    GroundingJob,
    Scored,
    by_class,
    degenerate_mask,
    enlarged,
    loaded,
    mean_of,
)

ROWS = (MODEL, *DEGENERATE)


def score_mask(job: GroundingJob, protocols: Sequence[Protocol] = ()) -> Scored:
    """IoU at 0.5 and the F curve of one frame; an empty truth has its own rule and no F."""
    sample = job.sample
    assert isinstance(sample, GroundingSample)
    (target,) = sample.targets
    truth = np.asarray(loaded(target.load_mask, sample.id), np.float32) > 0
    grid = job.grids.merged(target.head)
    answers = {
        MODEL: enlarged(grid, truth.shape, "calibrated", "bilinear"),
        "ceiling": truth.astype(np.float32),
        **{name: degenerate_mask(name, truth.shape).astype(np.float32) for name in DEGENERATE[:2]},
    }
    row = {
        "id": sample.id,
        "video": sample.video_id or sample.id,
        "class": target.class_name,
        "area": float(truth.mean()),
        "gated": list(job.grids.gated),
        "iou": {name: segmentation.frame_iou(p >= 0.5, truth) for name, p in answers.items()},
    }
    curves = {}
    if truth.any():
        curves = {name: segmentation.f_measure_curve(p, truth) for name, p in answers.items()}
    return Scored(row, (PackedMask.of(truth),), arrays=curves)


def summarise_masks(scored: Sequence[Scored], protocol: Protocol) -> dict[str, dict[str, float]]:
    """mIoU and F of every row; a video counts once under `per_video`."""
    rows = [one.row for one in scored if one.row is not None]
    videos = [row["video"] for row in rows]
    is_per_video = protocol.name == "per_video"
    result = {}
    for name in ROWS:
        ious = [row["iou"][name] for row in rows]
        if is_per_video:
            ious = [mean_of(own) for own in by_class(videos, ious).values()]
        metrics = {"miou": mean_of(ious)}
        with_truth = [i for i, one in enumerate(scored) if name in one.arrays]
        if with_truth:
            curves = np.stack([scored[i].arrays[name] for i in with_truth])
            metrics["f"] = (
                mean_of(
                    segmentation.f_measure_per_video(
                        curves, [videos[i] for i in with_truth]
                    ).values()
                )
                if is_per_video
                else segmentation.f_measure_of_set(curves)
            )
        result[name] = metrics
    return result


def score_classes(job: GroundingJob, protocols: Sequence[Protocol] = ()) -> Scored:
    """Pixels of every class in one frame: a pixel has the class whose map is largest where the
    sound map reaches 0.5, else it is background."""
    sample = job.sample
    assert isinstance(sample, SemanticSample)
    truth = np.asarray(loaded(sample.load_class_map, sample.id), np.int64)
    shape, num_classes = truth.shape, job.num_classes
    best = np.full(shape, -np.inf, np.float32)
    label = np.zeros(shape, np.int64)
    for number, grid in enumerate(job.grids.logits["classes"], 1):
        values = enlarged(grid, shape, "similarity", "bilinear")
        is_better = values > best
        best[is_better], label[is_better] = values[is_better], number
    sound = enlarged(job.grids.merged("sound"), shape, "calibrated", "bilinear")
    # What a class-blind answer can reach: the frame's most frequent class, everywhere.
    foreground = np.bincount(truth[truth > 0], minlength=num_classes)
    common = int(foreground.argmax())
    disc = degenerate_mask("centred_disc", shape)
    answers = {
        MODEL: np.where(sound >= 0.5, label, 0),
        "whole_image": np.where(whole_image(*shape), common, 0),
        "centred_disc": np.where(disc, common, 0),
        "ceiling": truth,
    }
    counts = {
        name: semantic.frame_counts(predicted, truth, num_classes)
        for name, predicted in answers.items()
    }
    shared, predicted, true = counts[MODEL]
    union = predicted + true - shared
    row = {
        "id": sample.id,
        "video": sample.video_id or sample.id,
        "is_padding": sample.is_padding,
        "gated": list(job.grids.gated),
        "iou": {MODEL: float(np.mean(shared[union > 0] / union[union > 0]))},
    }
    return Scored(row, (PackedMask.of(truth),), arrays=counts)


def summarise_classes(
    scored: Sequence[Scored], protocol: Protocol, class_names: Sequence[str]
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Numbers of every row of the table, and the model's IoU of every class that is there."""
    kept: list[Mapping[str, Any]] = [
        one.arrays
        for one in scored
        if one.row is not None
        and not (protocol.name == "avss_without_padding" and one.row["is_padding"])
    ]
    if not kept:
        raise ValueError("got padding alone, expected one or more real frames")
    result, per_class = {}, {}
    for name in ROWS:
        scores = semantic.semantic_scores([arrays[name] for arrays in kept])
        result[name] = {
            "miou": scores.miou,
            "f": scores.f,
            "miou_present": scores.miou_present,
            "f_present": scores.f_present,
        }
        if name == MODEL:
            per_class = {
                class_names[i]: float(iou)
                for i, iou in enumerate(scores.iou_per_class)
                if np.isfinite(iou)
            }
    return result, per_class
