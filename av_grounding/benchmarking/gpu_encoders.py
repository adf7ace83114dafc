"""How fast the encoders run on a device, at the size of DenseAV, and how fast they could.

Random weights: the time of a forward pass does not depend on them. One image and one window at a
time, as on a robot. `gpu_speed` runs this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from av_grounding.backends.compiled import CompiledBackend
from av_grounding.backends.cuda_graph import call_durations_ms
from av_grounding.backends.graphs import Graphs, build_graphs
from av_grounding.backends.precision import in_precision
from av_grounding.benchmarking.gpu_case import ground_window
from av_grounding.benchmarking.gpu_ceilings import Ceilings, Demand, demand
from av_grounding.modeling.bundle import Bundle
from av_grounding.modeling.denseav import denseav_config, denseav_spec
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.types import Grounding

IMAGE_SIZE = (224, 224)
TEMPERATURE = 1.0
NUM_WARM_UP = 10
NUM_EAGER_CALLS = 50
TARGETS_MS = {"image": 0.6, "audio": 2.0}
TARGET_SPEED_UP = 8.0


def denseav_sized_bundle(**changes: Any) -> Bundle:
    """DenseAV's architecture with random weights; `changes` are `ModelConfig` fields."""
    torch.manual_seed(0)
    model = DualEncoder(denseav_config(**changes)).eval()
    return Bundle(model, denseav_spec(model, TEMPERATURE), "denseav-sized")


def measure_backend(
    backend: CompiledBackend,
    image: np.ndarray,
    waveform: np.ndarray,
    num_frames: int,
    *,
    publish: Callable[[Grounding], object] = lambda grounding: [
        one.heatmap.tobytes() for one in grounding.heads.values()
    ],
) -> dict[str, Any]:
    """Milliseconds per encoder on the device, of both at once, and from arrays to heatmaps."""
    lanes = {"image": (backend.image_runner, image), "audio": (backend.audio_runner, waveform)}
    encoders = {
        name: percentiles(lane.durations_ms(array, num_frames))
        for name, (lane, array) in lanes.items()
    }

    def both() -> None:
        tokens = backend.image_runner(image)
        backend.audio_runner(waveform).numpy()
        if tokens.ready is not None:
            tokens.ready.synchronize()

    def end_to_end() -> None:
        publish(Grounding(ground_window(backend, image, waveform), stamp_ns=0))

    return {
        "encoder_ms": encoders,
        "both_on_two_streams_ms": percentiles(wall_ms(both, num_frames)),
        "end_to_end_ms": percentiles(wall_ms(end_to_end, num_frames)),
        "num_frames": num_frames,
        "backend": backend.describe(),
    }


def eager_ms(graphs: Graphs, device: torch.device, num_calls: int) -> dict[str, float]:
    """Median milliseconds of the encoders in float32, called as they are."""
    medians = {}
    for graph in (graphs.image, graphs.audio):
        # A copy: the bundle, whose weights it shares, is measured on other backends too.
        module = deepcopy(graph.module).to(device)
        inputs = [tensor.to(device) for tensor in graph.inputs]
        with torch.inference_mode():
            call = lambda module=module, inputs=inputs: module(*inputs)  # noqa: E731
            call_durations_ms(call, device, 5)
            medians[graph.name] = float(np.median(call_durations_ms(call, device, num_calls)))
    return medians


def demands(graphs: Graphs) -> dict[str, Demand]:
    """What each encoder must move and compute; in the precision of `graphs`."""
    return {
        graph.name: demand(graph.module, graph.inputs) for graph in (graphs.image, graphs.audio)
    }


def compare(
    encoder_ms: Mapping[str, Mapping[str, float]],
    eager: Mapping[str, float],
    needed: Mapping[str, Demand],
    ceilings: Ceilings,
) -> list[dict[str, Any]]:
    """A row per encoder: measured, against eager and against the floor, beside the targets."""
    rows = []
    for name, durations in encoder_ms.items():
        median_ms, floor_ms = durations["p50"], needed[name].floor_ms(ceilings)
        speed_up = eager[name] / median_ms
        rows.append(
            {
                "encoder": name,
                "p50_ms": median_ms,
                "p99_ms": durations["p99"],
                "target_ms": TARGETS_MS[name],
                "eager_fp32_ms": eager[name],
                "speed_up": speed_up,
                "target_speed_up": TARGET_SPEED_UP,
                "num_bytes": needed[name].num_bytes,
                "num_flops": needed[name].num_flops,
                "floor_ms": floor_ms,
                "times_floor": median_ms / floor_ms,
                "is_met": median_ms <= TARGETS_MS[name] and speed_up >= TARGET_SPEED_UP,
            }
        )
    return rows


def measure(
    bundle: Bundle,
    backend: CompiledBackend,
    precision: str,
    num_frames: int,
    ceilings: Ceilings,
    *,
    image_size: tuple[int, int] = IMAGE_SIZE,
    num_eager_calls: int = NUM_EAGER_CALLS,
) -> dict[str, Any]:
    """Everything about one backend, against eager float32 on the same device."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*image_size, 3), dtype=np.uint8)
    waveform = random.standard_normal(bundle.spec.num_window_samples).astype(np.float32)
    graphs = build_graphs(bundle, image_size)
    needed = demands(in_precision(graphs, precision))
    eager = eager_ms(graphs, backend.device, num_eager_calls)
    report = measure_backend(backend, image, 0.1 * waveform, num_frames)
    report["encoders"] = compare(report.pop("encoder_ms"), eager, needed, ceilings)
    return report


def percentiles(durations_ms: Sequence[float]) -> dict[str, float]:
    values = np.percentile(durations_ms, (50, 90, 99, 100)).tolist()
    return dict(zip(("p50", "p90", "p99", "max"), values, strict=True))


def wall_ms(call: Callable[[], object], num_calls: int) -> list[float]:
    """Milliseconds of each call by the clock, after some that do not count."""
    durations = []
    for index in range(num_calls + NUM_WARM_UP):
        began = time.perf_counter()
        call()
        if index >= NUM_WARM_UP:
            durations.append(1e3 * (time.perf_counter() - began))
    return durations


def markdown(report: Mapping[str, Any]) -> str:
    """The report as tables; what was skipped stands below them."""
    lines = ["# Encoders on a GPU", ""]
    if "machine" in report:
        facts = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
        ceilings = report["ceilings"]
        lines += [
            f"Measured on {facts}. A copy within memory moves {ceilings['bytes_per_s'] / 1e9:.0f} "
            f"GB/s, a matrix product computes {ceilings['flops_per_s'] / 1e12:.0f} TFLOP/s.",
            "",
            "| backend | encoder | p50 ms | p99 ms | eager fp32 ms | faster by | floor ms "
            "| times the floor | targets |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
    for name, measured in report["backends"].items():
        for row in measured["encoders"]:
            lines.append(
                f"| {name} | {row['encoder']} | {row['p50_ms']:.3f} | {row['p99_ms']:.3f} | "
                f"{row['eager_fp32_ms']:.2f} | {row['speed_up']:.1f} | {row['floor_ms']:.3f} | "
                f"{row['times_floor']:.1f} | {'met' if row['is_met'] else 'missed'} |"
            )
    for name, measured in report["backends"].items():
        for row in ("both_on_two_streams_ms", "end_to_end_ms"):
            told = ", ".join(f"{key} {value:.3f}" for key, value in measured[row].items())
            label = row.removesuffix("_ms").replace("_", " ")
            lines += ["", f"{name}, {label}, {measured['num_frames']} frames, ms: {told}."]
    lines += [f"- skipped: {what} ({why})" for what, why in report["skipped"].items()]
    return "\n".join(lines) + "\n"
