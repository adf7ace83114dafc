"""The machine that something is measured on: cores, memory, names."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

NUM_CORES = 2


def pin_to_cores(num_cores: int = NUM_CORES) -> int:
    """Keep this process to `num_cores` cores where the system can; returns how many it has.

    To be called before a model runtime is loaded, which starts a thread for every core it sees.
    """
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or num_cores
    cores = sorted(os.sched_getaffinity(0))[:num_cores]
    os.sched_setaffinity(0, cores)
    return len(cores)


def resident_mb() -> float:
    """Memory of this process that is in RAM; NaN where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def processor_name() -> str:
    """The processor's model where the system tells it, or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine_facts(num_cores: int) -> dict[str, Any]:
    """What a measured number needs beside it to mean anything."""
    return {
        "processor": processor_name(),
        "num_cores": num_cores,
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }
