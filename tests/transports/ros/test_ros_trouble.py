"""What goes wrong on robots: counted, named, survived."""

import logging
import time

import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rosgraph_msgs.msg import Clock as ClockMessage

from tests.helpers.ros_world import (
    IMAGE_TYPE,
    SECOND_NS,
    Scene,
    connect,
    diagnostic,
    grounding_node,
    image,
    maximum,
    stamp_ns,
    wait_for,
)

pytestmark = pytest.mark.ros


def test_a_policy_that_keeps_them_apart_is_named(peer, caplog):
    with (
        grounding_node(image_reliability="reliable"),
        caplog.at_level(logging.WARNING, "av_grounding"),
    ):
        peer.collect("/diagnostics")
        peer.publisher("/robot/image", IMAGE_TYPE, is_reliable=False)
        wait_for(
            lambda: [
                r
                for r in caplog.records
                if "/robot/image" in r.getMessage() and "RELIABILITY" in r.getMessage()
            ],
            15.0,
            "a warning that names topic and policy",
        )
        wait_for(
            lambda: "RELIABILITY" in getattr(diagnostic(peer, "inputs")[1], "message", ""),
            10.0,
            "the same in the diagnostics",
        )


def test_malformed_messages_are_counted_and_the_next_one_is_answered(peer):
    with grounding_node() as spinning:
        peer.collect("sound/heatmap", "/diagnostics")
        connect(peer)
        broken = image(time.time_ns())
        broken["encoding"] = "nonsense8"
        malformed = spinning.node._malformed
        kinds = malformed.as_dict
        for number, message in enumerate((broken, image(0))):
            peer.insist("/robot/image", lambda m=message: m, lambda n=number: len(kinds()) > n)
        stamp = time.time_ns()
        peer.insist("/robot/image", lambda: image(stamp), lambda: peer.received["sound/heatmap"])
        assert stamp_ns(peer.latest("sound/heatmap")) == stamp
        assert set(kinds()) == {"/robot/image encoding", "/robot/image unstamped"}

        def told_all():  # once a second: the first may be of the time before
            told = diagnostic(peer, "inputs")[0]
            return told if told.get("malformed") == str(malformed.total) else None

        told = wait_for(told_all, 10.0, "diagnostics that count them all")
        assert int(told["malformed /robot/image encoding"]) >= 1


def test_a_missing_input_is_named_after_five_seconds(peer, caplog):
    with grounding_node(), caplog.at_level(logging.WARNING, "av_grounding"):
        peer.publisher("/robot/image", "sensor_msgs/msg/CameraInfo")  # the wrong type
        time.sleep(4.0)
        assert not [r for r in caplog.records if "no images" in r.getMessage()]

        def lines(word):
            return [r.getMessage() for r in caplog.records if word in r.getMessage()]

        images = wait_for(lambda: lines("no images"), 6.0, "a line about images")[0]
        assert "/robot/image carries sensor_msgs/msg/CameraInfo" in images
        assert "nobody publishes /robot/audio" in wait_for(lambda: lines("no sound"), 6.0)[0]


def test_stamps_that_step_back_are_counted_and_answered(peer, barking, dog):
    with grounding_node() as spinning:
        peer.collect("sound/heatmap", "/diagnostics")
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play_until(lambda: maximum(peer, "sound") > 0.5, "a located dog")
        scene.now_ns -= 20 * SECOND_NS  # a bag that starts over
        first_ns = scene.now_ns
        peer.received["sound/heatmap"].clear()
        scene.play_until(
            lambda: (
                maximum(peer, "sound") > 0.5
                and stamp_ns(peer.received["sound/heatmap"][-1]) < first_ns + 15 * SECOND_NS
            ),
            "the dog, located again",
        )
        wait_for(
            lambda: diagnostic(peer, "sync")[0].get("audio_resets") == "1", 5.0, "a counted reset"
        )
        assert int(diagnostic(peer, "sync")[0]["out_of_order"]) >= 1


def test_simulated_time_rules_ages_and_a_jump_back_forgets(peer, barking, dog):
    with grounding_node(use_sim_time=True) as spinning:
        clock = peer.connect("/clock", "rosgraph_msgs/msg/Clock")
        start_ns = 1000 * SECOND_NS

        def tick(now_ns):
            sec, nanosec = divmod(now_ns, SECOND_NS)
            message = ClockMessage()
            message.clock.sec, message.clock.nanosec = sec, nanosec
            clock.publish(message)

        tick(start_ns)
        peer.collect("sound/heatmap", "/diagnostics")
        connect(peer)
        scene = Scene(peer, spinning, barking, start_ns=start_ns, pixels=dog)

        def located():
            tick(scene.now_ns)
            return maximum(peer, "sound") > 0.5

        scene.play_until(located, "a located dog")
        assert stamp_ns(peer.received["sound/heatmap"][-1]) in scene.stamps
        values = wait_for(
            lambda: (
                diagnostic(peer, "inference")[0].get("e2e_p50_ms")  # empty until one is measured
                and diagnostic(peer, "inference")[0]
            )
        )
        assert abs(float(values["e2e_p50_ms"])) < 2000.0  # by the wall it would be decades
        num_resets = spinning.node._session.stream.num_resets
        tick(start_ns - 50 * SECOND_NS)
        peer.publish("/robot/image", image(scene.now_ns, dog))
        wait_for(lambda: spinning.node._session.stream.num_resets > num_resets, 10.0, "a reset")
        wait_for(lambda: maximum(peer, "sound") == 0.0, 10.0, "an empty heatmap")


def test_a_microphone_does_not_follow_a_simulated_clock(peer):
    options = {"use_sim_time": True, "audio.source": "device"}
    with grounding_node(is_active=False, **options) as spinning:
        peer.collect("/diagnostics")
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        assert not peer.call(ChangeState, "change_state", request).success
        assert peer.call(GetState, "get_state", GetState.Request()).current_state.id == (
            State.PRIMARY_STATE_UNCONFIGURED
        )
        values = wait_for(lambda: diagnostic(peer, "lifecycle")[1], 5.0)
        assert values.level == DiagnosticStatus.ERROR
        assert "use_sim_time" in values.message
        assert spinning.node._backend is None


def test_a_bundle_that_is_not_there_leaves_the_node_unconfigured_with_the_reason(peer):
    with grounding_node(is_active=False, **{"model.path": "/nowhere/model"}):
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        peer.collect("/diagnostics")
        assert not peer.call(ChangeState, "change_state", request).success
        wait_for(
            lambda: "/nowhere/model" in getattr(diagnostic(peer, "lifecycle")[1], "message", ""),
            5.0,
        )


def test_an_error_of_the_model_is_told_and_survived(peer, monkeypatch):
    with grounding_node() as spinning:
        peer.collect("sound/heatmap", "/diagnostics")
        peer.connect("/robot/image", IMAGE_TYPE)
        backend, session = spinning.node._backend, spinning.node._session
        encode, failures = backend.encode_image, [RuntimeError("out of memory")]

        def failing(pixels):
            if failures:
                raise failures.pop()
            return encode(pixels)

        def is_told():
            return any(
                status.level == DiagnosticStatus.ERROR and "out of memory" in status.message
                for message in peer.received["/diagnostics"]
                for status in message.status
            )

        monkeypatch.setattr(backend, "encode_image", failing, raising=False)
        peer.insist("/robot/image", lambda: image(time.time_ns()), lambda: not failures)
        wait_for(is_told, 10.0, "an error")
        wait_for(lambda: session.num_restarts == 1, 10.0, "a new start")
        peer.received["sound/heatmap"].clear()
        stamp = time.time_ns()
        peer.insist("/robot/image", lambda: image(stamp), lambda: peer.received["sound/heatmap"])
        assert stamp_ns(peer.latest("sound/heatmap")) == stamp
        assert session.error is None


def test_too_many_images_cost_frames_and_never_lateness(peer):
    """Five times what the model can take: the newest is answered, the others are counted."""
    with grounding_node() as spinning:
        peer.collect("sound/heatmap", "/diagnostics")
        peer.connect("/robot/image", IMAGE_TYPE)
        backend = spinning.node._backend
        encode = backend.encode_image

        def slow(pixels):
            time.sleep(0.15)
            return encode(pixels)

        backend.encode_image = slow
        ends_s = time.monotonic() + 60.0
        num_sent = 0
        while len(peer.received["sound/heatmap"]) < 8:
            assert time.monotonic() < ends_s, "waited in vain for eight heatmaps"
            peer.publish("/robot/image", image(time.time_ns()))
            num_sent += 1
            time.sleep(0.03)
        video = spinning.node._session.inputs.video

        def are_all_told():
            dropped = int(diagnostic(peer, "inputs")[0].get("image_dropped", 0))
            return len(peer.received["sound/heatmap"]) + dropped == video.num_received

        wait_for(are_all_told, 10.0, "every image to be answered or counted")
        answered = [stamp_ns(message) for message in peer.received["sound/heatmap"]]
        assert answered == sorted(answered)
        assert len(answered) < num_sent / 2
