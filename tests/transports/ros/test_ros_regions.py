"""Named regions, and a map for each of several sources, as topics of a real ROS graph."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")

from av_grounding.config import drawn_world_bundle
from av_grounding.grounder import Grounder
from av_grounding.synthetic.stage_samples import stage_samples
from av_grounding.transports.messages.out import decode_heatmap
from tests.helpers.ros_world import Scene, connect, grounding_node, maximum, stamp_ns, wait_for

pytestmark = pytest.mark.ros
MODELS = drawn_world_bundle().parent


def detections(peer):
    return [one for message in peer.received["sound/peaks"] for one in message.detections]


def loudest(answer):
    return answer.labels[int(np.argmax([heatmap.max() for heatmap in answer.heatmaps]))]


def test_a_bundle_of_regions_names_what_sounds_with_the_frame_it_segmented(peer, barking, dog):
    model = {"model.path": str(MODELS / "synthetic-regions"), "backend": "torch"}
    with grounding_node(**model) as spinning:
        peer.collect("sound/heatmap", "sound/peaks")
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play_until(lambda: maximum(peer, "sound") > 0.5, "a located dog")
        message = peer.latest("sound/heatmap")
        assert stamp_ns(message) in scene.stamps
        # One value a region, and one where there is none.
        assert 2 <= len(np.unique(decode_heatmap(message))) <= 17
        found = wait_for(lambda: detections(peer), 10.0, "a peak")
        best = max(found, key=lambda one: one.results[0].hypothesis.score)
        answer = Grounder.load(model["model.path"], backend="torch").ground(dog, barking, 16_000)
        assert best.results[0].hypothesis.class_id == loudest(answer["sound"])
        scene.waveform = np.zeros(16_000, np.float32)
        scene.play_until(lambda: maximum(peer, "sound") == 0.0, "an empty heatmap")


def test_each_source_has_a_topic_and_keeps_its_name(peer):
    stage = next(one for one in stage_samples(40, 3, "val") if len(one.sounding) == 2)
    model = {
        "model.path": str(MODELS / "synthetic-sources"),
        "num_sources": 2,
        "backend": "torch",
    }
    topics = [f"sound/source_{number}/heatmap" for number in (1, 2, 3)]
    with grounding_node(**model) as spinning:
        peer.collect("sound/heatmap", "sound/peaks", *topics)
        connect(peer)
        scene = Scene(peer, spinning, stage.mixture, pixels=stage.image)
        scene.play_until(
            lambda: all(
                any(decode_heatmap(message).max() > 0.0 for message in peer.received[topic])
                for topic in topics[:2]
            ),
            "a map of each source",
        )
        by_stamp = {
            topic: {stamp_ns(message): decode_heatmap(message) for message in peer.received[topic]}
            for topic in ("sound/heatmap", *topics)
        }
        stamps = set.intersection(*(set(of) for of in by_stamp.values()))
        assert stamps
        for stamp in stamps:
            whole, *maps = (by_stamp[topic][stamp] for topic in ("sound/heatmap", *topics))
            np.testing.assert_allclose(np.max(maps, axis=0), whole, atol=1e-6)
        assert {one.id for one in detections(peer)} <= {"source_1", "source_2", ""}
