"""Shape checks for the whole package, fixed seeds, and fixtures that several rooms share."""

import faulthandler
import multiprocessing
import os
import random
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# Examples must not depend on the run or on how busy the machine is.
settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("repeatable")


def pytest_addoption(parser):
    parser.addoption(
        "--no-shape-checks",
        action="store_true",
        help="do not check the annotated array shapes and types of av_grounding at run time",
    )


def pytest_configure(config):
    # Processes that tests start import this checkout and its tests, as the tests themselves do.
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background of a script: children would ignore the Ctrl-C of the tests.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.getoption("--no-shape-checks"):
        from jaxtyping import install_import_hook

        install_import_hook("av_grounding", "shape_checks.checker")


@pytest.fixture(autouse=True, scope="session")
def _what_tests_start_they_end():
    yield
    left = [str(process) for process in multiprocessing.active_children()]
    left += [
        str(thread)
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    ]
    assert not left, f"left behind, and may keep the process from ending: {', '.join(left)}"


def pytest_unconfigure():
    # Whatever still keeps the process from ending says where it hangs, and ends.
    faulthandler.dump_traceback_later(120, exit=True)


@pytest.fixture(autouse=True)
def _seeds():
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
