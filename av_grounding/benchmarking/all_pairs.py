"""Time and peak memory of the all-pairs score, naive against in blocks.

    python -m av_grounding.benchmarking.all_pairs --out DIR

Every measurement runs in a process of its own, whose memory is that of the measurement alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

METHODS = ("naive", "blocks", "compiled")
# The forward pass keeps the volume, its maximum over heads and what pooling needs of that; the
# backward pass adds a gradient of the same size.
NAIVE_COPIES = 3.5
MAX_SHARE = 0.6


def measure(
    method: str, batch: int, heads: int, tokens: int, cells: int, channels: int, *,
    sharpness: float, device: str, repeats: int,
) -> dict[str, Any]:  # fmt: skip
    """Forward and backward of one score matrix: seconds (the fastest), and peak memory in MiB.

    `cpu_seconds` is what the process itself computed: on a machine that others use, it tells more
    than the clock on the wall. Memory is what came on top of the inputs: resident memory on the
    CPU, allocations on CUDA.
    """
    import torch

    from av_grounding.training.losses import all_pairs, objectives

    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(batch, heads, channels, tokens, generator=generator)
    image = torch.randn(batch, heads, channels, cells, generator=generator)
    audio, image = (
        torch.nn.functional.normalize(x, dim=2).to(device).requires_grad_() for x in (audio, image)
    )

    def step() -> None:
        audio.grad = image.grad = None
        if method == "naive":
            peaks = objectives.head_max_peaks(audio, image, sharpness)
        else:
            compiled = method == "compiled"
            peaks = all_pairs.head_max_peaks(audio, image, sharpness, compiled=compiled)
        objectives.info_nce(10.0 * peaks.mean(dim=-1)).backward()
        if device == "cuda":
            torch.cuda.synchronize()

    is_cuda = device == "cuda"
    if method == "compiled":
        step()  # compiling takes time and memory of its own
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = reset_peak_rss()
    times, cpu_times = [], []
    for _ in range(repeats):
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        step()
        times.append(time.perf_counter() - began_s)
        cpu_times.append(time.process_time() - cpu_began_s)
    peak = torch.cuda.max_memory_allocated() if is_cuda else peak_rss()
    return {
        "seconds": min(times),
        "cpu_seconds": min(cpu_times),
        "peak_mib": (peak - before) / 2**20,
    }


def reset_peak_rss() -> int:
    """Forget the process's peak (Linux); returns what is resident now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def peak_rss() -> int:
    return _status_bytes("VmHWM")


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}: peak memory is measured on Linux alone")


def available_bytes(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def run_all(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per batch size and method, as they are measured."""
    methods = METHODS if args.compiled else METHODS[:2]
    for batch in args.batches:
        volume = batch**2 * args.heads * args.tokens * args.cells
        for method in methods:
            row = {"batch": batch, "method": method, "volume_mib": 4 * volume / 2**20}
            needed = 4 * volume * NAIVE_COPIES
            if method == "naive" and needed > MAX_SHARE * available_bytes(args.device):
                yield {**row, "seconds": None, "cpu_seconds": None, "peak_mib": None}
                continue
            values = [method, batch, args.heads, args.tokens, args.cells, args.channels]
            options = {
                "sharpness": args.sharpness, "device": args.device, "repeats": args.repeats
            }  # fmt: skip
            code = (
                "import json, sys; from av_grounding.benchmarking.all_pairs import measure; "
                "a, k = json.loads(sys.argv[1]); print(json.dumps(measure(*a, **k)))"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, json.dumps([values, options])],
                capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode:
                last = done.stderr.strip().rsplit("\n", 1)[-1]
                raise RuntimeError(f"{method} at a batch of {batch}: {last}")
            yield {**row, **json.loads(done.stdout)}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="all_pairs_bench", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--batches", type=int, nargs="+", default=[16, 64, 256])
    add("--heads", type=int, default=2)
    add("--tokens", type=int, default=8)
    add("--cells", type=int, default=196)
    add("--channels", type=int, default=64)
    add("--sharpness", type=float, default=float("inf"), help="inf: the papers' maximum")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--compiled", action="store_true", help="also blocks under torch.compile")
    add("--repeats", type=int, default=3)
    add("--out", type=Path, help="folder for all_pairs.json")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    rows = []
    heads = f"{'seconds':>9} {'CPU s':>8} {'peak MiB':>9}"
    print(f"{'batch':>6} {'method':>9} {'volume MiB':>11} {heads}")
    for row in run_all(args):
        rows.append(row)
        numbers = "does not fit".rjust(28)
        if row["seconds"] is not None:
            numbers = f"{row['seconds']:>9.3f} {row['cpu_seconds']:>8.3f} {row['peak_mib']:>9.1f}"
        print(f"{row['batch']:>6} {row['method']:>9} {row['volume_mib']:>11.1f} {numbers}")
    if args.out:
        from av_grounding.files import write_json

        args.out.mkdir(parents=True, exist_ok=True)
        settings = {k: v for k, v in vars(args).items() if k != "out"}
        settings["sharpness"] = str(settings["sharpness"])
        write_json(args.out / "all_pairs.json", {"settings": settings, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
