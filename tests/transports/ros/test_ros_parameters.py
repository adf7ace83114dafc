"""Parameters of the node: described, checked, followed while it runs."""

import logging

import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)

from av_grounding.config import parameters
from tests.helpers.ros_world import Scene, connect, grounding_node, maximum

pytestmark = pytest.mark.ros


def set_parameters(peer, **values):
    """Atomically, as `ros2 service call …/set_parameters_atomically` does."""
    request = SetParametersAtomically.Request(parameters=as_messages(values))
    return peer.call(SetParametersAtomically, "set_parameters_atomically", request).result


def load_parameters(peer, **values):
    """One after the other, as `ros2 param load` does."""
    request = SetParameters.Request(parameters=as_messages(values))
    return peer.call(SetParameters, "set_parameters", request).results


def as_messages(values):
    made = []
    for name, value in values.items():
        kind = {
            bool: ("bool_value", ParameterType.PARAMETER_BOOL),
            int: ("integer_value", ParameterType.PARAMETER_INTEGER),
            float: ("double_value", ParameterType.PARAMETER_DOUBLE),
            str: ("string_value", ParameterType.PARAMETER_STRING),
        }[type(value)]
        content = ParameterValue(type=kind[1], **{kind[0]: value})
        made.append(ParameterMessage(name=name, value=content))
    return made


def test_every_parameter_is_declared_with_its_meaning_and_range(peer):
    with grounding_node(is_active=False):
        listed = set(
            peer.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
        )
        names = [parameter.name for parameter in parameters()]
        assert set(names) <= listed
        request = DescribeParameters.Request(names=names)
        described = peer.call(DescribeParameters, "describe_parameters", request).descriptors
        for parameter, descriptor in zip(parameters(), described, strict=True):
            assert descriptor.description == parameter.description
            ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
            if parameter.range is None:
                assert not ranges
            else:
                assert (ranges[0].from_value, ranges[0].to_value) == parameter.range


def test_dynamic_parameters_act_at_once_and_bad_sets_are_refused_whole(peer, barking, dog):
    with grounding_node() as spinning:
        peer.collect("sound/heatmap", "sound/peaks")
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play_until(lambda: maximum(peer, "sound") > 0.5, "a located dog")
        # One good, one bad: neither counts.
        result = set_parameters(peer, **{"gate.min_dbfs": 0.0, "sound.threshold": 2.0})
        assert not result.successful
        assert "sound.threshold" in result.reason
        assert spinning.node.config.stream.gate_dbfs == -50.0
        # Loaded from a file the good one counts, and it is said of the bad one that it is alone.
        bad = {"gate.min_dbfs": -49.0, "speech.vad_frame_ms": 25}
        taken, refused = load_parameters(peer, **bad)
        assert taken.successful
        assert not refused.successful
        assert "(only this was refused)" in refused.reason
        assert spinning.node.config.stream.gate_dbfs == -49.0
        contradiction = set_parameters(peer, **{"speech.hold_s": 0.1, "speech.hangover_s": 0.5})
        assert not contradiction.successful
        assert "hold_s" in contradiction.reason
        assert "(none of this set was taken)" in contradiction.reason
        late = set_parameters(peer, **{"model.path": "elsewhere"})
        assert not late.successful
        assert "deactivate" in late.reason
        # A whole number for a real one is meant; the gate takes effect at the next frame.
        assert set_parameters(peer, **{"gate.min_dbfs": 0}).successful
        scene.play_until(lambda: maximum(peer, "sound") == 0.0, "a closed gate")
        changed = {"gate.min_dbfs": -50.0, "heatmap.encoding": "mono8", "heatmap.size": 60}
        assert set_parameters(peer, **changed).successful
        scene.play_until(
            lambda: peer.received["sound/heatmap"][-1].encoding == "mono8", "8-bit heatmaps"
        )
        assert peer.received["sound/heatmap"][-1].height == 60
        assert set_parameters(peer, **{"sound.enabled": False}).successful
        scene.play(0.5)
        num_before = len(peer.received["sound/heatmap"])
        scene.play(1.0)
        assert len(peer.received["sound/heatmap"]) == num_before


def test_parameters_of_another_head_are_declared_where_they_are_given(peer):
    with grounding_node(is_active=False, **{"music.threshold": 0.25}) as spinning:
        assert spinning.node.config.head("music").threshold == 0.25
        names = ["music.threshold", "speech.vad_frame_ms", "sync.clock_fit_s", "audio.hop_s"]
        request = DescribeParameters.Request(names=names)
        described = peer.call(DescribeParameters, "describe_parameters", request).descriptors
        assert described[0].floating_point_range[0].to_value == 1.0
        assert [descriptor.additional_constraints for descriptor in described] == [
            "live",
            "one of 10, 20, 30; live",
            "live",
            "counts at the next configure",
        ]
        refused = set_parameters(peer, **{"speech.vad_frame_ms": 25})
        assert "expected one of 10, 20, 30" in refused.reason


def test_misspelt_and_bad_parameters_at_the_start(caplog):
    with (
        caplog.at_level(logging.WARNING, "av_grounding"),
        grounding_node(is_active=False, **{"speech.hold": 2.0}),
    ):
        warned = [r.getMessage() for r in caplog.records if "speech.hold" in r.getMessage()]
        assert "did you mean 'speech.hold_s'" in warned[0]
    with (
        pytest.raises(ValueError, match=r"max_rate, expected 0 to 1000"),
        grounding_node(is_active=False, max_rate=-1.0),
    ):
        pass
