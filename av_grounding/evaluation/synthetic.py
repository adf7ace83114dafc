"""The `synthetic` benchmark: simultaneous grounding on fresh samples of the synthetic world.

The structure is Extended IS3's (000 section 4.1): the sound of one object plus speech that names
another, over one image that holds both. Grounding are those a robot would publish: calibrated,
gated, without a word timing unless a row says so, resized bilinearly to the image.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from av_grounding.evaluation import metrics
from av_grounding.evaluation.panels import Panel, write_panels
from av_grounding.files import write_json
from av_grounding.image import resize_heatmap
from av_grounding.synthetic.samples import Sample, SyntheticSamples
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.types import Grounding

logger = logging.getLogger(__name__)

HEADS = ("sound", "speech")
RATIOS_DB = (0.0, -5.0)
NUM_PANELS = 12
GATE = 0.5
PROTOCOL = {
    "benchmark": "synthetic",
    "mixture": "sound of one object + speech naming another, -5 to 5 dB, noise at 20 to 40 dB",
    "clean": "the sound alone for the sound head, the speech alone for the speech head",
    "heatmap": "calibrated and gated, bilinear to the image, no word timing",
    "map": "pixel_continuous AP pooled over a class's images, mean over classes",
    "map_per_sample": "pixel_continuous AP of each image, mean over images",
    "miou": "oracle20_per_class",
    "miou_shared": "oracle20_shared",
    "peak": "largest value on the head's own object (expectation over ties; constant map: 0)",
    "leakage": "largest value on the other head's object, mean over both heads",
    "gating": f"share of maps below {GATE} everywhere, mean over the rows of gating_cases",
}


@runtime_checkable
class GroundsClips(Protocol):
    """What the benchmark asks of a model; `Grounder` is one."""

    def ground(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        waveform: Float32[np.ndarray, " s"],
        sample_rate: int,
        *,
        word_span_s: tuple[float, float] | None = None,
    ) -> Grounding: ...


@dataclass
class _Head:
    """What one head must find, sample by sample."""

    masks: list[Bool[np.ndarray, "H W"]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)


def evaluate(
    grounder: GroundsClips,
    out_dir: str | Path,
    seed: int = 0,
    num: int = 500,
    progress: Callable[[int, int], None] | None = None,
    *,
    split: str = "test",
) -> dict[str, Any]:
    """Measure a grounder; write report.json and panels.png into `out_dir`, return the report.

    Sample i depends on `split` and `seed` alone, so two models see the same samples. `progress`
    is called with the number of samples done and `num`. Raises ValueError for `num` < 1.
    """
    if num < 1:
        raise ValueError(f"got {num} samples, expected one or more: raise --num")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    started_s = time.perf_counter()
    samples = SyntheticSamples(split, seed)
    at_ratio = {ratio: SyntheticSamples(split, seed, ratio_db=ratio) for ratio in RATIOS_DB}
    truth = {head: _Head() for head in HEADS}
    # Condition -> head -> maps on the model's grid, which is small; metrics resize them.
    maps: dict[str, dict[str, list[np.ndarray]]] = {}
    gated: dict[str, list[np.ndarray]] = {}
    panels: list[Panel] = []

    def keep(condition: str, head: str, heatmaps: Grounding) -> None:
        of_head = maps.setdefault(condition, {}).setdefault(head, [])
        of_head.append(getattr(heatmaps, head))

    for index in range(num):
        sample = samples[index]
        for head in HEADS:
            truth[head].masks.append(getattr(sample, f"mask_{head}"))
            truth[head].classes.append(getattr(sample, f"{head}_class"))
        mixture = grounder.ground(sample.image, sample.mixture, SAMPLE_RATE_HZ)
        oracle = grounder.ground(
            sample.image, sample.mixture, SAMPLE_RATE_HZ, word_span_s=sample.word_span_s
        )
        keep("oracle", "speech", oracle)
        for head in HEADS:
            keep("mixture", head, mixture)
            alone = grounder.ground(sample.image, getattr(sample, head), SAMPLE_RATE_HZ)
            keep("clean", head, alone)
            silent = HEADS[1 - HEADS.index(head)]
            gated.setdefault(f"{head}_alone.{silent}", []).append(getattr(alone, silent))
        for ratio, mixed in at_ratio.items():
            heatmaps = grounder.ground(sample.image, mixed[index].mixture, SAMPLE_RATE_HZ)
            for head in HEADS:
                keep(_ratio_name(ratio), head, heatmaps)
        for case, heatmap in _dark_maps(grounder, sample, samples.absent(index)):
            gated.setdefault(case, []).append(heatmap)
        if len(panels) < NUM_PANELS:
            caption = (f"sounds: {sample.sound_class}", f'said: "{sample.text}"')
            panels.append(Panel(sample.image, mixture, caption))
        if progress is not None:
            progress(index + 1, num)

    scores = {name: _score_heads(by_head, truth) for name, by_head in maps.items()}
    mixture_report, per_class = scores["mixture"]
    leakage = _leakage(maps["mixture"], truth)
    gating_cases = {case: metrics.gated_share(gated[case], GATE) for case in sorted(gated)}
    report = {
        "num_samples": num,
        "seed": seed,
        "split": split,
        "protocol": PROTOCOL,
        "model": _describe(grounder),
        "mixture": {
            **mixture_report,
            "leakage": float(np.mean(list(leakage.values()))),
            "leakage_per_head": leakage,
        },
        "clean": scores["clean"][0],
        "ratios_db": {f"{ratio:g}": scores[_ratio_name(ratio)][0] for ratio in RATIOS_DB},
        "gating": float(np.mean(list(gating_cases.values()))),
        "gating_cases": gating_cases,
        "word_timing": {
            "without": mixture_report["speech"]["map"],
            "oracle": scores["oracle"][0]["speech"]["map"],
        },
        "baselines": _baselines(truth, seed),
        "per_class": per_class,
        "duration_s": round(time.perf_counter() - started_s, 1),
    }
    write_panels(out_dir / "panels.png", panels)
    write_json(out_dir / "report.json", report)
    return report


def _ratio_name(ratio_db: float) -> str:
    return f"ratio {ratio_db:g} dB"


def _dark_maps(
    grounder: GroundsClips, sample: Sample, absent: dict[str, np.ndarray]
) -> list[tuple[str, np.ndarray]]:
    """Case -> the map that should stay dark, for sounds and words without a matching object."""
    dark = []
    for case, waveform in absent.items():
        heatmaps = grounder.ground(sample.image, waveform, SAMPLE_RATE_HZ)
        if case in HEADS:
            dark.append((f"absent_{case}.{case}", getattr(heatmaps, case)))
        else:
            dark += [(f"{case}.{head}", getattr(heatmaps, head)) for head in HEADS]
    return dark


def _score_heads(
    maps: dict[str, list[np.ndarray]], truth: dict[str, _Head]
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, dict[str, float]]]]:
    """Head -> metric -> value, and head -> class -> metric -> value."""
    summary, per_class = {}, {}
    for head, grids in maps.items():
        masks, classes = truth[head].masks, truth[head].classes
        summary[head], per_class[head] = score(_resized(grids, masks), masks, classes)
    return summary, per_class


def score(
    heatmaps: Sequence[Float32[np.ndarray, "H W"]],
    masks: Sequence[Bool[np.ndarray, "H W"]],
    classes: Sequence[str],
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """All metrics of one head under one condition: over all samples, and class by class."""
    ap = metrics.pooled_average_precision(heatmaps, masks, classes)
    iou = metrics.mean_iou(heatmaps, masks, classes)
    peaks = [metrics.peak_hit(*pair) for pair in zip(heatmaps, masks, strict=True)]
    each = [
        metrics.average_precision(*pair)
        for pair in zip(heatmaps, masks, strict=True)
        if pair[1].any()
    ]
    summary = {
        "map": ap.mean,
        "miou": iou.mean,
        "peak": float(np.mean(peaks)),
        "map_per_sample": float(np.mean(each)),
        "miou_shared": metrics.mean_iou(heatmaps, masks, classes, "oracle20_shared").mean,
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


def _resized(grids: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [resize_heatmap(g, *mask.shape) for g, mask in zip(grids, masks, strict=True)]


def _leakage(maps: dict[str, list[np.ndarray]], truth: dict[str, _Head]) -> dict[str, float]:
    leakage = {}
    for head, other in (HEADS, HEADS[::-1]):
        own, others = truth[head].masks, truth[other].masks
        rows = zip(_resized(maps[head], own), own, others, strict=True)
        leakage[head] = float(np.mean([metrics.peak_leak(*row) for row in rows]))
    return leakage


def _baselines(truth: dict[str, _Head], seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """The rows that any model must beat: they look at neither image nor sound."""
    rng = np.random.default_rng(seed)
    rows = {
        "whole_image": lambda shape: np.ones(shape, np.float32),
        "centred_disc": centred_disc,
        "random": lambda shape: rng.random(shape, dtype=np.float32),
    }
    return {
        name: {
            head: score([draw(mask.shape) for mask in of.masks], of.masks, of.classes)[0]
            for head, of in truth.items()
        }
        for name, draw in rows.items()
    }


def centred_disc(shape: tuple[int, int]) -> Float32[np.ndarray, "H W"]:
    """1 on the half of the pixels that lie nearest to the centre (of an ellipse if not square)."""
    rows, columns = (np.linspace(-1.0, 1.0, size) for size in shape)
    radius = np.hypot(*np.meshgrid(rows, columns, indexing="ij"))
    return (radius <= np.median(radius)).astype(np.float32)


def _describe(grounder: GroundsClips) -> dict[str, Any]:
    backend = getattr(grounder, "backend", None)
    return {} if backend is None else backend.describe()
