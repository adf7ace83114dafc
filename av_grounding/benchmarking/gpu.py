"""`python -m av_grounding.benchmarking.gpu`: all there is to know of a GPU, in one run.

The tests that need one, the encoders at the size of DenseAV against what the GPU could do, and a
table of every bundle on every backend. Every figure is measured in this run, on this machine. What
cannot be measured here is named and left out: without a GPU that is everything.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from av_grounding.backends import has_regions
from av_grounding.backends.compiled import CompiledBackend
from av_grounding.backends.image_sizes import default_image_size
from av_grounding.backends.machine import cuda_device, gpu_facts
from av_grounding.backends.precision import dtype_of
from av_grounding.backends.tensorrt import load_tensorrt
from av_grounding.backends.torch_cuda import load_torch_cuda
from av_grounding.benchmarking.gpu_ceilings import measure_ceilings
from av_grounding.benchmarking.gpu_encoders import (
    IMAGE_SIZE,
    denseav_sized_bundle,
    markdown,
    measure,
)
from av_grounding.benchmarking.gpu_table import Subject, measure_table, table
from av_grounding.config import find_bundles
from av_grounding.files import write_json, write_text
from av_grounding.modeling.bundle import Bundle, save_bundle
from av_grounding.modeling.bundle_config import read_config, spec_from_json

BACKENDS = ("torch-compiled", "tensorrt")
CAMERA_INPUT = (224, 296)
"""(H, W) that a DenseAV bundle sees of a 4:3 camera."""
TESTS = Path(__file__).parents[2] / "tests"


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    report = measure_gpu(args.device, args.precision, args.num, args.backends)
    text = markdown(report)
    if "machine" in report:  # else all of it would be skipped for the one reason given
        report["tests"] = run_tests(TESTS)
        with _subjects() as subjects:
            rows = measure_table(subjects, args.device, max(10, args.num // 100))
            report["table"] = []
            for row in rows:
                print(f"{row['bundle']} on {row['backend']}", file=sys.stderr, flush=True)
                report["table"].append(row)
        text += f"\nTests marked gpu: {report['tests']}\n\n{table(report['table'])}"
    print(text, end="")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        write_json(args.out / "gpu_speed.json", report)
        write_text(args.out / "gpu_speed.md", text)
    return 0


def measure_gpu(
    device: str, precision: str, num_frames: int, backends: Sequence[str]
) -> dict[str, Any]:
    """The report; `skipped` says of each backend that could not be measured why."""
    skipped: dict[str, str] = {}
    report: dict[str, Any] = {"precision": precision, "backends": {}, "skipped": skipped}
    try:
        place = cuda_device(device, precision)
    except RuntimeError as error:
        skipped.update(dict.fromkeys(backends, str(error)))
        return report
    ceilings = measure_ceilings(place, dtype_of(precision))
    report["machine"] = {**gpu_facts(place), "torch": torch.__version__}
    report["ceilings"] = asdict(ceilings)
    bundle = denseav_sized_bundle()
    for name in backends:
        try:
            backend = _load(name, bundle, device, precision)
            report["backends"][name] = measure(bundle, backend, precision, num_frames, ceilings)
        except (ImportError, RuntimeError, ValueError, OSError) as error:
            skipped[name] = str(error)
    return report


def run_tests(folder: Path) -> str:
    """The last line that pytest says of the tests marked gpu; why there is none else."""
    if not folder.is_dir():
        return "skipped: no folder tests beside the package, as in an installed one"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--no-header", str(folder)]
    done = subprocess.run(command, cwd=folder.parent, stdout=subprocess.PIPE, text=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return lines[-1] if lines else f"skipped: pytest ended with {done.returncode}"


@contextmanager
def _subjects() -> Iterator[list[Subject]]:
    """DenseAV's pair with random weights and the shipped bundles."""
    with tempfile.TemporaryDirectory() as folder:
        pair = denseav_sized_bundle()
        bundle = save_bundle(folder, pair.model, pair.spec, name=pair.name)
        subjects = [Subject(pair.name, bundle, CAMERA_INPUT)]
        for shipped in find_bundles():
            if has_regions(shipped):
                continue  # whose graphs are the CPU's alone
            spec = spec_from_json(read_config(shipped)["spec"])
            subjects.append(Subject(shipped.name, shipped, default_image_size(spec)))
        yield subjects


def _load(name: str, bundle: Bundle, device: str, precision: str) -> CompiledBackend:
    if name == "torch-compiled":
        return load_torch_cuda(bundle, device, precision)
    with tempfile.TemporaryDirectory() as folder:
        directory = save_bundle(
            folder, bundle.model, bundle.spec, name=bundle.name, dtype=torch.float32
        )
        return load_tensorrt(directory, device, precision, image_size=IMAGE_SIZE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num", type=int, default=10_000, metavar="N", help="frames (10000)")
    parser.add_argument("--precision", choices=("fp16", "bf16"), default="bf16")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="write gpu_speed.json and gpu_speed.md here")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
