"""The coverage-guided fuzzer itself, as `make fuzz` starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_leaves_no_files_behind(tmp_path):
    """Its process ends without a word to Python, so nothing cleans up inside it."""
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", "--seconds", "1", "config", "page-message"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("held") == 2
    assert list(tmp_path.iterdir()) == []
