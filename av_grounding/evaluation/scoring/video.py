"""Scores of segmentation (AVSBench) and semantic (AVSS) benchmarks, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from av_grounding.evaluation.benchmark import GroundingSample, SemanticSample
from av_grounding.evaluation.metrics import segmentation, semantic
from av_grounding.evaluation.metrics.maps import upsample, whole_image
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.evaluation.prediction import HeadGrids
from av_grounding.evaluation.protocols import Protocol
from av_grounding.evaluation.scoring.heads import relative
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
from av_grounding.regions import class_map

ROWS = (MODEL, *DEGENERATE)
REGIONS = "model, relative"
"""Key of the model's F curve by relative scores (see `Protocol.values`)."""
CLASSES_OF_REGIONS = "model, regions"


def score_mask(job: GroundingJob, protocols: Sequence[Protocol] = ()) -> Scored:
    """IoU and the F curve of one frame; an empty truth has its own rule and no F.

    IoU is of the values and the threshold that each protocol names; of none, calibrated ones at
    0.5.
    """
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
    if any(protocol.values == "regions" for protocol in protocols):
        values = upsample(relative(job.grids, target.head), *truth.shape, "bilinear")
        answers[REGIONS] = values
        row["relative_iou"] = {
            protocol.name: segmentation.frame_iou(values > protocol.amount, truth)
            for protocol in protocols
            if protocol.values == "regions"
        }
    curves = {}
    if truth.any():
        curves = {name: segmentation.f_measure_curve(p, truth) for name, p in answers.items()}
    return Scored(row, (PackedMask.of(truth),), arrays=curves)


def summarise_masks(scored: Sequence[Scored], protocol: Protocol) -> dict[str, dict[str, float]]:
    """mIoU and F of every row; a video counts once under `per_video`."""
    rows = [one.row for one in scored if one.row is not None]
    videos = [row["video"] for row in rows]
    is_per_video = protocol.name != "batch_invariant"
    result = {}
    for name in ROWS:
        ious = [row["iou"][name] for row in rows]
        curve = name
        if name == MODEL and protocol.values == "regions":
            ious, curve = [row["relative_iou"][protocol.name] for row in rows], REGIONS
        if is_per_video:
            ious = [mean_of(own) for own in by_class(videos, ious).values()]
        metrics = {"miou": mean_of(ious)}
        with_truth = [i for i, one in enumerate(scored) if curve in one.arrays]
        if with_truth:
            curves = np.stack([scored[i].arrays[curve] for i in with_truth])
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
    if "sound" in job.grids.regions:
        answers[CLASSES_OF_REGIONS] = _by_regions(job.grids, shape, protocols)
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


def _by_regions(
    grids: HeadGrids, shape: tuple[int, int], protocols: Sequence[Protocol]
) -> Int[np.ndarray, "H W"]:
    """C of 002 eq. 5; zeros where nothing was heard."""
    import cv2

    if "sound" in grids.gated:
        return np.zeros(shape, np.int64)
    sigma = next((one.amount for one in protocols if one.values == "regions"), 0.9)
    regions = grids.regions["sound"]
    named = class_map(regions.masks, regions.logits, np.array(grids.region_classes), sigma)
    large = cv2.resize(named.astype(np.float32), shape[::-1], interpolation=cv2.INTER_NEAREST)
    return large.astype(np.int64)


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
        key = name
        if name == MODEL and protocol.values == "regions":
            key = CLASSES_OF_REGIONS
            if not all(key in arrays for arrays in kept):
                raise ValueError(
                    f"protocol {protocol.name} scores named regions, of which this model has none:"
                    " expected a bundle of regions with class embeddings"
                )
        scores = semantic.semantic_scores([arrays[key] for arrays in kept])
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
