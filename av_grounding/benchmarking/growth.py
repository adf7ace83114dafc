"""How cost grows with size and number: `python -m av_grounding.benchmarking.growth`.

Prints JSON, a list of points a curve. Every value is CPU time of this process by the second of
input (frames at 15 Hz with their sound), which other programs on the machine disturb little. The
points of a curve are measured in turns; each is the median of its rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from av_grounding.audio import NS_PER_S
from av_grounding.backends import load_backend
from av_grounding.backends.caching import CachingBackend
from av_grounding.backends.economy import settle_threads
from av_grounding.backends.wrapping import BackendWrapper
from av_grounding.benchmarking.growth_subscribers import measure_subscribers
from av_grounding.config import default_bundle
from av_grounding.config.streaming import StreamingConfig
from av_grounding.evaluation.windows import with_window
from av_grounding.sources.demo import FRAME_RATE_HZ
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.types import Backend

SHORT_SIDES = (96, 160, 224, 320, 480)
WINDOWS_S = (0.64, 1.28, 2.56, 5.12)
HOPS_S = (0.08, 0.16, 0.32, 0.64, 1.28)
NUMS_OF_MAPS = (1, 3, 8)
NUMS_OF_CAMERAS = (1, 2, 4)
NUMS_OF_SUBSCRIBERS = (0, 1, 10)
SECONDS, NUM_ROUNDS = 2.0, 3
RATE_HZ, CHUNK = 16_000, 320
CAMERA = (480, 640)


class ManyMaps(BackendWrapper):
    """A backend whose every head answers with `num` maps, as a model of several sources does."""

    def __init__(self, backend: Backend, num: int) -> None:
        super().__init__(backend)
        self.num = num

    def maps(
        self, tokens: Any, head: str, query: np.ndarray, similarity: np.ndarray
    ) -> np.ndarray:
        return np.stack([np.roll(similarity, shift) for shift in range(self.num)])


class Cameras:
    """Streams that hear the same and see something else each, played as fast as they go."""

    def __init__(
        self, backend: Backend, num: int = 1, config: StreamingConfig | None = None
    ) -> None:
        self.streams = [GroundingStream(backend, config) for _ in range(num)]
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (num, 8, CAMERA[0] // 16, CAMERA[1] // 16, 3), np.uint8)
        self.images = coarse.repeat(16, axis=2).repeat(16, axis=3)
        self.sound = (0.1 * rng.standard_normal(round(30 * RATE_HZ))).astype(np.float32)
        self.num_samples = self.num_frames = 0
        self.play(4.0)  # the histories fill

    def play(self, seconds: float) -> float:
        """CPU seconds that it took."""
        began_s = time.process_time()
        for _ in range(round(seconds * FRAME_RATE_HZ)):
            stamp_ns = round(self.num_frames / FRAME_RATE_HZ * NS_PER_S)
            while self.num_samples / RATE_HZ * NS_PER_S < stamp_ns:
                at = self.num_samples % (self.sound.size - CHUNK)
                chunk_ns = round(self.num_samples / RATE_HZ * NS_PER_S)
                for stream in self.streams:
                    stream.push_audio(self.sound[at : at + CHUNK], chunk_ns, RATE_HZ)
                self.num_samples += CHUNK
            for stream, images in zip(self.streams, self.images, strict=True):
                answer = stream.push_frame(images[self.num_frames % len(images)], stamp_ns)
                for head in answer.heads.values():
                    _ = head.heatmap
            self.num_frames += 1
        return time.process_time() - began_s


def measure(curves: Mapping[str, Mapping[float, Cameras]]) -> Iterator[dict[str, Any]]:
    """CPU milliseconds by the second of input, point by point in turns."""
    for name, points in curves.items():
        taken: dict[float, list[float]] = {x: [] for x in points}
        for _ in range(NUM_ROUNDS):
            for x, cameras in points.items():
                taken[x].append(1e3 * cameras.play(SECONDS) / SECONDS)
        yield {
            "curve": name,
            "points": [{"x": x, "cpu_ms": float(np.median(of))} for x, of in taken.items()],
        }


def curves_of(backend: Backend, eager: Backend) -> dict[str, Callable[[], dict[float, Cameras]]]:
    """Name of each curve -> what makes its points; `eager` takes windows of any length."""

    def image_size() -> dict[float, Cameras]:
        specs = {side: replace(backend.spec, short_side_px=side) for side in SHORT_SIDES}
        return {side: Cameras(backend.with_spec(spec)) for side, spec in specs.items()}

    def window() -> dict[float, Cameras]:
        # The same hop for all, and one that every window holds.
        hop = StreamingConfig(hop_s=0.16)
        return {s: Cameras(with_window(eager, s), config=hop) for s in WINDOWS_S}

    def hop() -> dict[float, Cameras]:
        return {s: Cameras(backend, config=StreamingConfig(hop_s=s)) for s in HOPS_S}

    def maps() -> dict[float, Cameras]:
        return {num: Cameras(ManyMaps(backend, num)) for num in NUMS_OF_MAPS}

    def cameras() -> dict[float, Cameras]:
        # Kept by what was heard: the streams share one encoding of it.
        return {num: Cameras(CachingBackend(backend), num) for num in NUMS_OF_CAMERAS}

    return {
        "short side of the input, px": image_size,
        "window, s (torch)": window,
        "hop, s": hop,
        "maps a head": maps,
        "cameras on one sound": cameras,
    }


def markdown(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"Backend {report['backend']['backend']} {report['backend']['precision']}."
    for curve in report["curves"]:
        xs = [f"{point['x']:g}" for point in curve["points"]]
        yield ""
        yield f"| {curve['curve']} | {' | '.join(xs)} |"
        yield "| --- |" + " ---: |" * len(xs)
        values = " | ".join(f"{point['cpu_ms']:.0f}" for point in curve["points"])
        yield f"| CPU ms a second | {values} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=None, help="bundle; default: the shipped one")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    bundle = args.model or default_bundle()
    backend, eager = load_backend(bundle), load_backend(bundle, "torch", "cpu")
    for one in (backend, eager):
        settle_threads(one)
    curves = []
    for name, make in curves_of(backend, eager).items():
        curves += measure({name: make()})
    curves += measure_subscribers(NUMS_OF_SUBSCRIBERS)
    print(json.dumps({"backend": backend.describe(), "curves": curves}, indent=2))


if __name__ == "__main__":
    main()
