"""Scores of one sample of a localisation, extended, interactive or multi-source benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from av_grounding.evaluation.benchmark import SampleProblem
from av_grounding.evaluation.metrics import extended, localisation, multi_source
from av_grounding.evaluation.metrics.maps import binarise, ceiling_map, min_max, upsample
from av_grounding.evaluation.metrics.pointing import peak_hit
from av_grounding.evaluation.metrics.ranking import average_precision, precision_at_recalls
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.evaluation.protocols import Protocol
from av_grounding.evaluation.scoring.heads import relative
from av_grounding.evaluation.scoring.rows import (
    DEGENERATE,
    MODEL,
    GroundingJob,
    Scored,
    degenerate_mask,
    enlarged,
    loaded,
    mean_of,
)
from av_grounding.regions import box_map


def score(job: GroundingJob, protocols: Sequence[Protocol]) -> Scored:
    """Every protocol's IoU and AP of one sample, for the model and the degenerate answers."""
    sample = job.sample
    truths = [
        np.asarray(loaded(target.load_mask, sample.id), np.float32) for target in sample.targets
    ]
    is_sounding = sample.presence == "sounding"
    if is_sounding and not all(truth.any() for truth in truths):
        detail = ", ".join(
            target.class_name
            for target, truth in zip(sample.targets, truths, strict=True)
            if not truth.any()
        )
        return Scored(None, problem=SampleProblem("empty_ground_truth", sample.id, detail))
    shape = truths[0].shape
    cache = _Maps(job, shape)
    row: dict[str, Any] = {
        "id": sample.id,
        "class": [target.class_name for target in sample.targets],
        "presence": sample.presence,
        "group": sample.group,
        "gated": list(job.grids.gated),
        "num_boxes": sum(len(target.boxes) for target in sample.targets),
        "area": [float(np.mean(truth > 0)) for truth in truths],
        "peak": [],
        "protocols": {},
    }
    width = shape[1]
    tiles = [slice(*(round(end * width) for end in target.tile)) for target in sample.targets]
    answers: dict[str, _Answer] = {MODEL: _Answer(cache.maps, truths, tiles)}
    if is_sounding:
        num_maps = len(cache.maps("similarity", "bilinear"))
        every = cache.maps("similarity", "bilinear", "hungarian")
        row["num_maps"] = len(every)
        row["peak"] = _peaks(every, truths, job.grids.is_by_target)
        if sample.load_twin is not None:
            twin = np.asarray(loaded(sample.load_twin, sample.id)) > 0
            row["twin"] = any(peak_hit(one, twin) for one in every)
        answers |= {
            name: _Answer(None, truths, tiles, fixed=partial(degenerate_mask, name))
            for name in DEGENERATE[:2]
        }
        ceilings = [ceiling_map(truth) for truth in truths]
        answers["ceiling"] = _Answer(None, truths, tiles, ceilings=ceilings)
    for protocol in protocols:
        row["protocols"][protocol.name] = {
            name: answer.score(protocol, is_sounding) for name, answer in answers.items()
        }
    if not is_sounding:
        return Scored(row)
    precision = [
        precision_at_recalls(cache.maps("similarity", "bilinear")[min(j, num_maps - 1)], truth > 0)
        for j, truth in enumerate(truths)
    ]
    masks = tuple(PackedMask.of(truth) for truth in truths)
    return Scored(row, masks, arrays={"precision": np.mean(precision, axis=0)})


def _peaks(
    maps: Sequence[np.ndarray], truths: Sequence[np.ndarray], is_by_target: bool
) -> list[float]:
    """Whether each source has the peak of its map; maps without names are paired best."""
    hits = np.array([[peak_hit(one, truth > 0) for truth in truths] for one in maps])
    if len(maps) == 1:
        return hits[0].tolist()
    return _matched(hits, multi_source.match(hits, "class_given" if is_by_target else "hungarian"))


class _Maps:
    """The model's maps at the truth's size, each kind computed once."""

    def __init__(self, job: GroundingJob, shape: tuple[int, int]) -> None:
        # The targets of these tasks ask one head, the sound head.
        head = job.sample.targets[0].head
        every, merged = job.grids.logits[head], job.grids.merged(head)[None]
        # Who asks for one source, or for one by its class, gets one map, however many there are.
        is_one = len(job.sample.targets) == 1
        self._grids = {
            "class_given": every if job.grids.is_by_target and not is_one else merged,
            "any": merged if is_one else every,
        }
        self._shape, self._known = shape, {}
        self._answer, self._head = job.grids, head

    @cached_property
    def _boxes(self) -> np.ndarray:
        """See `Protocol.values`; of a model of cells, which has no boxes, the relative map."""
        regions = self._answer.regions.get(self._head)
        if regions is None:
            return upsample(relative(self._answer, self._head), *self._shape, "bilinear")
        return box_map(regions.masks, regions.logits, *self._shape)

    def maps(
        self, values: str, upsampling: str, matching: str = "class_given"
    ) -> list[np.ndarray]:
        if values == "boxes":
            return [self._boxes]
        which = "class_given" if matching == "class_given" else "any"
        key = (values, upsampling, which)
        if key not in self._known:
            grids = self._grids[which]
            self._known[key] = [enlarged(grid, self._shape, *key[:2]) for grid in grids]
        return self._known[key]


class _Answer:
    """Maps, or a fixed mask of every shape whatever the threshold, against a sample's truths.

    What several protocols share is computed once; ceiling maps have no interpolation at all.
    """

    def __init__(
        self,
        maps: Callable[..., list[np.ndarray]] | None,
        truths: Sequence[np.ndarray],
        tiles: Sequence[slice],
        fixed: Callable[[tuple[int, int]], np.ndarray] | None = None,
        ceilings: list[np.ndarray] | None = None,
    ) -> None:
        self._maps, self._truths, self._fixed, self._ceilings = maps, truths, fixed, ceilings
        self._in_tiles = [truth[:, tile] for truth, tile in zip(truths, tiles, strict=True)]
        self._tiles = tiles
        self._known: dict[tuple, Any] = {}

    def score(self, protocol: Protocol, is_sounding: bool) -> dict[str, Any]:
        if not is_sounding:
            # Nothing to overlap with: what counts is whether the map claims anything.
            calibrated = self._maps("calibrated", protocol.upsampling)
            return {
                "confidence": self._confidence(protocol),
                "nsa": mean_of(multi_source.silent_area(one) for one in calibrated),
            }
        if self._fixed is not None:
            return self._once(
                (
                    "fixed",
                    protocol.average_precision,
                    protocol.threshold == "sweep19",
                    protocol.per_tile,
                ),
                lambda: self._score_fixed(protocol),
            )
        return self._score_maps(protocol)

    def _confidence(self, protocol: Protocol) -> float:
        calibrated = self._maps("calibrated", protocol.upsampling)
        if protocol.confidence == "max":
            return max(float(one.max()) for one in calibrated)
        return max(extended.top_quarter_confidence(one) for one in calibrated)

    def _once(self, key: tuple, compute: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def _score_fixed(self, protocol: Protocol) -> dict[str, Any]:
        truths = self._in_tiles if protocol.per_tile else self._truths
        masks = [self._fixed(truth.shape) for truth in truths]
        ious = [
            localisation.consensus_iou(mask, truth)
            for mask, truth in zip(masks, truths, strict=True)
        ]
        is_swapped = protocol.average_precision == "pixel_binarised_swapped"
        precision_of = (
            multi_source.swapped_average_precision
            if is_swapped
            else multi_source.binarised_average_precision
        )
        precisions = [
            precision_of(mask, truth > 0) for mask, truth in zip(masks, truths, strict=True)
        ]
        scores = {"iou": ious, "ap": precisions, "piap": precisions, "confidence": 1.0}
        if protocol.threshold == "sweep19":
            scores["curve"] = ious * len(localisation.SWEEP)
        return scores

    def _score_maps(self, protocol: Protocol) -> dict[str, Any]:
        key = (protocol.values, protocol.upsampling, protocol.matching)
        raw, confidence = self._ceilings, 1.0
        if self._ceilings is not None:
            key = ("ceiling",)
        else:
            raw = self._maps(*key)
            confidence = self._once(
                ("confidence", protocol.confidence, protocol.upsampling),
                lambda: self._confidence(protocol),
            )
        values = raw
        is_normalised = protocol.normalisation == "min_max_image"
        if is_normalised and not protocol.per_tile:
            values = self._once(("min_max", *key), lambda: [min_max(one) for one in raw])
        num_maps, num_sources = len(values), len(self._truths)
        if protocol.threshold == "sweep19":
            curve = localisation.consensus_iou_curve(values[0], self._truths[0])
            at_half = float(curve[localisation.SWEEP.index(0.5)])
            precision = self._precision_of(0, 0, key, None, raw, protocol)
            return {
                "iou": [at_half],
                "curve": curve.tolist(),
                "ap": [precision],
                "piap": [precision],
                "confidence": confidence,
            }
        ious = np.empty((num_maps, num_sources))
        precisions = np.empty((num_maps, num_sources))
        for i in range(num_maps):
            for j, truth in enumerate(self._in_tiles if protocol.per_tile else self._truths):
                own = values[i]
                if protocol.per_tile:
                    own = own[:, self._tiles[j]]
                    own = min_max(own) if is_normalised else own
                num_truth = int(np.count_nonzero(truth)) if protocol.threshold == "top_area" else 0
                predicted = binarise(own, protocol.threshold, protocol.amount or 0.5, num_truth)
                ious[i, j] = localisation.consensus_iou(predicted, truth)
                if protocol.per_tile:
                    precisions[i, j] = _precision(own, predicted, truth, protocol)
                else:
                    precisions[i, j] = self._precision_of(i, j, key, predicted, raw, protocol)
        if num_maps == 1:
            # A head with one map for the whole mixture answers for every source with it.
            ious, precisions = (np.repeat(s, num_sources, axis=0) for s in (ious, precisions))
        # Which map answers for which source is found once, on the overlap: CAP asks how good that
        # answer is, and PIAP how good the best pairing could be.
        answers = multi_source.match(ious, protocol.matching)
        return {
            "iou": _matched(ious, answers),
            "ap": _matched(precisions, answers),
            "piap": _matched(precisions, multi_source.match(precisions, "hungarian")),
            "num_extra": max(0, num_maps - num_sources) if protocol.counts_extra else 0,
            "confidence": confidence,
        }

    def _precision_of(
        self,
        i: int,
        j: int,
        key: tuple[str, ...],
        predicted: np.ndarray | None,
        raw: Sequence[np.ndarray],
        protocol: Protocol,
    ) -> float:
        """A continuous AP does not look at the threshold, so protocols share it."""
        if protocol.average_precision.startswith("pixel_binarised"):
            return _precision(raw[i], predicted, self._truths[j], protocol)
        return self._once(
            ("ap", i, j, *key), lambda: _precision(raw[i], None, self._truths[j], protocol)
        )


def _precision(
    values: np.ndarray, predicted: np.ndarray | None, truth: np.ndarray, protocol: Protocol
) -> float:
    if protocol.average_precision == "pixel_binarised":
        return multi_source.binarised_average_precision(predicted, truth > 0)
    if protocol.average_precision == "pixel_binarised_swapped":
        return multi_source.swapped_average_precision(predicted, truth > 0)
    return average_precision(np.asarray(values, np.float32), truth > 0)


def _matched(scores: np.ndarray, answers: Sequence[int | None]) -> list[float]:
    return [0.0 if i is None else float(scores[i, j]) for j, i in enumerate(answers)]
