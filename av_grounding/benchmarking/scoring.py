"""How long scoring takes: VGG-SS-sized maps under every localisation protocol.

    python -m av_grounding.benchmarking.scoring --num 5000

Maps and boxes are drawn; no model runs. Prints one line of JSON. On a machine that is busy with
other things `cpu_s` over the number of cores is the time that it would take alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
from jaxtyping import Float32

from av_grounding.benchmarking.machine import pin_to_cores
from av_grounding.evaluation.benchmark import GroundingSample, Target
from av_grounding.evaluation.boxes import union_mask
from av_grounding.evaluation.harness import score_samples
from av_grounding.evaluation.prediction import HeadGrids
from av_grounding.evaluation.protocols import protocols_of
from av_grounding.evaluation.scoring import localisation_summary
from av_grounding.evaluation.scoring.rows import GroundingJob

SIZE_PX = 224
GRID = 14


def measure(num: int, num_workers: int) -> dict[str, float]:
    """Seconds to score `num` samples and to sum them up, under all protocols together."""
    protocols = tuple(protocols_of("localisation").values())
    started_s = time.perf_counter()
    scored = list(score_samples(drawn_jobs(num), "localisation", protocols, num_workers))
    scored_s = time.perf_counter() - started_s
    rows = [one.row for one in scored if one.row is not None]
    for protocol in protocols:
        localisation_summary.summarise(rows, protocol, "localisation")
    return {
        "num_maps": num,
        "num_protocols": len(protocols),
        "num_workers": num_workers,
        "score_s": round(scored_s, 2),
        "total_s": round(time.perf_counter() - started_s, 2),
        "cpu_s": round(_cpu_s(), 2),
    }


def _cpu_s() -> float:
    """Of this process and of its finished children, from their start."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def drawn_jobs(num: int, size_px: int = SIZE_PX) -> Iterator[GroundingJob]:
    """Answers of a model that knows a little: boxes of VGG-SS's sizes, blurred, with noise."""
    for index in range(num):
        target = Target(
            head="sound",
            class_name=f"class {index % 221}",
            load_mask=partial(_mask, index, size_px),
        )
        sample = GroundingSample(
            id=f"{index:06d}", load_image=_no_image, load_clip=None, targets=(target,)
        )
        rng = np.random.default_rng((index, 1))
        hint = _mask(index, GRID) * 2.0 + rng.normal(size=(GRID, GRID))
        yield GroundingJob(sample, HeadGrids({"sound": hint.astype(np.float32)[None]}))


def _mask(index: int, size_px: int) -> Float32[np.ndarray, "H W"]:
    rng = np.random.default_rng((index, 0))
    side = np.sqrt(np.clip(rng.lognormal(-1.4, 0.8), 0.01, 1.0))
    left, top = rng.uniform(0.0, 1.0 - side, 2)
    return union_mask([(left, top, left + side, top + side)], size_px, size_px)


def _no_image() -> np.ndarray:
    raise OSError("drawn samples have no image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    num_cores = pin_to_cores(args.workers) if args.workers else 1
    print(json.dumps({**measure(args.num, args.workers), "num_cores": num_cores}))


if __name__ == "__main__":
    main()
