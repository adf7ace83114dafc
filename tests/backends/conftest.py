"""The shipped bundle, exported once for all tests of this folder that need it."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from av_grounding.config import drawn_world_bundle
from tests.helpers.exporting import run_export


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The shipped bundle with fp32 graphs for the CPU; not to be changed."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("needs OpenVINO: pip install 'av_grounding[cpu]'")
    bundle = tmp_path_factory.mktemp("exported") / "bundle"
    result = run_export(
        bundle, "--model", str(drawn_world_bundle()), "--backend", "cpu", "--num", "3", "--json"
    )
    assert result.returncode == 0, result.stderr
    return bundle


@pytest.fixture
def copied(exported, tmp_path):
    """A copy of the exported bundle, to be spoilt."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))
