"""Hostile inputs by name, in a process with a wall of memory: refused soon, and for what they are.

Each was found by fuzzing or by reading, and broke a parser or would have: see `hostile.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import hostile
from tests.fuzz.fuzz_check import MAX_CPU_S

SLACK_BYTES = 48 << 20
"""What allocators and libraries keep, whatever the input."""
TAKEN = {
    "jpeg_of_8k_pixels": "an honest picture",
    "database_of_other_types": "rows that are no messages are left out",
    "metadata_of_aliases": "the messages are read without it",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Name -> what the input cost; one process for all, as its imports take seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.hostile"],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"TMPDIR": str(tmp_path_factory.mktemp("hostile"))},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("name", hostile.CASES)
def test_a_hostile_input_costs_next_to_nothing(name, measured):
    row = measured[name]
    if name in TAKEN:
        assert row["said"] is None, TAKEN[name]
    else:
        assert row["said"], "it was taken"
        assert not row["said"].startswith("!!"), "an error that nobody documents"
        assert "\n" not in row["said"]
    assert row["peak"] <= 2 * row["honest"] + SLACK_BYTES
    assert row["seconds"] <= MAX_CPU_S
