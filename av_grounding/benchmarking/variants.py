"""The ways to run a bundle that are measured beside each other, and why others are not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from av_grounding.backends import EXPECTED_TROUBLE, load_backend
from av_grounding.backends.economy import settle_threads
from av_grounding.benchmarking.machine import resident_mb
from av_grounding.types import Backend

EAGER = "torch"
"""PyTorch without any compiler, in float32: what all others are compared with."""
ON_GPU = ("torch-compiled", "tensorrt")


@dataclass(frozen=True)
class Variant:
    """A loaded backend."""

    name: str
    precision: str
    backend: Backend
    load_s: float
    load_mb: float
    """Resident memory that loading it added to the process."""

    @property
    def label(self) -> str:
        return f"{self.name} {self.precision}"

    @property
    def is_on_gpu(self) -> bool:
        return str(self.backend.describe().get("device", "")).startswith("cuda")

    def wait(self) -> None:
        """Return once the device has done all that it was given."""
        if self.is_on_gpu:
            import torch

            torch.cuda.synchronize()

    def vram_mb(self) -> float | None:
        """Memory of the GPU in use, by all variants together; None without one."""
        if not self.is_on_gpu:
            return None
        import torch

        free, total = torch.cuda.mem_get_info()
        return (total - free) / 2**20


@dataclass(frozen=True)
class NotRun:
    """A place in the matrix that stays empty, with the reason; None: for all sizes."""

    backend: str
    precision: str
    reason: str
    image_size: int | None = None
    window_s: float | None = None


def open_variants(
    bundle: str | Path,
    names: Sequence[str],
    precisions: Sequence[str] = (),
    device: str = "auto",
    exports: Sequence[str | Path] = (),
) -> tuple[list[Variant], list[NotRun]]:
    """Eager PyTorch first, then every other backend in every precision that can be loaded here.

    Without `precisions`, each in those that it has. Exports are looked for in the bundle and in
    `exports`, bundles that `av-grounding export --out` wrote from it.
    """
    bundle, roots = Path(bundle), [Path(bundle), *map(Path, exports)]
    variants = [_loaded(EAGER, "fp32", lambda: load_backend(bundle, EAGER, device))]
    refused = []
    for name in names:
        for precision in precisions or _precisions_of(name, roots):
            if (name, precision) == (EAGER, "fp32"):
                continue
            try:
                load = partial(_load, bundle, name, precision, device, roots)
                variants.append(_loaded(name, precision, load))
            except EXPECTED_TROUBLE as error:
                refused.append(NotRun(name, precision, one_line(error)))
    return variants, refused


def one_line(error: BaseException) -> str:
    """What an error says, for a table: paths below the current folder from there on."""
    text = " ".join(str(error).split()).replace(f"{Path.cwd()}/", "")
    return text or type(error).__name__


def _loaded(name: str, precision: str, load: Callable[[], Backend]) -> Variant:
    before_mb, began_s = resident_mb(), time.perf_counter()
    backend = load()
    load_s = time.perf_counter() - began_s
    settle_threads(backend)
    return Variant(name, precision, backend, load_s, resident_mb() - before_mb)


def _load(bundle: Path, name: str, precision: str, device: str, roots: Sequence[Path]) -> Backend:
    gpu = "cuda" if device == "auto" else device
    if name == "torch-compiled":
        from av_grounding.backends.torch_cuda import load_torch_cuda
        from av_grounding.modeling.bundle import load_bundle

        return load_torch_cuda(load_bundle(bundle), gpu, precision)
    if name == EAGER:
        raise ValueError(f"backend {name} runs in fp32 alone")
    from av_grounding.backends.exported import export_command

    if precision in (found := _exports_of(name, roots)):
        return load_backend(found[precision], name, device)
    if name == "tensorrt":
        from av_grounding.backends.tensorrt import load_tensorrt

        return load_tensorrt(bundle, gpu, precision)
    raise FileNotFoundError(
        f"no export in {precision}: run {export_command(bundle, name)} --precision {precision}"
    )


def _precisions_of(name: str, roots: Sequence[Path]) -> Sequence[str]:
    if name in ON_GPU:
        return tuple(_exports_of(name, roots)) or ("fp16",)
    return tuple(_exports_of(name, roots)) or ("fp32",)


def _exports_of(name: str, roots: Sequence[Path]) -> dict[str, Path]:
    """The roots that hold an export for a backend, by precision; the first of each counts."""
    from av_grounding.backends.exported import EXPORT_FILE

    found: dict[str, Path] = {}
    for root in roots:
        path = root / name / EXPORT_FILE
        if path.is_file():
            found.setdefault(str(json.loads(path.read_text())["precision"]), root)
    return found
