"""The tests themselves: whatever shell starts them, and whatever the machine lacks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOSTILE = {
    "AV_GROUNDING_MODEL": "/nowhere",
    "AV_GROUNDING_DEBUG": "1",
    "ROS_DOMAIN_ID": "what",
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF",
    "ROS_LOCALHOST_ONLY": "1",
    "ROS_STATIC_PEERS": "192.0.2.1",
    "RMW_IMPLEMENTATION": "rmw_nothing",
    "CYCLONEDDS_URI": "<CycloneDDS><nonsense/></CycloneDDS>",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "OMP_NUM_THREADS": "77",
    "OPENCV_IO_MAX_IMAGE_PIXELS": "1",
    "JAXTYPING_DISABLE": "1",
    "MPLBACKEND": "module://nothing",
    "RANK": "3",
    "LOCAL_RANK": "3",
    "TORCH_LOGS": "+all",
    "PYTHONOPTIMIZE": "1",
    "PYTHONWARNINGS": "default",
    "PYTHONIOENCODING": "latin-1",
    "LANG": "de_DE.ISO-8859-1",
    "LC_ALL": "C",
    "TZ": "Asia/Kathmandu",
    "COLUMNS": "20",
    "LINES": "5",
    "NO_COLOR": "1",
    "FORCE_COLOR": "1",
}
INSTALLED = {"ROS_DISTRO": "jazzy", "OPENBLAS_CORETYPE": "Haswell", "PATH": os.environ["PATH"]}
REPORT = """
import json, locale, os, time
from tests.conftest import settle_environment
settle_environment()
print(json.dumps([dict(os.environ), locale.getpreferredencoding(False), time.tzname[0]]))
"""


def test_nothing_of_a_hostile_shell_is_left():
    result = subprocess.run(
        [sys.executable, "-c", REPORT],
        env=HOSTILE | INSTALLED | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    left, encoding, zone = json.loads(result.stdout.splitlines()[-1])
    settled = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "COLUMNS": "80"}
    assert {name: left[name] for name in HOSTILE if name in left} == settled
    assert {name: left[name] for name in INSTALLED} == INSTALLED
    assert (encoding.upper(), zone) == ("UTF-8", "UTC")


def test_it_was_settled_before_these_tests():
    assert os.environ["COLUMNS"] == "80"
    set_since = {
        *("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "CYCLONEDDS_URI"),  # tests with a ROS
        "OPENCV_IO_MAX_IMAGE_PIXELS",  # the package itself
    }
    left = HOSTILE.keys() & os.environ.keys()
    assert left - set_since == {"LC_ALL", "TZ", "COLUMNS"}


CASES = """
import pytest

@pytest.mark.gpu
@pytest.mark.parametrize("n", range(3))
def test_gpu(n):
    pytest.skip("needs a CUDA device")

@pytest.mark.browser
@pytest.mark.skipif(True, reason="no Chromium")
def test_browser(): ...

@pytest.mark.slow
def test_slow(): ...

def test_skipped():
    pytest.skip("for another reason")

def test_runs(): ...
"""
FILE = """
import pytest
pytest.importorskip("that_is_not_there")
pytestmark = pytest.mark.ros

def test_a(): ...

def test_b(): ...
"""


def run_tests(folder, *options, start="import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"):
    return subprocess.run(
        [
            *(sys.executable, "-c", start, "-q", "-p", "no:cacheprovider", *options),
            *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), str(folder)),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("options", [[], ["-o", "addopts="]])
def test_what_did_not_run_is_counted_by_mark_in_one_line(tmp_path, options):
    (tmp_path / "test_cases.py").write_text(CASES)
    (tmp_path / "test_file.py").write_text(FILE)
    result = run_tests(tmp_path, "-p", "tests.conftest", *options)
    slow = "" if options else ", 1 slow"
    *_, told, last = result.stdout.splitlines()
    assert told == f"Did not run: 1 browser, 3 gpu, 2 ros{slow}, 1 others"
    assert last.startswith(f"{2 if options else 1} passed, 6 skipped")


def test_nothing_is_said_where_all_ran(tmp_path):
    (tmp_path / "test_cases.py").write_text("def test_runs(): ...\n")
    result = run_tests(tmp_path, "-p", "tests.conftest")
    assert "1 passed" in result.stdout
    assert "Did not run" not in result.stdout


def test_a_machine_without_the_extras_leaves_the_tests_out_with_a_word(tmp_path):
    """As `colcon test` meets it, for which no tests (5) are no failure."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_cases.py").write_text("import beartype\n\ndef test_runs(): ...\n")
    hide = (
        "import importlib.machinery as m, pytest, sys\n"
        "find = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = classmethod(lambda cls, name, *rest: None if name.partition('.')"
        "[0] in ('beartype', 'rosbags') else find(name, *rest))\n"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    result = run_tests(tmp_path, start=hide)
    assert result.returncode == 5, result.stdout
    assert "no beartype, rosbags; to run them: make test" in result.stderr


def test_a_build_is_quiet_and_complete(tmp_path):
    """What colcon shows of setup.py: nothing."""
    pytest.importorskip("setuptools")
    built = subprocess.run(
        [
            *(sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)),
            *("build", "--build-base", str(tmp_path / "build")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert built.stdout + built.stderr == ""
    package = ROOT / "av_grounding"
    wanted = {path.relative_to(ROOT) for path in package.rglob("*.py")}
    wanted |= {path.relative_to(ROOT) for path in (package / "viewer" / "page").iterdir()}
    lib = tmp_path / "build" / "lib"
    assert {path.relative_to(lib) for path in lib.rglob("*") if path.is_file()} == wanted
