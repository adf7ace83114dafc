"""`av-grounding export` in a process of its own: the tests' shape checks do not bear tracing."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_export(out, *options):
    return subprocess.run(
        [sys.executable, "-m", "av_grounding", "export", "--out", str(out), *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
