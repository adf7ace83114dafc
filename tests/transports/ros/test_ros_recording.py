"""A node that records: what it took in, and the answers that it published."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")
pytest.importorskip("rosbags")

from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.replay import run_offline
from av_grounding.transports.bag.source import open_bag, read_facts
from av_grounding.transports.messages import decode_heatmap
from tests.helpers.memory import ListSink
from tests.helpers.ros_world import NODE, Scene, connect, grounding_node, maximum, stamp_ns

pytestmark = pytest.mark.ros


def test_an_activation_is_recorded_and_replays_to_the_byte(peer, barking, dog, tmp_path):
    folder = tmp_path / "recordings"
    with grounding_node(**{"record.path": str(folder)}) as spinning:
        peer.collect("sound/heatmap")
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play_until(lambda: maximum(peer, "sound") > 0.5, "a located dog")
        scene.wait_until_idle()
        backend, config = spinning.node._backend, spinning.node.config
    [path] = folder.glob("*.mcap")
    video, audio, playback = open_bag(path, realtime=False)
    assert read_facts(playback.bag)["source"] == NODE
    sink = ListSink()
    run_offline(video, audio, GroundingStream(backend, config.stream), [sink])
    again = {grounding.stamp_ns: grounding.heatmap("sound") for _, grounding in sink.results}
    published = {stamp_ns(m): decode_heatmap(m) for m in peer.received["sound/heatmap"]}
    assert len(published) > 1
    assert published.keys() <= again.keys()
    for stamp, heatmap in published.items():
        np.testing.assert_array_equal(again[stamp], heatmap)
