"""The shipped bundle, exported once for all tests of this folder that need it."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from av_grounding.config import drawn_world_bundle
from tests.helpers.exporting import run_export


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The shipped bundle with fp32 graphs for the CPU; not to be changed."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("needs OpenVINO: pip install 'av_grounding[cpu]'")
    # All the processes of a run share one: each takes half a minute.
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    bundle = shared / "exported"
    with FileLock(shared / "exported.lock"):
        if not bundle.exists():
            options = ("--model", str(drawn_world_bundle()), "--backend", "cpu", "--num", "3")
            result = run_export(bundle, *options, "--json")
            assert result.returncode == 0, result.stderr
    return bundle


@pytest.fixture
def copied(exported, tmp_path):
    """A copy of the exported bundle, to be spoilt."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))
