"""The sound of a place as a topic of a real ROS graph."""

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")

from rclpy.parameter import Parameter
from rosidl_runtime_py.utilities import get_message

from tests.helpers.ros_world import (
    AUDIO_PACKAGE,
    IS_ROS_DRIVERS,
    NAMESPACE,
    SECOND_NS,
    Scene,
    connect,
    diagnostic,
    grounding_node,
    maximum,
    stamp_ns,
    wait_for,
)
from tests.helpers.small_separator import save_small_separator

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(not IS_ROS_DRIVERS, reason="needs ros-drivers' audio_common_msgs"),
]


def test_the_sound_of_a_place_is_published_while_somebody_listens(peer, barking, dog, tmp_path):
    model = str(save_small_separator(tmp_path / "model"))
    with grounding_node(**{"model.path": model, "backend": "torch"}) as spinning:
        peer.collect("sound/heatmap", "/diagnostics")
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play_until(lambda: len(peer.received["sound/heatmap"]) > 3, "heatmaps")
        assert "separation_latency_s" not in spinning.node._session.stream.stats
        peer.collect("sound/audio", "sound/audio_info")
        scene.play_until(lambda: len(peer.received["sound/audio"]) > 8, "the sound of the peak")
        info, messages = peer.latest("sound/audio_info"), peer.received["sound/audio"][:]
        assert (info.sample_rate, info.channels, info.sample_format) == (16_000, 1, "S16LE")
        for one, other in pairwise(messages):
            duration_ns = len(one.audio.data) / 2 / 16_000 * SECOND_NS
            assert abs(stamp_ns(other) - stamp_ns(one) - duration_ns) < 1e6
        assert messages[0].header.frame_id == "optical"
        samples = np.concatenate([np.frombuffer(m.audio.data, "<i2") for m in messages])
        assert 0 < np.abs(samples).max() <= 32767 * np.abs(barking).max() * 1.5
        told = wait_for(lambda: diagnostic(peer, "sync")[0].get("separation_latency_s"))
        assert float(told) == pytest.approx(0.32 + 0.022 + 0.16, abs=1e-3)
        # Another place, while it runs.
        node = spinning.node
        node.set_parameters(
            [
                Parameter("separation.target", value="point"),
                Parameter("separation.x_px", value=float(dog.shape[1] // 2)),
                Parameter("separation.y_px", value=float(dog.shape[0] // 2)),
            ]
        )
        asked = node._outputs.separated
        scene.play_until(lambda: asked._asked and asked._asked[0] != "peak", "the point")
        num_before = len(peer.received["sound/audio"])
        scene.play_until(lambda: len(peer.received["sound/audio"]) > num_before + 3, "its sound")


def test_it_ends_with_the_last_subscriber_and_is_silent_while_gated(peer, barking, dog, tmp_path):
    """Quiet noise, which the gate shuts out, is in no message, while there are messages of it."""
    model = str(save_small_separator(tmp_path / "model"))
    topic, kind = f"{NAMESPACE}/sound/audio", f"{AUDIO_PACKAGE}/AudioDataStamped"
    hiss = 3e-4 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    with grounding_node(**{"model.path": model, "backend": "torch"}) as spinning:
        peer.collect("sound/heatmap")
        connect(peer)
        told = wait_for(lambda: dict(peer.node.get_topic_names_and_types()).get(topic))
        assert told == [kind]
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play_until(lambda: len(peer.received["sound/heatmap"]) > 3, "heatmaps")
        messages = []
        subscription = peer.node.create_subscription(get_message(kind), topic, messages.append, 20)
        scene.play_until(lambda: len(messages) > 3, "the sound of the peak")
        assert any(np.frombuffer(one.audio.data, "<i2").any() for one in messages)

        scene.waveform = hiss
        scene.play_until(lambda: maximum(peer, "sound") == 0.0, "a dark heatmap")
        # What is on its way belongs to frames from before.
        gated_ns = scene.now_ns + SECOND_NS
        scene.play_until(lambda: stamp_ns(messages[-1]) > gated_ns + SECOND_NS, "silence")
        silent = [one for one in messages if stamp_ns(one) > gated_ns]
        assert len(silent) > 2
        assert not np.concatenate([np.frombuffer(one.audio.data, "<i2") for one in silent]).any()
        assert np.rint(32767 * hiss).any()

        scene.waveform = barking
        peer.node.destroy_subscription(subscription)
        stream = spinning.node._session.stream
        scene.play_until(lambda: "separation_latency_s" not in stream.stats, "no separation")
        num_before = len(messages)
        scene.play(1.0)
        assert len(messages) == num_before
