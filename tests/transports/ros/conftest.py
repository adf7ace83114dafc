"""Fixtures of the tests that need a ROS 2."""

import pytest


@pytest.fixture
def peer():
    """The robot's other nodes."""
    from tests.helpers.ros_world import Peer

    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def barking():
    """Two seconds of a dog at 16 kHz."""
    from av_grounding.synthetic.sounds import synthesize_sound

    return 0.5 * synthesize_sound("dog", 5, 2.0)[:32_000]


@pytest.fixture(scope="session")
def dog():
    """A picture with a dog in it."""
    from av_grounding.synthetic.demo_scene import DemoScene

    return DemoScene().frame(0.0).image
