"""Compiled graphs of a bundle, built, compared with the eager model and put beside its weights.

What an export looks like is said in `exported`. An entry of `BUILDERS` writes a backend's graphs
into an empty directory and returns facts for export.json; the entry of the same name in
`exported.LOADERS` makes a backend of that directory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from av_grounding.backends.exported import EXPORT_FILE, FORMAT, load_exported
from av_grounding.backends.folding import is_resizable
from av_grounding.backends.graphs import Graphs, build_graphs
from av_grounding.backends.parity import BOUNDS, UNASKED, Bounds, Examples, compare, excesses
from av_grounding.backends.parity_report import parity_report, parity_table
from av_grounding.files import sha256, write_json, write_text
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.bundle_config import CONFIG_FILE, WEIGHTS_FILE, read_config
from av_grounding.types import Backend

PARITY_FILE, PARITY_TABLE = "parity.json", "parity.md"
PARTIAL = ".partial-"


@dataclass(frozen=True)
class Job:
    """What a builder needs to know; `calibration` is what int8 learns its ranges from."""

    bundle: Path
    graphs: Graphs
    directory: Path
    precision: str
    device: str
    calibration: Examples


def _build_cpu(job: Job) -> dict[str, Any]:
    from av_grounding.backends.cpu_build import build_cpu

    return build_cpu(
        job.graphs, job.directory, job.precision, job.calibration.images, job.calibration.waveforms
    )


def _build_tensorrt(job: Job) -> dict[str, Any]:
    """Engines fit one kind of GPU, so they lie in the user's cache and not in the bundle."""
    from av_grounding.backends.tensorrt import load_tensorrt

    load_tensorrt(job.bundle, job.device, job.precision, image_size=job.graphs.image_size)
    return {}


BUILDERS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "cpu": _build_cpu,
    "tensorrt": _build_tensorrt,
}
PRECISIONS = {
    "cpu": ("fp32", "bf16", "int8"),
    "tensorrt": ("fp32", "fp16", "bf16"),
}
DEVICES = {"cpu": "cpu", "tensorrt": "cuda"}
"""Where an export runs if no device is named."""


def export(
    bundle_directory: str | Path,
    out: str | Path,
    name: str,
    *,
    precision: str = "fp32",
    device: str = "auto",
    image_size: tuple[int, int] | None = None,
    calibration: Examples,
    examples: Examples,
    measure: Callable[[Backend], dict[str, float]] | None = None,
) -> dict[str, Any]:
    """Write the bundle `out` with graphs for backend `name`, and return the parity report.

    The graphs take images of `image_size` (H, W), by default that of a 4:3 camera. `examples` and
    `measure`, which gives mAP in [0, 1] per head, are what the export is judged by; without
    `measure` it is agreement on the examples alone.
    `out` is new, or a bundle of the same weights, whose graphs for this backend are replaced.
    It appears whole or not at all.

    Raises ValueError where the export does not stay within the bounds of its precision, which
    then is not written, ImportError or RuntimeError where this machine cannot make it, and
    OSError where `out` cannot be written.
    """
    bundle_directory, out = Path(bundle_directory), Path(out)
    check_request(bundle_directory, out, name, precision)
    with _temporary_beside(out) as work:
        directory = work / name
        directory.mkdir()
        report = _build(
            bundle_directory, directory, name, precision, device, image_size, calibration,
            examples, measure, BOUNDS[precision],
        )  # fmt: skip
        _publish(work, out, name, bundle_directory)
    return report


def export_to_cache(
    bundle_directory: str | Path, precision: str, examples: Examples, *, is_real: bool = True
) -> dict[str, Any]:
    """Put the graphs where `auto` looks for those of this processor; return the parity report.

    Precision "auto" is bf16 where the processor computes in it and `examples`, which `is_real`
    says are no mere noise, agree within `UNASKED`; else fp32. Raises as `export` does.
    """
    from av_grounding.backends.kept import directory_of

    bundle_directory = Path(bundle_directory)
    out = directory_of(bundle_directory)
    if precision == "auto" and is_real and _computes_in_bf16():
        with suppress(ValueError):
            return _to_cache(bundle_directory, out, "bf16", examples, UNASKED)
    precision = "fp32" if precision == "auto" else precision
    return _to_cache(bundle_directory, out, precision, examples, BOUNDS[precision])


def _to_cache(
    bundle_directory: Path, out: Path, precision: str, examples: Examples, bounds: Bounds
) -> dict[str, Any]:
    with _temporary_beside(out) as work:
        directory = work / "cpu"
        directory.mkdir()
        report = _build(
            bundle_directory, directory, "cpu", precision, "cpu", None, examples, examples, None,
            bounds,
        )  # fmt: skip
        if out.exists():
            os.rename(out, work / "old")
        os.rename(directory, out)
    return report


def _computes_in_bf16() -> bool:
    from av_grounding.backends.openvino_import import shared_core

    return "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _build(
    bundle_directory: Path,
    directory: Path,
    name: str,
    precision: str,
    device: str,
    image_size: tuple[int, int] | None,
    calibration: Examples,
    examples: Examples,
    measure: Callable[[Backend], dict[str, float]] | None,
    bounds: Bounds,
) -> dict[str, Any]:
    """Fill `directory` with graphs, facts and the parity report, which has to stay in bounds."""
    from av_grounding.backends.regions import with_regions
    from av_grounding.backends.torch_eager import TorchBackend
    from av_grounding.modeling.region_model import RegionModel

    device = DEVICES[name] if device == "auto" else device
    bundle = load_bundle(bundle_directory)
    any_size = name == "cpu" and is_resizable(bundle.model)
    graphs = build_graphs(bundle, image_size, is_any_size=any_size)
    job = Job(bundle_directory, graphs, directory, precision, device, calibration)
    _write_facts(job, name, BUILDERS[name](job))
    candidate = load_exported(bundle_directory, name, device, directory)
    reference: Backend = TorchBackend(bundle, "cpu")
    if isinstance(bundle.model, RegionModel):
        candidate, reference = (
            with_regions(one, bundle_directory) for one in (candidate, reference)
        )
    parity = compare(reference, candidate, examples)
    maps = {}
    if measure is not None:
        before, after = measure(reference), measure(candidate)
        maps = {head: (before[head], after[head]) for head in before}
    if problems := excesses(parity, maps, bounds):
        raise ValueError(
            f"the export differs too much from the eager model ({'; '.join(problems)}) and "
            "was not written: use a higher precision"
        )
    report = parity_report(
        parity, maps, precision, bounds, graphs.image_size, candidate.describe()
    )
    write_json(directory / PARITY_FILE, report)
    write_text(directory / PARITY_TABLE, parity_table(report))
    return report


def check_request(bundle_directory: Path, out: Path, name: str, precision: str) -> None:
    """Refuse what cannot work before the minutes that an export takes."""
    if name not in BUILDERS:
        raise ValueError(f"backend {name!r}; expected one of {', '.join(BUILDERS)} for an export")
    if precision not in PRECISIONS[name]:
        raise ValueError(
            f"precision {precision!r}; expected one of {', '.join(PRECISIONS[name])} for backend "
            f"{name}"
        )
    config = read_config(bundle_directory)
    if config.get("type") == "region_model" and name != "cpu":
        raise ValueError(
            f"{bundle_directory} is a region_model, of which there are graphs for cpu alone: "
            "on a GPU backend torch runs it as it is"
        )
    weights = config["weights"]["sha256"]
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ValueError(f"{out} is no directory; name a new one, or a bundle")
    if out.is_dir() and any(out.iterdir()):
        if not (out / CONFIG_FILE).is_file():
            raise ValueError(f"{out} is neither empty nor a bundle; name a new directory")
        if read_config(out)["weights"]["sha256"] != weights:
            raise ValueError(
                f"{out} holds another model than {bundle_directory}; name a new directory"
            )


def _write_facts(job: Job, name: str, facts: dict[str, Any]) -> None:
    content = {
        "format": FORMAT,
        "backend": name,
        "precision": job.precision,
        "device": job.device,
        "image_size": list(job.graphs.image_size),
        "num_window_samples": job.graphs.spec.num_window_samples,
        "weights": read_config(job.bundle)["weights"]["sha256"],
        "files": {path.name: sha256(path) for path in sorted(job.directory.iterdir())},
        **facts,
    }
    write_json(job.directory / EXPORT_FILE, content)


@contextmanager
def _temporary_beside(out: Path) -> Iterator[Path]:
    """A directory on the file system of `out`, gone at the end."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in out.parent.glob(f".{out.name}{PARTIAL}*"):
        if not _is_running(left.name.rpartition("-")[2]):
            shutil.rmtree(left, ignore_errors=True)
    work = out.with_name(f".{out.name}{PARTIAL}{os.getpid()}")
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_running(process: str) -> bool:
    """Whether another process of this machine has that number."""
    if not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _publish(work: Path, out: Path, name: str, bundle_directory: Path) -> None:
    """Move the finished work to where it is looked for."""
    if not (out / CONFIG_FILE).is_file():
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copyfile(bundle_directory / file, work / file)
        # Renaming onto an empty directory replaces it.
        os.rename(work, out)
        return
    old = work / "old"
    if (out / name).exists():
        os.rename(out / name, old)
    os.rename(work / name, out / name)
