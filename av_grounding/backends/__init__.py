"""Ways to run a bundle. `load_backend` is the one place that chooses."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_grounding.types import Backend

if TYPE_CHECKING:
    from av_grounding.config import GroundingConfig

logger = logging.getLogger(__name__)
BACKENDS = ("auto", "torch", "torch-compiled", "cpu", "tensorrt")
FOR_REGIONS = ("auto", "torch", "cpu")
EXPORTED_FOR = {"cpu": ("cpu",), "cuda": ("tensorrt",)}
"""Device -> exports that `auto` takes, the best first."""
SWITCH = "AV_GROUNDING_COMPILE"
"""Environment variable: with 0 `auto` neither compiles nor takes what was compiled by itself."""
EXPECTED_TROUBLE = (ImportError, OSError, RuntimeError, ValueError)


def load_backend(
    bundle: str | Path, name: str = "auto", device: str = "auto", *, compiles: bool = True
) -> Backend:
    """Load a bundle directory on a backend; `auto` takes the best that works here.

    On a CPU that is the bundle compiled for this processor, once, at its first use (see `kept`);
    without `compiles`, only where the bundle has an export.

    A named backend is that one or an error in one line with the remedy: FileNotFoundError where
    the bundle or its export is missing, ImportError for a runtime that is not installed,
    RuntimeError for a device that is not there, ValueError for files that do not fit.
    What `auto` took, and why, is in the backend's `describe()["reason"]` and in the log.
    """
    bundle = Path(bundle)
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; expected one of {', '.join(BACKENDS)}")
    if has_regions(bundle):
        return load_regions(bundle, name, device, compiles=compiles)
    return _load(bundle, name, device, compiles)


def load_configured(
    bundle: str | Path, config: GroundingConfig, *, compiles: bool = True, proposals: str = ""
) -> Backend:
    """The backend that the configuration names, or what `backend_fallback` allows instead of it.

    The reason in `describe()` then begins with what was wrong. With `proposals` it answers for
    regions (see `load_regions`). Raises as `load_backend` does.
    """
    load = partial(load_regions, proposals=proposals) if proposals else load_backend
    try:
        backend = load(bundle, config.backend, config.device, compiles=compiles)
    except EXPECTED_TROUBLE as error:
        if not config.backend_fallback or (config.backend, config.device) == ("auto", "auto"):
            raise
        backend = load(bundle, compiles=compiles)
        wanted = f"{config.backend} on device {config.device}"
        reason = f"fallback from {wanted}: {error}; {backend.describe()['reason']}"
        logger.warning("backend %s, %s", backend.name, reason)
        backend = _with_reason(backend, reason)
    if config.num_sources:
        # Not under the fallback: another backend has as many sources.
        return backend.with_spec(backend.spec.with_sources(config.num_sources))
    return backend


def _load(bundle: Path, name: str, device: str, compiles: bool) -> Backend:
    if name == "auto":
        return _load_best(bundle, device, compiles)
    return _load_named(bundle, name, device)


def _load_named(bundle: Path, name: str, device: str) -> Backend:
    from av_grounding.backends.exported import has_export, load_exported

    if name == "torch":
        return _load_torch(bundle, _torch_device() if device == "auto" else device)
    if name == "torch-compiled":
        from av_grounding.backends.torch_cuda import load_torch_cuda
        from av_grounding.modeling.bundle import load_bundle

        return load_torch_cuda(load_bundle(bundle), "cuda" if device == "auto" else device)
    if name == "tensorrt" and not has_export(bundle, name):
        from av_grounding.backends.tensorrt import load_tensorrt

        return load_tensorrt(bundle, "cuda" if device == "auto" else device)
    return load_exported(bundle, name, device)


def _load_best(bundle: Path, device: str, compiles: bool) -> Backend:
    from av_grounding.backends.exported import export_command, has_export

    place = _torch_device() if device == "auto" else device
    kind = place.partition(":")[0]
    reasons = []
    for name in EXPORTED_FOR.get(kind, ()):
        if not has_export(bundle, name):
            reasons.append(f"no export for {name} ({export_command(bundle, name)})")
            continue
        try:
            backend = _load_named(bundle, name, place)
        except EXPECTED_TROUBLE as error:
            reasons.append(f"{name} does not work: {error}")
            logger.warning("backend %s", reasons[-1])
            continue
        return _told(backend, f"auto: the bundle has an export for {name}")
    if kind == "cpu" and os.environ.get(SWITCH) == "0":
        reasons.append(f"compiling at the first use is switched off ({SWITCH}=0)")
    elif kind == "cpu" and compiles:
        from av_grounding.backends.kept import load_kept

        try:
            return _told(load_kept(bundle), "auto: compiled for this processor at its first use")
        except EXPECTED_TROUBLE as error:
            reasons.append(f"not compiled: {error}")
            logger.warning("backend torch: %s", reasons[-1])
    return _told(_load_torch(bundle, place), "; ".join([f"auto on {kind}", *reasons]))


def _load_torch(bundle: Path, device: str) -> Backend:
    from av_grounding.backends.torch_eager import TorchBackend
    from av_grounding.modeling.bundle import load_bundle

    return TorchBackend(load_bundle(bundle), device)


def load_regions(
    bundle: str | Path,
    name: str = "auto",
    device: str = "auto",
    *,
    compiles: bool = True,
    **options: Any,
) -> Backend:
    """A bundle as a backend that answers for regions of the picture.

    Its encoders run as `load_backend` has them on a CPU, on another device by PyTorch. A bundle of
    a dual encoder answers with the same weights, by the regions that `options` say (fields of
    `RegionConfig`, such as `proposals="grid"`). Raises as `load_backend`; ValueError for a backend
    whose graphs give no features to take means of.
    """
    if name not in FOR_REGIONS:
        raise ValueError(
            f"backend {name!r} for regions, of whose features it has no graph; expected one of "
            f"{', '.join(FOR_REGIONS)}"
        )
    from av_grounding.backends.regions import with_regions

    bundle = Path(bundle)
    place = _torch_device() if device == "auto" else device
    if name == "auto" and not place.startswith("cpu"):
        reason = f"auto on {place}: graphs of this device hold no features of regions"
        encoders = _told(_load_torch(bundle, place), reason)
    else:
        encoders = _load(bundle, name, place if name == "auto" else device, compiles)
    return with_regions(encoders, bundle, **options)


def has_regions(bundle: Path) -> bool:
    """Whether a bundle's own model answers for regions."""
    from av_grounding.modeling.bundle_config import read_config

    return read_config(bundle).get("type") == "region_model"


def _torch_device() -> str:
    """ "cuda" where PyTorch sees such a device; it is asked only where there is a driver."""
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(driver)
    except OSError:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _told(backend: Backend, reason: str) -> Backend:
    logger.info("backend %s: %s", backend.name, reason)
    return _with_reason(backend, reason)


def _with_reason(backend: Backend, reason: str) -> Backend:
    backend.reason = reason
    return backend
