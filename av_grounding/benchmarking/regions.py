"""From a camera's frame to the answer of a model of regions: eager, beside it, and compiled.

    python -m av_grounding.benchmarking.regions models/synthetic-regions models/everyday-small

Prints a table. All ways answer the same frames of 640x480 in turns, in one process, to sound that
was heard before. `one by one` proposes before it encodes; the others, which `load_regions` gives,
do both at once. On a machine that is busy with other things times are longer than they would
be alone, processor time less so, and their ratios least of all.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from av_grounding.backends import load_regions
from av_grounding.backends.economy import settle_threads
from av_grounding.backends.regions import RegionBackend
from av_grounding.benchmarking.machine import pin_to_cores, processor_name
from av_grounding.benchmarking.timing import Task, in_turns
from av_grounding.config import read_vocabulary
from av_grounding.grounder import Grounder
from av_grounding.modeling.region_model import pooled_features
from av_grounding.types import Backend, ImageTokens

CAMERA = (640, 480)
NUM_FRAMES = 8
WAYS = ("eager, one by one", "eager", "compiled, one by one", "compiled")


class OneByOne(RegionBackend):
    """Regions first, then the picture, in one thread."""

    @torch.inference_mode()
    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        proposed = self.model.propose(image)
        features = pooled_features(self._see(image[None])[0], proposed.masks)
        return ImageTokens(self.model.tokens([proposed], [features])[0])


def ways_of(bundle: str | Path) -> dict[str, Backend]:
    """The backends that are compared."""
    eager = load_regions(bundle, "torch", "cpu", proposals="classical")
    compiled = load_regions(bundle, "auto", "cpu", proposals="classical")
    if compiled.name != "cpu":
        raise RuntimeError(f"{bundle} is not compiled here: {compiled.reason}")
    one_by_one = [OneByOne(of.backend, of.model, of.names) for of in (eager, compiled)]
    ways = (one_by_one[0], eager, one_by_one[1], compiled)
    return dict(zip(WAYS, ways, strict=True))


def measure(
    ways: dict[str, Backend],
    frames: Sequence[UInt8[np.ndarray, "H W 3"]],
    sound: Float32[np.ndarray, " s"],
    num_threads: int,
    seconds: float,
) -> dict[str, dict[str, float]]:
    """Of each way p50 and p90 from frame to answer and processor time a frame, in milliseconds."""
    used_s: dict[str, list[float]] = {name: [] for name in ways}

    def task_of(name: str, backend: Backend) -> Task:
        settle_threads(backend)
        backend.use_threads(num_threads)
        stream = Grounder(backend).stream()
        stream.push_audio(sound, 0, backend.spec.sample_rate_hz)
        stamp_ns = round(1e9 * len(sound) / backend.spec.sample_rate_hz)
        shown = cycle(frames)

        def answer() -> float:
            image = next(shown)
            began_s, cpu_s = time.perf_counter(), time.process_time()
            stream.push_frame(image, stamp_ns)
            used_s[name].append(time.process_time() - cpu_s)
            return time.perf_counter() - began_s

        return answer

    taken_s = in_turns({name: task_of(name, one) for name, one in ways.items()}, seconds)
    return {
        name: {
            "p50_ms": 1e3 * float(np.median(of)),
            "p90_ms": 1e3 * float(np.quantile(of, 0.9)),
            "cpu_ms": 1e3 * float(np.median(used_s[name][-len(of) :])),
            "num": len(of),
        }
        for name, of in taken_s.items()
    }


def scenes_for(
    bundle: Path, num_samples: int
) -> tuple[list[UInt8[np.ndarray, "H W 3"]], Float32[np.ndarray, " s"]]:
    """Frames of the world that the bundle knows, and sound of so many samples at 16 kHz."""
    import cv2

    if read_vocabulary(bundle):
        from av_grounding.everyday.samples import EverydaySamples

        world = EverydaySamples("validation", 0)
    else:
        from av_grounding.synthetic.samples import SyntheticSamples

        world = SyntheticSamples("val", 0)
    samples = [world[number] for number in range(NUM_FRAMES)]
    frames = [cv2.resize(sample.image, CAMERA) for sample in samples]
    return frames, np.resize(samples[0].mixture.astype(np.float32), num_samples)


def table(bundle: Path, num_threads: int, rows: dict[str, dict[str, float]]) -> Iterator[str]:
    """Markdown, without its head."""
    first = rows[WAYS[0]]
    for name, row in rows.items():
        ratios = (first[key] / row[key] for key in ("p50_ms", "cpu_ms"))
        cells = (f"{row[key]:.0f}" for key in ("p50_ms", "p90_ms", "cpu_ms"))
        ratio = " / ".join(f"{of:.1f}" for of in ratios)
        yield f"| {bundle.name} | {num_threads} | {name} | {' | '.join(cells)} | {ratio} |"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each way (15)")
    args = parser.parse_args(argv)
    num_cores = pin_to_cores()
    print(f"{processor_name()}, {num_cores} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| bundle | threads | way | p50, ms | p90, ms | processor, ms | times as fast / less |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |", flush=True)
    for bundle in args.bundles:
        ways = ways_of(bundle)
        spec = ways[WAYS[0]].spec
        frames, sound = scenes_for(bundle, 2 * spec.num_window_samples)
        for num_threads in args.threads:
            rows = measure(ways, frames, sound, num_threads, args.seconds)
            print("\n".join(table(bundle, num_threads, rows)), flush=True)


if __name__ == "__main__":
    main()
