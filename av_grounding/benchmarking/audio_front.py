"""What keeping an audio front's frames saves, and what several windows in one call save.

Prints JSON: `python -m av_grounding.benchmarking.audio_front front|clips`. CPU time of one thread,
so that other programs on the machine disturb it little.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from av_grounding.config import default_bundle

WINDOW_S, HOP_S, RATE_HZ = 10.0, 0.5, 16_000
NUM_HOPS, NUM_ROUNDS = 5, 10
BATCHES = (1, 2, 4, 8, 16)


def measure_front(num_hops: int = NUM_HOPS, **options: Any) -> dict[str, Any]:
    """HuBERT of `options` (default: the Large of DenseAV) with random weights, hop by hop.

    Median CPU milliseconds of a whole window, of its front, of the front with kept frames and of
    the transformer, called in turns; the largest difference that keeping makes.
    """
    import torch

    from av_grounding.modeling.streaming_front import StreamingFront
    from av_grounding.modeling.transformer_backbones import HubertBackbone

    torch.manual_seed(0)
    torch.set_num_threads(1)
    backbone = HubertBackbone(**options).eval()
    stream = StreamingFront(
        backbone.front,
        concatenate=partial(torch.cat, dim=-1),
        receptive_samples=backbone.receptive_samples,
        stride_samples=backbone.stride_samples,
    )
    num_window, hop = round(WINDOW_S * RATE_HZ), round(HOP_S * RATE_HZ)
    sound = 0.1 * torch.randn(1, num_window + num_hops * hop)
    taken: dict[str, list[float]] = {}

    def cpu(name: str, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        began_s = time.thread_time()
        result = work()
        taken.setdefault(name, []).append(1e3 * (time.thread_time() - began_s))
        return result

    difference = 0.0
    with torch.inference_mode():
        backbone(sound[:, :num_window])
        stream(sound[:, :num_window], num_window)
        for number in range(1, num_hops + 1):
            window = sound[:, number * hop : number * hop + num_window]
            cpu("whole", lambda window=window: backbone(window))
            front = cpu("front", lambda window=window: backbone.front(window))
            kept = cpu("front_kept", lambda window=window: stream(window, hop))
            cpu("transformer", lambda kept=kept: backbone.encode_front(kept))
            difference = max(difference, float((kept - front).abs().max()))
    cpu_ms = {name: float(np.median(values)) for name, values in taken.items()}
    return {
        "window_s": WINDOW_S,
        "hop_s": HOP_S,
        "cpu_ms": cpu_ms,
        "ratio": cpu_ms["whole"] / (cpu_ms["front_kept"] + cpu_ms["transformer"]),
        "max_difference": difference,
    }


def measure_clips(bundle: str | None = None) -> dict[str, Any]:
    """CPU milliseconds per window for several windows in one call, taken in turns."""
    import torch

    from av_grounding.modeling.bundle import load_bundle

    torch.set_num_threads(1)
    loaded = load_bundle(bundle or default_bundle())
    rng = np.random.default_rng(0)
    shape = (max(BATCHES), loaded.spec.num_window_samples)
    windows = torch.from_numpy(0.1 * rng.standard_normal(shape).astype(np.float32))
    taken: dict[int, list[float]] = {size: [] for size in BATCHES}
    with torch.inference_mode():
        single = torch.cat([loaded.model.encode_audio(window[None]) for window in windows])
        difference = (loaded.model.encode_audio(windows) - single).abs().max()
        for _ in range(NUM_ROUNDS):
            for size in BATCHES:
                began_s = time.thread_time()
                loaded.model.encode_audio(windows[:size])
                taken[size].append(1e3 * (time.thread_time() - began_s) / size)
    return {
        "window_s": loaded.spec.window_s,
        "cpu_ms_per_window": {str(size): float(np.median(of)) for size, of in taken.items()},
        "max_difference": float(difference),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    measures = {"front": measure_front, "clips": measure_clips}
    parser.add_argument("what", choices=measures)
    print(json.dumps(measures[parser.parse_args().what](), indent=2))


if __name__ == "__main__":
    main()
