"""Requests from outside never end the node, and what it says of itself is true."""

import time

import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import ReliabilityPolicy

from tests.helpers.ros_world import (
    IMAGE_TYPE,
    Scene,
    connect,
    diagnostic,
    grounding_node,
    image,
    maximum,
    wait_for,
)

pytestmark = pytest.mark.ros


def change(peer, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return peer.call(ChangeState, "change_state", request).success


def state(peer):
    return peer.call(GetState, "get_state", GetState.Request()).current_state.label


def lifecycle_line(peer):
    return getattr(diagnostic(peer, "lifecycle")[1], "message", "")


def test_a_transition_that_is_not_possible_is_refused_and_the_node_goes_on(peer, dog, barking):
    with grounding_node() as spinning:
        for impossible in (
            Transition.TRANSITION_CLEANUP,
            Transition.TRANSITION_CONFIGURE,
            Transition.TRANSITION_ACTIVATE,
            77,
        ):
            assert not change(peer, impossible)
        assert state(peer) == "active"
        peer.collect("sound/heatmap")
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play_until(lambda: maximum(peer, "sound") > 0.5, "a located dog")
        assert change(peer, Transition.TRANSITION_DEACTIVATE)
        assert not change(peer, Transition.TRANSITION_DEACTIVATE)
        assert change(peer, Transition.TRANSITION_ACTIVATE)


def test_shutdown_is_said_and_nothing_more_is_possible(peer):
    with grounding_node():
        peer.collect("/diagnostics")
        assert change(peer, Transition.TRANSITION_ACTIVE_SHUTDOWN)
        wait_for(lambda: "finalized" in lifecycle_line(peer), 10.0, "the state's true name")
        assert diagnostic(peer, "lifecycle")[1].level == DiagnosticStatus.WARN
        assert not change(peer, Transition.TRANSITION_CONFIGURE)
        assert state(peer) == "finalized"


@pytest.mark.parametrize("fault", ["missing", "raising"])
def test_a_configure_that_fails_leaves_its_reason(peer, monkeypatch, fault):
    if fault == "raising":
        from av_grounding.transports.ros import node

        def load(config):
            raise TypeError("half a model")

        monkeypatch.setattr(node, "load_backend_of", load)
    with grounding_node(is_active=False, **{"model.path": "/nowhere"}):
        peer.collect("/diagnostics")
        assert not change(peer, Transition.TRANSITION_CONFIGURE)
        reasons = {"missing": "no bundle at /nowhere", "raising": "configure failed: half a model"}
        reason = reasons[fault]
        wait_for(lambda: reason in lifecycle_line(peer), 10.0, "the reason in the diagnostics")
        assert diagnostic(peer, "lifecycle")[1].level == DiagnosticStatus.ERROR
        assert state(peer) in ("unconfigured", State(label="unconfigured").label)


@pytest.mark.parametrize("is_reliable", [True, False])
def test_reliability_follows_the_publisher(peer, is_reliable, dog):
    with grounding_node() as spinning:
        publisher = peer.publisher("/robot/image", IMAGE_TYPE, is_reliable=is_reliable)
        wait_for(publisher.get_subscription_count, 15.0, "a subscription")
        policy = ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT

        def subscribed():
            infos = peer.node.get_subscriptions_info_by_topic("/robot/image")
            return [info.qos_profile.reliability for info in infos]

        wait_for(lambda: subscribed() == [policy], 15.0, f"{policy} alone")
        inputs = spinning.node._session.inputs
        peer.insist(
            "/robot/image", lambda: image(time.time_ns(), dog), lambda: inputs.video.num_received
        )
        assert inputs.incompatible == []


def test_with_nobody_subscribed_nothing_is_encoded(peer, dog, barking):
    with grounding_node() as spinning:
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        session = spinning.node._session
        scene.play(2.0)
        counters = session.runner.counters
        assert counters["num_frames_unwanted"] > 5
        assert counters["stream"]["num_frames"] == counters["stream"]["num_windows_encoded"] == 0
        peer.collect("sound/heatmap")
        scene.play_until(lambda: maximum(peer, "sound") > 0.5, "a located dog")


def test_missing_images_are_told_apart(peer, caplog):
    with grounding_node() as spinning:
        inputs = spinning.node._session.inputs

        def reasons():
            return " ".join(inputs.reasons_without_images())

        assert "nobody publishes /robot/image" in reasons()
        peer.publisher("/robot/image/compressed", "sensor_msgs/msg/CompressedImage")
        wait_for(
            lambda: "there is /robot/image/compressed (image_transport: compressed)" in reasons(),
            15.0,
            "the compressed topic is named",
        )
        peer.publisher("/robot/image", IMAGE_TYPE)
        wait_for(
            lambda: "peer is connected to /robot/image, but nothing arrives" in reasons(),
            15.0,
            "a publisher that sends nothing",
        )


def test_a_simulated_clock_that_nobody_sets_is_named(peer, dog, barking):
    with grounding_node(use_sim_time=True) as spinning:
        peer.collect("/diagnostics", "sound/heatmap")
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play(2.0)
        wait_for(
            lambda: (
                "nothing publishes /clock"
                in getattr(diagnostic(peer, "inference")[1], "message", "")
            ),
            10.0,
            "the missing clock",
        )
