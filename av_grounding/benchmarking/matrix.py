"""Latency, rate, CPU and memory per backend, precision, image size and window, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.backends import EXPECTED_TROUBLE
from av_grounding.benchmarking.machine import NUM_CORES, machine_facts, resident_mb
from av_grounding.benchmarking.speed import BUSY_S, percentiles_ms
from av_grounding.benchmarking.timing import WARM_UP, Task, in_turns, timed
from av_grounding.benchmarking.variants import (
    NotRun,
    Variant,
    one_line,
    open_variants,
)
from av_grounding.config.streaming import StreamingConfig
from av_grounding.evaluation.windows import with_window
from av_grounding.image import ResizeTransform
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.synthetic.demo_scene import DemoScene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.types import Backend

FRAME_RATE_HZ, CHUNK_SAMPLES = 15.0, SAMPLE_RATE_HZ // 50
NUM_VECTORS = 8
"""Vectors per head in one call of `ground`: the tokens of a short utterance."""
STAGES = ("encode_image", "encode_audio", "ground", "end_to_end")


def measure_matrix(
    bundle: str | Path,
    *,
    backends: Sequence[str],
    precisions: Sequence[str] = (),
    image_sizes: Sequence[int] = (),
    windows: Sequence[float] = (),
    seconds: float = 2.0,
    device: str = "auto",
    exports: Sequence[str | Path] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Every combination with the demo scene at 640x480, beside eager PyTorch in the same run.

    `image_sizes` are short sides in pixels and `windows` seconds; none: the bundle's own.
    Without `precisions`, every backend runs in those that it has; `exports` are further places of
    exports (see `open_variants`). `seconds` go into each stage of each combination; `on_progress`
    hears (done, total) of the measurements. What cannot run here is listed under "not_run" with
    its reason.
    """
    machine = machine_facts(NUM_CORES)
    variants, refused = open_variants(bundle, backends, precisions, device, exports)
    spec = variants[0].backend.spec
    image_sizes = tuple(image_sizes) or (spec.short_side_px,)
    windows = tuple(windows) or (spec.window_s,)
    bench = Bench(variants, refused, DemoScene(), seconds)
    total = 2 * len(image_sizes) + len(windows) + len(image_sizes) * len(windows)
    num_done = 0

    def told(measured: dict[str, Any]) -> dict[str, Any]:
        nonlocal num_done
        num_done += 1
        if on_progress is not None:
            on_progress(num_done, total)
        return measured

    of_image = {size: told(bench.encode_image(size)) for size in image_sizes}
    of_ground = {size: told(bench.ground(size)) for size in image_sizes}
    of_audio = {window_s: told(bench.encode_audio(window_s)) for window_s in windows}
    rows = []
    for size in image_sizes:
        for window_s in windows:
            whole = told(bench.end_to_end(size, window_s))
            stages = (of_image[size], of_audio[window_s], of_ground[size], whole)
            rows += [
                bench.row(variant, size, window_s, stages)
                for variant in variants
                if all(variant.label in stage for stage in stages)
            ]
    return {
        "input": f"640x480 at {FRAME_RATE_HZ:g} Hz, sound in chunks of 20 ms",
        "machine": {**machine, "rss_mb": resident_mb()},
        "model": {"bundle": Path(bundle).name, **_model_facts(variants[0].backend)},
        "baseline": variants[0].label,
        "seconds_per_stage": seconds,
        "num_warm_up_calls": WARM_UP,
        "rows": rows,
        "not_run": [asdict(one) for one in refused],
    }


class Bench:
    """The measurements of one run: each gives {variant's label: facts}, baseline included."""

    def __init__(
        self, variants: Sequence[Variant], refused: list[NotRun], scene: DemoScene, seconds: float
    ) -> None:
        self._variants, self._refused, self._seconds = variants, refused, seconds
        self._waveform = scene.waveform
        self._camera = scene.frame(BUSY_S).image

    def encode_image(self, size: int) -> dict[str, Any]:
        def task(variant: Variant) -> Task:
            image = _placed(self._camera, variant.backend, size)
            return timed(lambda: variant.backend.encode_image(image), variant.wait)

        return self._compare(task, image_size=size)

    def encode_audio(self, window_s: float) -> dict[str, Any]:
        def task(variant: Variant) -> Task:
            backend = with_window(variant.backend, window_s)
            window = _before(self._waveform, BUSY_S, backend.spec.num_window_samples)
            return timed(lambda: backend.encode_audio(window), variant.wait)

        return self._compare(task, window_s=window_s)

    def ground(self, size: int) -> dict[str, Any]:
        def task(variant: Variant) -> Task:
            backend = variant.backend
            tokens = backend.encode_image(_placed(self._camera, backend, size))
            silence = np.zeros(backend.spec.num_window_samples, np.float32)
            num_heads, num_channels, _ = backend.encode_audio(silence).shape
            rng = np.random.default_rng(0)
            vectors = rng.standard_normal((num_heads, NUM_VECTORS, num_channels))
            vectors = vectors.astype(np.float32)
            return timed(lambda: backend.similarity(tokens, vectors), variant.wait)

        return self._compare(task, image_size=size)

    def end_to_end(self, size: int, window_s: float) -> dict[str, Any]:
        players: dict[str, Player] = {}

        def task(variant: Variant) -> Task:
            backend = with_window(variant.backend, window_s)
            backend = backend.with_spec(replace(backend.spec, short_side_px=size))
            players[variant.label] = Player(backend, self._camera, self._waveform)
            return players[variant.label].step

        measured = self._compare(task, image_size=size, window_s=window_s)
        for label, facts in measured.items():
            facts |= players[label].load()
        return measured

    def row(
        self, variant: Variant, size: int, window_s: float, stages: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        patch_px = variant.backend.spec.patch_px
        placement = ResizeTransform.fit(*self._camera.shape[:2], size, patch_px)
        own = dict(zip(STAGES, (stage[variant.label] for stage in stages), strict=True))
        return {
            "backend": variant.name,
            "precision": variant.precision,
            "image": f"{placement.input_height}x{placement.input_width}",
            "image_size": size,
            "window_s": window_s,
            **{f"{name}_ms": facts["ms"] for name, facts in own.items()},
            "ratio": {name: facts["ratio"] for name, facts in own.items()},
            "num_calls": {name: facts["num_calls"] for name, facts in own.items()},
            "frame_rate_hz": own["end_to_end"]["frame_rate_hz"],
            "cpu_percent": own["end_to_end"]["cpu_percent"],
            "load_s": variant.load_s,
            "load_mb": variant.load_mb,
            "vram_mb": variant.vram_mb(),
            "facts": variant.backend.describe(),
        }

    def _compare(self, make: Callable[[Variant], Task], **place: Any) -> dict[str, Any]:
        tasks: dict[str, Task] = {}
        for variant in self._variants:
            try:
                task = make(variant)
                task()
            except EXPECTED_TROUBLE as error:
                self._refuse(NotRun(variant.name, variant.precision, one_line(error), **place))
                continue
            tasks[variant.label] = task
        taken = in_turns(tasks, self._seconds)
        baseline = taken.get(self._variants[0].label)
        return {
            label: {
                "ms": percentiles_ms(seconds),
                "num_calls": len(seconds),
                "ratio": None if baseline is None else _ratio(baseline, seconds),
            }
            for label, seconds in taken.items()
        }

    def _refuse(self, new: NotRun) -> None:
        """A stage that failed for a size alone fails for its combinations too: said once."""
        said = {(one.backend, one.precision, one.reason) for one in self._refused}
        if (new.backend, new.precision, new.reason) not in said:
            self._refused.append(new)


class Player:
    """The demo through a stream, frame by frame; a step counts from the frame to its heatmaps."""

    def __init__(
        self,
        backend: Backend,
        image: UInt8[np.ndarray, "H W 3"],
        waveform: Float32[np.ndarray, " s"],
    ) -> None:
        self._stream = GroundingStream(backend, StreamingConfig())
        self._image = image
        # From just before the busy moment on, and over again.
        self._waveform = np.roll(waveform, -round((BUSY_S - 2.0) * SAMPLE_RATE_HZ))
        self._num_frames = self._num_samples = 0
        self._wall_s: list[float] = []
        self._cpu_s: list[float] = []

    def step(self) -> float:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        self._num_frames += 1
        now_s = self._num_frames / FRAME_RATE_HZ
        while self._num_samples + CHUNK_SAMPLES <= now_s * SAMPLE_RATE_HZ:
            start = self._num_samples % (len(self._waveform) - CHUNK_SAMPLES)
            chunk = self._waveform[start : start + CHUNK_SAMPLES]
            stamp_ns = round(1e9 * self._num_samples / SAMPLE_RATE_HZ)
            self._stream.push_audio(chunk, stamp_ns, SAMPLE_RATE_HZ)
            self._num_samples += CHUNK_SAMPLES
        frame_s = time.perf_counter()
        self._stream.push_frame(self._image, round(1e9 * now_s))
        end_s = time.perf_counter()
        self._wall_s.append(end_s - wall_s)
        self._cpu_s.append(time.process_time() - cpu_s)
        return end_s - frame_s

    def load(self) -> dict[str, float]:
        """Frames a second that this could take with their sound, and the CPU they need at 15 Hz.

        100 % is one core. The first calls warm up and do not count.
        """
        wall_s, cpu_s = np.mean(self._wall_s[1 + WARM_UP :]), np.mean(self._cpu_s[1 + WARM_UP :])
        return {
            "frame_rate_hz": float(1.0 / wall_s),
            "cpu_percent": float(100.0 * FRAME_RATE_HZ * cpu_s),
        }


def _placed(image: np.ndarray, backend: Backend, size: int) -> np.ndarray:
    placement = ResizeTransform.fit(*image.shape[:2], size, backend.spec.patch_px)
    return placement.apply(image)


def _before(waveform: np.ndarray, moment_s: float, num_samples: int) -> np.ndarray:
    """The samples that end at a moment of the demo, which is played over and over."""
    stop = round(moment_s * SAMPLE_RATE_HZ)
    index = np.arange(stop - num_samples, stop) % len(waveform)
    return np.ascontiguousarray(waveform[index], np.float32)


def _ratio(baseline: list[float], seconds: list[float]) -> float:
    """How many times faster than the baseline, by the medians of the same run."""
    return float(np.median(baseline) / np.median(seconds))


def _model_facts(backend: Backend) -> dict[str, Any]:
    model = getattr(backend, "model", None)
    num = None if model is None else sum(parameter.numel() for parameter in model.parameters())
    return {"num_parameters": num, "window_s": backend.spec.window_s, "hop_s": backend.spec.hop_s}
