"""What scoring hands on: the sample as a job, the scored sample as a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float32

from av_grounding.evaluation.benchmark import GroundingSample, SampleProblem, SemanticSample
from av_grounding.evaluation.metrics.localisation import success_rate
from av_grounding.evaluation.metrics.maps import centred_disc, upsample, whole_image
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.evaluation.prediction import HeadGrids

T = TypeVar("T")
MODEL = "model"
TOTAL = "model, total of both heads"
TIMED = "model, word timing given"
DEGENERATE = ("whole_image", "centred_disc", "ceiling")
# SLAVC's bins, which are areas on 224x224 pixels, as shares of the image.
SIZE_BINS = {
    name: (low**2 / 224**2, high**2 / 224**2)
    for name, (low, high) in {
        "small": (0, 32),
        "medium": (32, 96),
        "large": (96, 144),
        "huge": (144, 10_000),
    }.items()
}


@dataclass(frozen=True)
class GroundingJob:
    """A sample without what only the model needed, and what the model answered."""

    sample: GroundingSample | SemanticSample
    grids: HeadGrids
    timed: HeadGrids | None = None
    """With the oracle timing of the word, where the sample has one."""
    num_classes: int = 0


@dataclass(frozen=True)
class Scored:
    """One sample: its row for the report and what summaries need beside it; or its problem."""

    row: dict[str, Any] | None
    masks: tuple[PackedMask, ...] = ()
    problem: SampleProblem | None = None
    arrays: dict[str, Any] = field(default_factory=dict)
    """Curves and counts that are too long for the report."""


class UnreadableSample(Exception):
    """Carries the problem of a sample whose files cannot be read."""

    def __init__(self, problem: SampleProblem) -> None:
        super().__init__(problem)
        self.problem = problem


def loaded(load: Callable[[], T], sample_id: str) -> T:
    """What `load` reads; UnreadableSample where its file is missing or damaged."""
    try:
        return load()
    except FileNotFoundError as error:
        raise UnreadableSample(SampleProblem("missing_file", sample_id, str(error))) from error
    except (OSError, ValueError) as error:
        raise UnreadableSample(SampleProblem("unreadable_file", sample_id, str(error))) from error


def size_bin(share: float) -> str:
    return next(name for name, (low, high) in SIZE_BINS.items() if low <= share < high)


def bins_of(areas_and_ious: Iterable[tuple[float, float]]) -> dict[str, dict[str, float]]:
    """Bin -> how many sources it holds, success at 0.5 and mean IoU."""
    bins: dict[str, list[float]] = {}
    for area, iou in areas_and_ious:
        bins.setdefault(size_bin(area), []).append(iou)
    return {
        name: {"num": len(own), "ciou@0.5": success_rate(own), "mean_iou": float(np.mean(own))}
        for name, own in bins.items()
    }


def degenerate_mask(name: str, shape: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    return whole_image(*shape) if name == "whole_image" else centred_disc(*shape)


def sigmoid(logits: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    return (1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))).astype(np.float32)


def enlarged(
    grid: Float32[np.ndarray, "h w"], shape: tuple[int, int], values: str, method: str
) -> Float32[np.ndarray, "H W"]:
    """A head's logits at the truth's resolution, as similarities or as calibrated values."""
    return upsample(sigmoid(grid) if values == "calibrated" else grid, *shape, method)


def total_of(grids: HeadGrids) -> Float32[np.ndarray, "h w"]:
    """Element-wise maximum over heads (000 section 4.3.2)."""
    return np.max([grids.merged(head) for head in sorted(grids.logits)], axis=0)


def mean_of(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")


def by_class(classes: Iterable[str], values: Iterable[float]) -> dict[str, list[float]]:
    grouped: dict[str, list[float]] = {}
    for name, value in zip(classes, values, strict=True):
        grouped.setdefault(name, []).append(value)
    return dict(sorted(grouped.items()))
