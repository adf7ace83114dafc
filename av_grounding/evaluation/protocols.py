"""Named protocols: every step from a model's map to a published kind of number.

The field's numbers are not one metric. The same maps score tens of points apart under another
threshold, normalisation, matching or average, so a number without its protocol says nothing.
Names are those under which the steps are known; `source` says whose code or text it follows.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any, Literal

from av_grounding.evaluation.benchmark import Task
from av_grounding.evaluation.metrics.maps import ThresholdKind, Upsampling
from av_grounding.evaluation.metrics.multi_source import Matching

Values = Literal["similarity", "calibrated", "regions", "boxes"]
Threshold = (
    ThresholdKind | Literal["sweep19", "oracle20_per_class", "oracle20_shared", "none", "argmax"]
)
AveragePrecision = Literal[
    "pixel_continuous", "pixel_binarised", "pixel_binarised_swapped", "pooled", "pooled_per_class"
]
Confidence = Literal["top_quarter", "max"]

ONE_SOURCE: tuple[Task, ...] = ("localisation", "extended", "interactive")
SEVERAL: tuple[Task, ...] = ("multi_source",)
PROMPTED: tuple[Task, ...] = ("prompted", "simultaneous")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How an answer is scored.

    `values`: similarities, what the bundle's calibration makes of them, or the relative scores of
    regions (002 eq. 4; of a model of cells, its map between its own least and largest value), in
    the regions' masks or in the boxes around them.
    `threshold` and `amount`: see `metrics.maps.binarise`; sweeps and oracles choose with the truth
    in view, so they are upper bounds. `score`: the share of samples with enough IoU, or mean IoU.
    `average`: what is averaged, in words.
    """

    name: str
    tasks: tuple[Task, ...]
    source: str
    values: Values = "similarity"
    upsampling: Upsampling = "bilinear"
    normalisation: Literal["none", "min_max_image"] = "none"
    threshold: Threshold = "none"
    amount: float | None = None
    score: Literal["success_rate", "mean_iou"] = "success_rate"
    average_precision: AveragePrecision = "pixel_continuous"
    matching: Matching = "class_given"
    confidence: Confidence = "top_quarter"
    average: str = "samples"
    per_tile: bool = False
    """Whether pictures side by side are normalised, cut and scored each by itself."""
    counts_extra: bool = False
    """Whether a map beyond the number of sources scores 0 instead of not counting."""

    def describe(self) -> dict[str, Any]:
        """The definition, for a report."""
        return {key: value for key, value in asdict(self).items() if key != "tasks"}


def _named(*protocols: Protocol) -> dict[str, Protocol]:
    return {protocol.name: protocol for protocol in protocols}


PROTOCOLS: dict[str, Protocol] = _named(
    Protocol(
        name="median_gt",
        tasks=(*ONE_SOURCE, *SEVERAL),
        source="LVS (Chen et al. 2021), SSLalignment (Senocak et al. 2023)",
        normalisation="min_max_image",
        threshold="median_gt",
    ),
    Protocol(
        name="median_ge",
        tasks=ONE_SOURCE,
        source="EZ-VSL (Mo and Morgado 2022)",
        upsampling="bilinear_aligned",
        normalisation="min_max_image",
        threshold="median_ge",
    ),
    Protocol(
        name="median_ge_bicubic",
        tasks=ONE_SOURCE,
        source="SLAVC (Mo and Morgado 2022) with --relative_prediction",
        upsampling="bicubic_aligned",
        normalisation="min_max_image",
        threshold="median_ge",
    ),
    Protocol(
        name="abs0.5",
        tasks=(*ONE_SOURCE, *SEVERAL),
        source="SLAVC (Mo and Morgado 2022) without --relative_prediction",
        values="calibrated",
        upsampling="bicubic_aligned",
        threshold="absolute",
        amount=0.5,
    ),
    Protocol(
        name="top_area",
        tasks=(*ONE_SOURCE, *SEVERAL),
        source="IS3 adaptive (Senocak et al. 2024): the area of the truth is given",
        normalisation="min_max_image",
        threshold="top_area",
    ),
    Protocol(
        name="sweep19",
        tasks=("localisation", "extended"),
        source="ACL-SSL (Park et al. 2024): the best of .05 … .95 on the test set",
        normalisation="min_max_image",
        threshold="sweep19",
    ),
    Protocol(
        name="max_confidence",
        tasks=("extended",),
        source="SeAC (002): confidence is the largest value before normalisation",
        normalisation="min_max_image",
        threshold="median_gt",
        confidence="max",
    ),
    Protocol(
        name="seac_boxes",
        tasks=ONE_SOURCE,
        source="SeAC (002) A.1: boxes with the relative scores of eq. 4, over 0.5, as it names no "
        "threshold; confidence is the largest score before",
        values="boxes",
        threshold="absolute",
        amount=0.5,
        confidence="max",
    ),
    Protocol(
        name="hungarian",
        tasks=SEVERAL,
        source="median_gt under the best pairing of maps and sources",
        normalisation="min_max_image",
        threshold="median_gt",
        matching="hungarian",
        average="sources",
    ),
    Protocol(
        name="greedy",
        tasks=SEVERAL,
        source="NoPrior (Kim et al. 2024)",
        upsampling="bicubic",
        normalisation="min_max_image",
        threshold="median_gt",
        average_precision="pixel_binarised",
        matching="greedy",
        average="sources; a source without a map, and a map without a source, score 0",
        per_tile=True,
        counts_extra=True,
    ),
    Protocol(
        name="pixel_binarised_swapped",
        tasks=(*SEVERAL, "localisation"),
        source="AVGN (Mo and Tian 2023): average precision with its arguments swapped",
        upsampling="bicubic_aligned",
        normalisation="min_max_image",
        threshold="median_ge",
        average_precision="pixel_binarised_swapped",
        average="sources",
    ),
    Protocol(
        name="fixed0.3_mean",
        tasks=SEVERAL,
        source="T-VSL (Mahmud et al. 2024): mean cIoU at a threshold of 0.3, no success rate",
        normalisation="min_max_image",
        threshold="absolute",
        amount=0.3,
        score="mean_iou",
        average="sources",
    ),
    Protocol(
        name="pooled",
        tasks=(*SEVERAL, "localisation"),
        source="GAR-SSL: PIAP over all pixels of all samples",
        normalisation="min_max_image",
        threshold="median_gt",
        average_precision="pooled",
        average="sources; PIAP: pixels",
    ),
    *(
        Protocol(
            name=f"frac_of_max{amount}",
            tasks=(*SEVERAL, "localisation"),
            source=f"DSOL (Hu et al. 2020), {used}",
            normalisation="min_max_image",
            threshold="fraction_of_max",
            amount=amount,
            score="mean_iou",
            average="sources",
        )
        for amount, used in ((0.1, "solo"), (0.2, "duet"), (0.5, "synthetic"))
    ),
    Protocol(
        name="oracle20_per_class",
        tasks=PROMPTED,
        source="DenseAV (001), released code",
        threshold="oracle20_per_class",
        average_precision="pooled_per_class",
        average="pixels of a class, then classes",
    ),
    Protocol(
        name="oracle20_shared",
        tasks=PROMPTED,
        source="DenseAV (001), as the text reads: one threshold for all classes",
        threshold="oracle20_shared",
        average_precision="pooled_per_class",
        average="pixels of a class, then classes",
    ),
    Protocol(
        name="calibrated0.5",
        tasks=PROMPTED,
        source="this project: the value at which a robot says that something is there",
        values="calibrated",
        threshold="absolute",
        amount=0.5,
        average_precision="pooled_per_class",
        average="pixels of a class, then classes",
    ),
    Protocol(
        name="per_video",
        tasks=("segmentation",),
        source="AVSBench (Zhou et al. 2022) with batches of one video",
        values="calibrated",
        threshold="absolute",
        amount=0.5,
        score="mean_iou",
        average="frames of a video, then videos; F at each video's best of 255 thresholds",
    ),
    Protocol(
        name="batch_invariant",
        tasks=("segmentation",),
        source="AVSBench metrics with one threshold for the whole set",
        values="calibrated",
        threshold="absolute",
        amount=0.5,
        score="mean_iou",
        average="frames; F at the set's best of 255 thresholds",
    ),
    *(
        Protocol(
            name=f"seac_{amount}",
            tasks=("segmentation",),
            source=f"SeAC (002) eq. 4 over {amount}, which the paper does not state: {reading}",
            values="regions",
            threshold="absolute",
            amount=amount,
            score="mean_iou",
            average="frames of a video, then videos; F at each video's best of 255 thresholds",
        )
        for amount, reading in ((0.5, "AVSBench's"), (0.9, "sigma of eq. 5"))
    ),
    Protocol(
        name="seac",
        tasks=("semantic",),
        source="SeAC (002) eq. 5: the class of the best region over 0.9, each region by its name",
        values="regions",
        threshold="absolute",
        amount=0.9,
        score="mean_iou",
        average="frames of a class, then classes",
    ),
    Protocol(
        name="avss",
        tasks=("semantic",),
        source="AVSS (Zhou et al. 2023): padded frames are scored",
        values="calibrated",
        threshold="argmax",
        score="mean_iou",
        average="frames of a class, then classes",
    ),
    Protocol(
        name="avss_without_padding",
        tasks=("semantic",),
        source="AVSS metrics on real frames alone",
        values="calibrated",
        threshold="argmax",
        score="mean_iou",
        average="frames of a class, then classes",
    ),
    Protocol(
        name="recall",
        tasks=("retrieval",),
        source="DenseAV (001), SSS (000): max over space, mean over time, sum over heads",
        average="rows of the similarity matrix; ties count against the row",
    ),
    Protocol(
        name="head_permutation",
        tasks=("disentanglement",),
        source="DenseAV (001) PredDis and ActDis, released code",
        normalisation="none",
        average="pairs; heads min-max scaled over both kinds jointly",
    ),
    Protocol(
        name="bss_eval_v3",
        tasks=("separation",),
        source="Sound of Pixels (Zhao et al. 2018), OneAVM (003): 512 taps, no permutation",
        average="sources; near-silent references are skipped and counted",
    ),
    Protocol(
        name="nearest_neighbour",
        tasks=("recognition",),
        source="OneAVM (003): cosine, k = 1, the test set is the gallery, wNN without itself",
        average="queries; xNN and wNN: both directions, both modalities",
    ),
)

DEFAULT: dict[Task, str] = {
    "prompted": "oracle20_per_class",
    "simultaneous": "oracle20_per_class",
    "localisation": "median_gt",
    "extended": "median_gt",
    "interactive": "median_gt",
    "multi_source": "median_gt",
    "segmentation": "per_video",
    "semantic": "avss",
    "retrieval": "recall",
    "disentanglement": "head_permutation",
    "separation": "bss_eval_v3",
    "recognition": "nearest_neighbour",
}


def protocols_of(task: Task) -> dict[str, Protocol]:
    """The protocols that fit a task, its default first."""
    fitting = {name: one for name, one in PROTOCOLS.items() if task in one.tasks}
    default = DEFAULT[task]
    return {default: fitting[default], **fitting}


def find_protocol(name: str | None, task: Task) -> Protocol:
    """The named protocol, or the task's default for None; ValueError naming those that fit."""
    fitting = protocols_of(task)
    if name is None:
        return fitting[DEFAULT[task]]
    if name not in fitting:
        close = difflib.get_close_matches(name, fitting, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"got protocol {name!r}, expected for the task {task!r} one of "
            f"{', '.join(fitting)}{hint}"
        )
    return fitting[name]
