"""OpenVINO and NNCF, without the reports of their use that they send to their makers.

They do so from their import on, by a thread that outlives the program's end where there is no
network, unless the package `openvino_telemetry` is missing: so it is, while they are imported.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from types import ModuleType
from typing import Any

INSTALL = "pip install 'av_grounding[cpu]'"
TELEMETRY = "openvino_telemetry"
_lock = threading.Lock()


@functools.cache
def shared_core() -> Any:
    """The `openvino.Core` of this process, which is never let go.

    With the first graph its CPU device lends the thread a stack for signal handlers, where AMX
    needs a large one, and takes it back with itself. Python's handlers run on that stack: after
    several cores had come and gone, the next signal would end the process.
    """
    core = import_quietly("openvino", "backend 'cpu'").Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")
    return core


def import_quietly(name: str, needed_for: str) -> ModuleType:
    """The module `openvino` or `nncf`; ImportError with the remedy where it is missing."""
    with _lock:
        is_given = TELEMETRY in sys.modules
        before = sys.modules.get(TELEMETRY)
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"{needed_for} needs {name} ({error}): {INSTALL}") from None
        finally:
            if is_given:
                sys.modules[TELEMETRY] = before  # type: ignore[assignment]
            else:
                del sys.modules[TELEMETRY]
