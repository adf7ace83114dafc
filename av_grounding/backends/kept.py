"""Graphs that this machine compiled at a bundle's first use, kept in the user's cache.

A directory a bundle, as `exported` describes it. The key names all that makes it unportable: the
weights, the window, the processor, the runtime and how graphs are made. Nothing in the cache is
irreplaceable: it may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from av_grounding.backends.cpu import DEVICE
from av_grounding.backends.engine_cache import build_lock, check_writable, user_cache
from av_grounding.backends.exported import EXPORT_FILE, load_exported
from av_grounding.backends.openvino_import import shared_core
from av_grounding.modeling.bundle_config import read_config, spec_from_json
from av_grounding.types import Backend

LOGGER = logging.getLogger(__name__)
GRAPH_VERSION = "2"
"""Raised with every change of what a graph computes or takes."""


def load_kept(bundle: Path) -> Backend:
    """The bundle compiled for this processor; it is compiled now where it never was.

    That takes a minute, in a process of its own, whose memory is gone afterwards. Of several
    processes that ask at once one compiles and the others wait. Raises ImportError without
    OpenVINO, OSError where the cache cannot be written, RuntimeError where compiling fails, and
    ValueError for a bundle that is damaged.
    """
    directory = directory_of(bundle)
    if (backend := _load_or_warn(bundle, directory)) is not None:
        return backend
    check_writable(directory.parent)
    with build_lock(directory.with_suffix(".lock")):
        if (backend := _load_or_warn(bundle, directory)) is not None:
            return backend
        LOGGER.warning(
            "compiling %s for this processor, once (a minute; a large model takes several)",
            bundle.name,
        )
        _compile(bundle)
    return load_exported(bundle, "cpu", "cpu", directory)


def directory_of(bundle: Path) -> Path:
    """Where the graphs of this bundle for this processor are kept, whether they are or not."""
    config = read_config(bundle)
    core = shared_core()
    facts = {
        "weights": config["weights"]["sha256"],
        "window": spec_from_json(config["spec"]).num_window_samples,
        "processor": core.get_property(DEVICE, "FULL_DEVICE_NAME"),
        "capabilities": sorted(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")),
        "openvino": core.get_versions(DEVICE)[DEVICE].build_number,
        "graph_version": GRAPH_VERSION,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return user_cache("graphs") / f"{facts['weights'][:12]}-{digest}"


def _load_or_warn(bundle: Path, directory: Path) -> Backend | None:
    if not (directory / EXPORT_FILE).exists():
        return None
    try:
        return load_exported(bundle, "cpu", "cpu", directory)
    except (ValueError, OSError) as error:
        LOGGER.warning("%s", error)
        return None


def _compile(bundle: Path) -> None:
    """`av-grounding export` into the cache, by another Python."""
    if not sys.executable:
        raise RuntimeError("no Python to compile with: sys.executable is empty")
    package = Path(__file__).resolve().parents[2]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "av_grounding", "--quiet", "export", "--model", str(bundle)]
    done = subprocess.run(
        [*command, "--backend", "cpu", "--precision", "auto"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(f"compiling failed: {lines[-1].removeprefix('av-grounding: ')}")
