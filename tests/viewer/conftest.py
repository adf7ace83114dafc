"""The live page on a free port."""

import pytest

from tests.helpers.live_client import open_viewer


@pytest.fixture
def viewer():
    viewer = open_viewer(max_rate_hz=1000.0)
    yield viewer
    viewer.close()
