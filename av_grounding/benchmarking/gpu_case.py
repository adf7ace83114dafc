"""One bundle on one backend, in a process of its own: how long it takes from the start on.

`python -m av_grounding.benchmarking.gpu_case BUNDLE BACKEND PRECISION DEVICE HxW NUM` prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.streaming.pooling import answer, pool
from av_grounding.types import Backend, HeadAnswer

NUM_WARM_UP = 5


def ground_window(
    backend: Backend, image: UInt8[np.ndarray, "H W 3"], window: Float32[np.ndarray, " s"]
) -> dict[str, HeadAnswer]:
    """Every head's answer to an image for the time mean of a window."""
    tokens, heard = backend.encode_image(image), backend.encode_audio(window)
    weights = np.ones(heard.shape[2], np.float32)
    queries = {
        head: pool(of_head.T, weights)
        for head, of_head in zip(backend.spec.head_names, heard, strict=True)
    }
    return answer(backend, tokens, queries, heard.shape[1])


def measure_case(
    bundle: str | Path,
    name: str,
    precision: str,
    device: str,
    image_size: tuple[int, int],
    num_calls: int,
) -> dict[str, Any]:
    """Medians in milliseconds of each encoder, of both, and from arrays to heatmaps.

    `start_s` is from loading to the first answer, `memory_mb` what that took of the GPU.
    """
    import torch

    is_cuda = device.startswith("cuda")
    wait = torch.cuda.synchronize if is_cuda else lambda: None
    before = used_mb() if is_cuda else 0.0
    began_s = time.perf_counter()
    backend = load(Path(bundle), name, precision, device, image_size)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*image_size, 3), np.uint8)
    window = 0.1 * rng.standard_normal(backend.spec.num_window_samples, np.float32)

    def pair() -> None:
        backend.encode_image(image)
        backend.encode_audio(window)

    def end_to_end() -> None:
        for one in ground_window(backend, image, window).values():
            _ = one.heatmap

    end_to_end()
    wait()
    start_s = time.perf_counter() - began_s
    calls = {
        "image_ms": lambda: backend.encode_image(image),
        "audio_ms": lambda: backend.encode_audio(window),
        "pair_ms": pair,
        "end_to_end_ms": end_to_end,
    }
    return {
        "start_s": start_s,
        **{key: median_ms(call, wait, num_calls) for key, call in calls.items()},
        "memory_mb": used_mb() - before if is_cuda else None,
    }


def load(
    bundle: Path, name: str, precision: str, device: str, image_size: tuple[int, int]
) -> Backend:
    from av_grounding.backends import load_backend

    if name == "torch-compiled":
        from av_grounding.backends.torch_cuda import load_torch_cuda
        from av_grounding.modeling.bundle import load_bundle

        return load_torch_cuda(load_bundle(bundle), device, precision)
    if name == "tensorrt":
        from av_grounding.backends.tensorrt import load_tensorrt

        return load_tensorrt(bundle, device, precision, image_size=image_size)
    return load_backend(bundle, name, device)


def used_mb() -> float:
    """Memory of the GPU that is taken, by whomever."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def median_ms(call: Callable[[], object], wait: Callable[[], object], num_calls: int) -> float:
    durations = []
    for index in range(num_calls + NUM_WARM_UP):
        began_s = time.perf_counter()
        call()
        wait()
        if index >= NUM_WARM_UP:
            durations.append(time.perf_counter() - began_s)
    return 1e3 * float(np.median(durations))


def main(arguments: list[str]) -> int:
    bundle, name, precision, device, size, num = arguments
    height, width = map(int, size.split("x"))
    try:
        result = measure_case(bundle, name, precision, device, (height, width), int(num))
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
