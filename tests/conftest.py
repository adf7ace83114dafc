"""Shape checks for the whole package, fixed seeds, and fixtures that several rooms share."""

import faulthandler
import importlib.util
import locale
import multiprocessing
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

# What tests import without asking. Where colcon runs them the package may be alone: then they are
# left out with a word. pytest's exit code 5, no tests, fails `make test` and not `colcon test`.
NEEDED = ("aiohttp", "beartype", "hypothesis", "jaxtyping", "numpy", "rosbags", "scipy", "torch")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if MISSING:
    collect_ignore_glob = ["*"]
else:
    from hypothesis import settings

    # Examples must not depend on the run or on how busy the machine is.
    settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=True)
    settings.load_profile("repeatable")

# How many slow tests were left out, where other processes collect them.
NUM_SLOW = pytest.StashKey[int]()

# What a shell may hold that would decide what tests see: where a bus speaks, whose model is taken,
# how many threads compute, where a request goes, what is drawn on and what text looks like.
SHELL_PREFIXES = (
    *("AV_GROUNDING_", "ROS_", "RMW_", "RCUTILS_", "CYCLONEDDS_", "FASTRTPS_", "FASTDDS_"),
    *("HF_", "TRANSFORMERS_", "ACCELERATE_", "TORCH", "PYTORCH_", "JAXTYPING_", "PYTHON", "LC_"),
    *("OPENCV_", "PULSE_", "MPL", "CLICOLOR", "MASTER_"),
)
SHELL_SUFFIXES = ("_NUM_THREADS", "_PROXY", "RANK", "WORLD_SIZE")
SHELL_NAMES = {"LANG", "LANGUAGE", "LINES", "NO_COLOR", "FORCE_COLOR"}
# Where modules are, and which ROS is sourced: what is installed, not what is wished.
INSTALLED = {"PYTHONPATH", "PYTHONHOME", "ROS_DISTRO", "ROS_VERSION", "ROS_PYTHON_VERSION"}
# Nothing is compiled but where a test wants it: that takes a minute.
SETTLED = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "COLUMNS": "80", "AV_GROUNDING_COMPILE": "0"}


def settle_environment():
    """The same variables for the tests, and for what they start, whatever shell starts them."""
    for name in set(os.environ) - INSTALLED:
        is_named = name in SHELL_NAMES or name.startswith(SHELL_PREFIXES)
        if is_named or name.upper().endswith(SHELL_SUFFIXES):
            del os.environ[name]
    os.environ.update(SETTLED)
    time.tzset()
    # Text files are read in the encoding of this process, which began in the shell's.
    with suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, SETTLED["LC_ALL"])


def pytest_addoption(parser):
    parser.addoption(
        "--no-shape-checks",
        action="store_true",
        help="do not check the annotated array shapes and types of av_grounding at run time",
    )


def pytest_configure(config):
    settle_environment()
    # Processes that tests start import this checkout and its tests, as the tests themselves do.
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background of a script: children would ignore the Ctrl-C of the tests.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not MISSING and not config.getoption("--no-shape-checks"):
        from tests import shape_checks

        shape_checks.install("av_grounding")


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


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter, config):
    """One last line of what did not run, by mark; the reasons stand above it."""
    yield
    marks = [line.partition(":")[0] for line in config.getini("markers")]
    ours = [mark for mark in marks if mark in ("browser", "device", "gpu", "ros", "slow")]
    counts = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report, pytest.CollectReport):
            # A whole file; how many cases its tests have is not known.
            text = (config.rootpath / report.nodeid).read_text(encoding="utf-8")
            mark = next((mark for mark in ours if f"pytest.mark.{mark}" in text), "others")
            counts[mark] += len(re.findall(r"^def test_", text, re.MULTILINE))
        else:
            counts[next((mark for mark in ours if mark in report.keywords), "others")] += 1
    deselected = terminalreporter.stats.get("deselected", [])
    counts["slow"] += config.stash.get(NUM_SLOW, sum("slow" in i.keywords for i in deselected))
    told = ", ".join(f"{counts[mark]} {mark}" for mark in [*ours, "others"] if counts[mark])
    if told:
        terminalreporter.write_line(f"Did not run: {told}")


def pytest_deselected(items):
    """Where tests run side by side, only the processes that collect know what they left out."""
    if items and (told := getattr(items[0].config, "workeroutput", None)) is not None:
        told["num_slow"] = sum("slow" in item.keywords for item in items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    node.config.stash[NUM_SLOW] = getattr(node, "workeroutput", {}).get("num_slow", 0)


def pytest_unconfigure():
    if MISSING:
        sys.stderr.write(
            f"av_grounding's tests are left out: no {', '.join(MISSING)}; to run them: make test, "
            "or pip install 'av_grounding[bag,synthetic,test,view]'\n"
        )
    # Whatever still keeps the process from ending says where it hangs, and ends.
    faulthandler.dump_traceback_later(120, exit=True)


@pytest.fixture(autouse=True)
def _seeds():
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
