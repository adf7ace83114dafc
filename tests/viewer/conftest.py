"""The live page on a free port."""

import pytest

from av_grounding.viewer.viewer import Viewer


@pytest.fixture
def viewer():
    viewer = Viewer("0", max_rate_hz=1000.0)
    yield viewer
    viewer.close()
