"""Scores of heatmaps, head by head: what one head should find in a sample, and what it showed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from av_grounding.evaluation.benchmark import HEADS
from av_grounding.evaluation.metrics.maps import centred_disc, min_max
from av_grounding.evaluation.metrics.pointing import peak_hit, peak_leak
from av_grounding.evaluation.metrics.prompted import mean_iou, pooled_average_precision
from av_grounding.evaluation.metrics.ranking import average_precision
from av_grounding.evaluation.prediction import HeadGrids
from av_grounding.evaluation.scoring.rows import GroundingJob, sigmoid
from av_grounding.image import resize_heatmap
from av_grounding.regions import sound_map

MAX_SCORED_PX = 320
"""Shorter side of a truth above which every second pixel is scored, as often as it takes."""


class Asked(NamedTuple):
    """What one head answered to one sample, at the truth's size, and the truth."""

    head: str
    class_name: str
    heatmap: Float32[np.ndarray, "H W"]
    mask: Bool[np.ndarray, "H W"]
    others: list[Bool[np.ndarray, "H W"]]
    """What other heads should find in the same sample."""
    grid: tuple[int, int] = (0, 0)
    """Cells of the model's map, down and across."""


def published(grids: HeadGrids, head: str) -> Float32[np.ndarray, "h w"]:
    """A head's heatmap, zeros where it heard nothing."""
    merged = grids.merged(head)
    return np.zeros_like(merged) if head in grids.gated else sigmoid(merged)


def relative(grids: HeadGrids, head: str) -> Float32[np.ndarray, "h w"]:
    """A head's map between its smallest value, 0, and its largest, 1: of regions as 002 eq. 4.

    Zeros where it heard nothing.
    """
    if head in grids.gated:
        return np.zeros_like(grids.merged(head))
    if head in grids.regions:
        regions = grids.regions[head]
        return sound_map(regions.masks, regions.logits)
    return min_max(grids.merged(head))


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
        masks = [_thinned(np.asarray(target.load_mask()) > 0) for target in job.sample.targets]
        for number, (target, mask) in enumerate(zip(job.sample.targets, masks, strict=True)):
            if target.head in heads:
                assert grids is not None, "a sample without a word's time was asked for by it"
                values = read(grids, target.head)
                heatmap = resize_heatmap(values, *mask.shape)
                others = masks[:number] + masks[number + 1 :]
                yield Asked(
                    target.head, target.class_name, heatmap, mask, others, values.shape[-2:]
                )


def _thinned(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "h w"]:
    step = 1
    while min(mask.shape) // step > MAX_SCORED_PX:
        step *= 2
    return mask[step // 2 :: step, step // 2 :: step]


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
        average_precision(*pair) for pair in zip(heatmaps, masks, strict=True) if pair[1].any()
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


def leaks(one: Asked) -> list[float]:
    """Whether the largest value lies on what another head should find, for each of those."""
    return [peak_leak(one.heatmap, one.mask, other) for other in one.others]


def mean_leakage(asked: Iterable[Asked]) -> dict[str, float]:
    """Head -> share of its maps whose largest value lies on what another head should find."""
    of_head: dict[str, list[float]] = {}
    for one in asked:
        of_head.setdefault(one.head, []).extend(leaks(one))
    return {head: float(np.mean(shares)) for head, shares in of_head.items()}


def baselines(asked: Sequence[Asked], seed: int) -> dict[str, dict[str, dict[str, float]]]:
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


def ceilings(asked: Sequence[Asked]) -> dict[str, dict[str, dict[str, float]]]:
    """What a model reaches that knows only one thing: the cells of the truth, or what matters.

    `truth_on_grid`: each cell holds the share of it that the object covers, bilinear to the image,
    as fine as this model's grid can be. `either_object`: all that any head should find, so what is
    left is to tell the heads apart.
    """
    rows: dict[str, Callable[[Asked], np.ndarray]] = {
        "truth_on_grid": _on_grid,
        "either_object": lambda one: np.any([one.mask, *one.others], axis=0),
    }
    return {
        name: score_heads([one._replace(heatmap=draw(one).astype(np.float32)) for one in asked])[0]
        for name, draw in rows.items()
    }


def _on_grid(one: Asked) -> Float32[np.ndarray, "H W"]:
    height, width = one.mask.shape
    rows, columns = (
        np.arange(size) * cells // size
        for size, cells in zip((height, width), one.grid, strict=True)
    )
    cell = rows[:, None] * one.grid[1] + columns
    num_cells = one.grid[0] * one.grid[1]
    covered = np.bincount(cell.ravel(), one.mask.ravel().astype(np.float64), num_cells)
    share = covered / np.maximum(np.bincount(cell.ravel(), minlength=num_cells), 1)
    return resize_heatmap(share.reshape(one.grid).astype(np.float32), height, width)
