"""The node's topics on a real ROS graph: what comes in, what goes out."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")

from av_grounding.transports.bag.encoding import exact_audio_fields
from av_grounding.transports.messages import (
    Fields,
    camera_info_fields,
    compressed_image_fields,
    decode_heatmap,
    image_fields,
    stamp_fields,
)
from av_grounding.types import AudioChunk
from tests.helpers import ros_world
from tests.helpers.ros_world import (
    CAMERA,
    IMAGE_TYPE,
    SECOND_NS,
    Scene,
    connect,
    diagnostic,
    grounding_node,
    image,
    maximum,
    picture,
    sound,
    stamp_ns,
    wait_for,
)

pytestmark = pytest.mark.ros


def test_heatmaps_carry_the_image_header_and_absolute_values(peer, barking, dog):
    with grounding_node() as spinning:
        peer.collect("sound/heatmap", "speech/heatmap", "sound/score", "sound/peaks")
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play_until(lambda: maximum(peer, "sound") > 0.5, "a located dog")
        message = peer.latest("sound/heatmap")
        assert stamp_ns(message) in scene.stamps
        assert message.header.frame_id == "optical"
        assert message.encoding == "32FC1"
        assert message.step == 4 * message.width
        heatmap = decode_heatmap(message)
        assert np.isfinite(heatmap).all()
        assert heatmap.min() >= 0.0
        assert heatmap.max() <= 1.0
        assert len({stamp_ns(m) for m in peer.received["sound/heatmap"]}) > 1
        score = peer.latest("sound/score").results[0]
        assert score.class_id == "sound"
        assert score.score > 0.5
        peaks = wait_for(
            lambda: [m for m in peer.received["sound/peaks"] if m.detections], 10.0, "a peak"
        )[-1]
        box = peaks.detections[0].bbox.center.position
        assert 0.0 <= box.x < dog.shape[1]
        assert 0.0 <= box.y < dog.shape[0]
        # Silence: the maps go on, all zeros.
        scene.waveform = np.zeros(16_000, np.float32)
        scene.play_until(lambda: maximum(peer, "sound") == 0.0, "an empty heatmap")
        assert len(peer.received["speech/heatmap"]) > 1


@pytest.mark.parametrize(
    ("transport", "rules", "expected"),
    [
        ("raw", ["image:=/cam/front"], "/cam/front"),
        ("compressed", [], "/robot/image/compressed"),
        ("compressed", ["image:=/cam/front"], "/cam/front/compressed"),
        ("compressed", ["image:=/cam/front/compressed"], "/cam/front/compressed"),
        ("compressed", ["image/compressed:=/other"], "/other"),
        ("compressed", ["image:=/cam/front", "image/compressed:=/other"], "/other"),
    ],
)
def test_a_remapped_image_is_read_in_its_transport(peer, transport, rules, expected):
    """`image:=X` means X/compressed where images come compressed, as with image_transport."""
    with grounding_node(remappings=rules, image_transport=transport) as spinning:
        assert spinning.node._session.inputs.image_topic == expected
        kind = IMAGE_TYPE if transport == "raw" else "sensor_msgs/msg/CompressedImage"
        peer.connect(expected, kind)


def test_without_any_sound_images_are_answered_with_zeros(peer):
    with grounding_node():
        peer.collect("sound/heatmap")
        peer.connect("/robot/image", IMAGE_TYPE)
        heatmaps = peer.received["sound/heatmap"]
        peer.insist("/robot/image", lambda: image(time.time_ns()), lambda: heatmaps)
        assert not decode_heatmap(heatmaps[-1]).any()


def test_rays_and_camera_info_follow_the_camera(peer, barking, dog):
    with grounding_node() as spinning:
        peer.collect("sound/rays", "heatmap/camera_info", "sound/heatmap")
        connect(peer)
        peer.connect("/robot/camera_info", "sensor_msgs/msg/CameraInfo")
        camera = CAMERA.scaled(*dog.shape[:2])
        peer.publish("/robot/camera_info", camera_info_fields(camera, 1, "optical"))
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play_until(
            lambda: any(m.poses for m in peer.received["sound/rays"]), "a ray to the dog"
        )
        info = peer.latest("heatmap/camera_info")
        heatmap = peer.latest("sound/heatmap")
        assert (info.height, info.width) == (heatmap.height, heatmap.width)
        assert info.k[0] == pytest.approx(camera.k[0, 0] * info.width / camera.width)
        poses = next(m for m in peer.received["sound/rays"] if m.poses)
        assert poses.header.frame_id == "optical"


def test_overlays_are_drawn_only_while_somebody_looks(peer, monkeypatch):
    from av_grounding.transports.topics import outputs

    num_drawn = 0
    draw = outputs.draw_overlay

    def counted(*arguments):
        nonlocal num_drawn
        num_drawn += 1
        return draw(*arguments)

    monkeypatch.setattr(outputs, "draw_overlay", counted)
    with grounding_node() as spinning:
        peer.collect("sound/heatmap")
        connect(peer)
        scene = Scene(peer, spinning, np.zeros(16_000))
        scene.play_until(lambda: len(peer.received["sound/heatmap"]) > 3, "heatmaps")
        assert num_drawn == 0
        peer.collect("speech/overlay", "sound/overlay/compressed")
        scene.play_until(lambda: peer.received["speech/overlay"], "an overlay")
        scene.play_until(lambda: peer.received["sound/overlay/compressed"], "a JPEG")
        overlay = peer.latest("speech/overlay")
        assert overlay.encoding == "bgr8"
        assert (overlay.height, overlay.width) == (120, 160)
        # Nothing was heard, so the picture shines through as it is.
        seen = np.frombuffer(overlay.data, np.uint8).reshape(120, 160, 3)[..., ::-1]
        middle = (slice(60, 110), slice(80, 150))
        assert np.abs(seen[middle].astype(int) - picture()[middle]).mean() < 2.0
        assert bytes(peer.latest("sound/overlay/compressed").data[:2]) == b"\xff\xd8"


def test_compressed_images_and_best_effort_publishers_are_heard(peer):
    with grounding_node(image_transport="compressed"):
        peer.collect("sound/heatmap")
        topic = "/robot/image/compressed"
        peer.connect(topic, "sensor_msgs/msg/CompressedImage", is_reliable=False)
        stamp = time.time_ns()
        message = compressed_image_fields(picture(), stamp, "optical")
        peer.insist(topic, lambda: message, lambda: peer.received["sound/heatmap"])
        assert stamp_ns(peer.latest("sound/heatmap")) == stamp


def test_float_samples_are_heard(peer, barking, dog):
    """As mgonzs13's AudioStamped carries them, without an AudioInfo on a topic of its own."""
    if ros_world.IS_ROS_DRIVERS:
        pytest.skip("the installed audio_common_msgs is that of ros-drivers")
    with grounding_node():
        peer.collect("sound/heatmap", "/diagnostics")
        peer.connect("/robot/image", IMAGE_TYPE)
        peer.connect("/robot/audio", ros_world.AUDIO_TYPE)
        now_ns, at = time.time_ns(), 0
        while maximum(peer, "sound") < 0.5:
            assert at < 50 * 1600, "waited in vain for a located dog"
            samples = barking.take(range(at, at + 1600), mode="wrap").astype(np.float32)
            peer.publish("/robot/audio", exact_audio_fields(AudioChunk(samples, now_ns, 16_000)))
            at, now_ns = at + 1600, now_ns + SECOND_NS // 10
            peer.publish("/robot/image", image(now_ns, dog))
            time.sleep(0.1)


@pytest.mark.skipif(not ros_world.IS_ROS_DRIVERS, reason="AudioData alone is ros-drivers'")
def test_unstamped_sound_is_refused_with_the_remedy_unless_allowed(peer, barking):
    octets = sound(barking[:1600], 0)["audio"]
    with grounding_node(**{"audio.sample_rate": 16_000}):
        peer.collect("/diagnostics")
        peer.connect("/robot/audio", "audio_common_msgs/msg/AudioData")
        peer.publish("/robot/audio", octets)
        wait_for(
            lambda: (
                "audio.allow_unstamped" in getattr(diagnostic(peer, "inputs")[1], "message", "")
            ),
            10.0,
            "the remedy",
        )
    allowed = {"audio.sample_rate": 16_000, "audio.allow_unstamped": True}
    with grounding_node(**allowed) as spinning:
        peer.connect("/robot/audio", "audio_common_msgs/msg/AudioData")
        peer.publish("/robot/audio", octets)
        heard = spinning.node._session.inputs.audio
        wait_for(lambda: heard.num_chunks, 10.0, "the chunk")


def test_the_top_peak_is_a_point_in_the_target_frame(peer, barking, dog):
    pytest.importorskip("tf2_ros", reason="needs tf2_ros")
    with grounding_node(use_3d=True, target_frame="base") as spinning:
        peer.collect("sound/point", "sound/heatmap", "sound/peaks")
        connect(peer)
        peer.connect("/robot/camera_info", "sensor_msgs/msg/CameraInfo")
        peer.connect("/robot/depth", IMAGE_TYPE)
        transforms = peer.connect("/tf", "tf2_msgs/msg/TFMessage")
        camera = CAMERA.scaled(*dog.shape[:2])
        scene = Scene(peer, spinning, barking, pixels=dog)
        depth = np.full(dog.shape[:2], 2500, np.uint16)

        def step():
            peer.publish("/robot/camera_info", camera_info_fields(camera, 1, "optical"))
            peer.publish(
                "/robot/depth", image_fields(depth, "16UC1", scene.now_ns + SECOND_NS // 10, "d")
            )
            transforms.publish(transform(scene.now_ns))
            transforms.publish(transform(scene.now_ns + SECOND_NS))
            return peer.received["sound/point"]

        scene.play_until(step, "a point")
        point = peer.received["sound/point"][-1]
        assert point.header.frame_id == "base"
        assert stamp_ns(point) in scene.stamps
        # A quarter turn about x and a step of 1 m along z.
        assert point.point.y == pytest.approx(-2.5, abs=1e-3)
        peaks = [m for m in peer.received["sound/peaks"] if stamp_ns(m) == stamp_ns(point)]
        assert peaks
        assert -2.5 < point.point.x < 2.5


def transform(stamp):
    from tf2_msgs.msg import TFMessage

    message = Fields(
        "geometry_msgs/msg/TransformStamped",
        header=Fields("std_msgs/msg/Header", stamp=stamp_fields(stamp), frame_id="base"),
        child_frame_id="optical",
        transform=Fields(
            "geometry_msgs/msg/Transform",
            translation=Fields("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=1.0),
            rotation=Fields("geometry_msgs/msg/Quaternion", x=0.5**0.5, y=0.0, z=0.0, w=0.5**0.5),
        ),
    )
    return TFMessage(transforms=[ros_world.build(message, ros_world.get_message)])
