"""Hostile inputs, each under a hard limit of memory; prints what each took. A process of its own.

`python hostile.py` reads names from its arguments, default all, and prints a JSON line for each:
name, error, honest bytes (what the input declares, or has), peak bytes and processor seconds.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from functools import lru_cache
from pathlib import Path

from tests.fuzz import fuzz_seeds, fuzz_targets
from tests.fuzz.hostile_inputs import CASES

WALL_BYTES = 3 << 30
"""Address space beyond what is mapped when all is imported; libraries reserve much of it."""


def memory(name):
    """A number of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * next(int(x.split()[1]) for x in text.splitlines() if x.startswith(f"{name}:"))


@lru_cache
def warm_up(target_name):
    """An honest input, of the kind that loads least."""
    if target_name == "bundle-config":
        return fuzz_seeds.bundle_configs(("conv",))[0]
    return fuzz_targets.targets()[target_name].seeds()[0]


def measure(name):
    target_name, data, honest = CASES[name]()
    target = fuzz_targets.targets()[target_name]
    with contextlib.suppress(*target.documented):
        target.run(warm_up(target_name))  # what is loaded once is nobody's fault
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, started_s, said = memory("VmRSS"), time.process_time(), None
    try:
        target.run(data)
    except Exception as error:
        documented = isinstance(error, target.documented)
        said = str(error) if documented else f"!! {type(error).__name__}: {error}"
    seconds = time.process_time() - started_s
    peak = max(0, memory("VmHWM") - before)
    print(json.dumps(dict(name=name, said=said, honest=honest, peak=peak, seconds=seconds)))


if __name__ == "__main__":
    names = sys.argv[1:] or list(CASES)
    wall = memory("VmSize") + WALL_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wall, wall))
    for name in names:
        measure(name)
