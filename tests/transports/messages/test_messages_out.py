"""What is published: absolute values, verbatim headers, peaks where they are, real types."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_grounding.transports.messages import (
    TOPICS,
    CameraInfo,
    Fields,
    OutputOptions,
    Status,
    build,
    decode_compressed_image,
    decode_heatmap,
    decode_image,
    diagnostics_fields,
    encode_outputs,
    find_peaks,
    header_fields,
    heatmap_fields,
    point_fields,
    rays_fields,
    score_fields,
)
from av_grounding.types import Frame, Grounding
from tests.helpers import objects

STAMP_NS = 1_700_000_000_987_654_321
GRID = (6, 8)
CAMERA = CameraInfo(
    96,
    128,
    np.array([[100.0, 0.0, 63.5], [0.0, 100.0, 47.5], [0.0, 0.0, 1.0]]),
    np.zeros((3, 4)),
    np.zeros(5),
    np.eye(3),
)


def scene():
    image = np.full((96, 128, 3), 90, np.uint8)
    sound, speech = np.zeros(GRID, np.float32), np.zeros(GRID, np.float32)
    sound[1, 6], sound[1, 5], sound[4, 1] = 0.875, 0.5, 0.75
    speech[3, 3] = 0.625
    frame = Frame(image, STAMP_NS, "optical")
    return frame, Grounding(sound, speech, 0.875, 0.625, STAMP_NS, "optical", (96, 128))


def published(**options):
    frame, heatmaps = scene()
    outputs = encode_outputs(frame, heatmaps, OutputOptions(**options), CAMERA)
    return {topic: objects.as_object(fields) for topic, fields in outputs}


def test_every_topic_but_two_comes_from_one_frame_with_its_header():
    messages = published()
    assert set(messages) == set(TOPICS) - {"sound/point", "speech/point", "/diagnostics"}
    for message in messages.values():
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == STAMP_NS
        assert message.header.frame_id == "optical"


def test_types_are_those_of_the_table():
    frame, heatmaps = scene()
    for topic, fields in encode_outputs(frame, heatmaps, None, CAMERA):
        assert fields.type_name == TOPICS[topic].type_name
    assert diagnostics_fields(0, []).type_name == TOPICS["/diagnostics"].type_name
    assert point_fields([1, 2, 3], 0, "c").type_name == TOPICS["sound/point"].type_name


def test_only_what_is_wanted_is_made():
    frame, heatmaps = scene()
    wanted = {"speech/heatmap", "sound/peaks"}
    outputs = encode_outputs(frame, heatmaps, None, CAMERA, wanted.__contains__)
    assert {topic for topic, _ in outputs} == wanted


def test_without_calibration_there_are_no_rays():
    frame, heatmaps = scene()
    uncalibrated = replace(CAMERA, k=np.zeros((3, 3)))
    topics = {topic for topic, _ in encode_outputs(frame, heatmaps, None, uncalibrated)}
    assert "sound/rays" not in topics
    assert "sound/peaks" in topics
    topics = {topic for topic, _ in encode_outputs(frame, heatmaps)}
    assert "heatmap/camera_info" not in topics


@pytest.mark.parametrize(
    ("encoding", "tolerance"), [("32FC1", 0.0), ("mono8", 0.002), ("mono16", 1e-5)]
)
@settings(max_examples=20)
@given(heatmap=hnp.arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)))
def test_heatmaps_come_back_absolute(encoding, tolerance, heatmap):
    message = objects.as_object(heatmap_fields(heatmap, 1, "c", encoding))
    assert (message.height, message.width, message.encoding) == (3, 5, encoding)
    assert len(message.data) == message.step * 3
    np.testing.assert_allclose(decode_heatmap(message), heatmap, atol=tolerance)


def test_heatmaps_never_carry_nan():
    heatmap = np.array([[np.nan, np.inf, -1.0, 0.5]], np.float32)
    decoded = decode_heatmap(objects.as_object(heatmap_fields(heatmap, 1, "c")))
    np.testing.assert_array_equal(decoded, [[0.0, 1.0, 0.0, 0.5]])


def test_unknown_heatmap_encoding():
    with pytest.raises(ValueError, match="32FC1, mono8 or mono16"):
        heatmap_fields(np.zeros((2, 2), np.float32), 1, "c", "rgb8")


def test_heatmap_size_changes_the_map_and_its_camera():
    messages = published(heatmap_size=(24, 32))
    assert decode_heatmap(messages["sound/heatmap"]).shape == (24, 32)
    info = messages["heatmap/camera_info"]
    assert (info.height, info.width) == (24, 32)
    assert info.k[0] == pytest.approx(25.0)


def test_peaks_and_their_boxes_in_image_pixels():
    detections = published()["sound/peaks"].detections
    assert [d.results[0].hypothesis.score for d in detections] == [0.875, 0.75]
    assert {d.results[0].hypothesis.class_id for d in detections} == {"sound"}
    box = detections[0].bbox  # cells (1, 5) and (1, 6) of 16 x 16 pixels
    assert (box.size_x, box.size_y) == (32.0, 16.0)
    assert (box.center.position.x, box.center.position.y) == (95.5, 23.5)


def test_peaks_stand_where_the_maximum_is():
    _, heatmaps = scene()
    first, second = find_peaks(heatmaps.sound, (96, 128))
    assert (first.x_px, first.y_px) == (103.5, 23.5)
    assert (second.x_px, second.y_px) == (23.5, 71.5)
    assert find_peaks(heatmaps.sound, (96, 128), max_peaks=1) == [first]
    [high] = find_peaks(heatmaps.sound, (96, 128), threshold=0.8)
    assert (high.x_px, high.y_px, high.size_x_px) == (103.5, 23.5, 16.0)
    assert find_peaks(heatmaps.sound * 0, (96, 128), threshold=0.0) == []


@settings(max_examples=20)
@given(hnp.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32)), st.floats(0.05, 1.0))
def test_peaks_are_maxima_above_the_threshold_in_their_boxes(heatmap, threshold):
    peaks = find_peaks(heatmap, (50, 70), threshold, max_peaks=35)
    assert (heatmap.max() >= threshold) == bool(peaks)
    scores = [peak.score for peak in peaks]
    assert scores == sorted(scores, reverse=True)
    if peaks:
        assert scores[0] == heatmap.max()
    for peak in peaks:
        assert peak.score >= threshold
        assert heatmap[round((peak.y_px - 4.5) / 10), round((peak.x_px - 4.5) / 10)] == peak.score
        assert abs(peak.x_px - peak.center_x_px) <= peak.size_x_px / 2
        assert abs(peak.y_px - peak.center_y_px) <= peak.size_y_px / 2


def rotated_x(q):
    """+x turned by a quaternion: the first column of its rotation matrix."""
    return np.array(
        [1 - 2 * (q.y**2 + q.z**2), 2 * (q.x * q.y + q.z * q.w), 2 * (q.x * q.z - q.y * q.w)]
    )


@settings(max_examples=20)
@given(hnp.arrays(np.float64, 3, elements=st.floats(-1, 1)))
def test_rays_turn_x_onto_the_direction(direction):
    norm = np.linalg.norm(direction)
    ray = direction / norm if norm > 1e-3 else np.array([-1.0, 0.0, 0.0])
    pose = objects.as_object(rays_fields([ray], 1, "c")).poses[0]
    np.testing.assert_allclose(rotated_x(pose.orientation), ray, atol=1e-6)
    assert (pose.position.x, pose.position.y, pose.position.z) == (0, 0, 0)


def test_rays_of_peaks_point_at_their_pixels():
    for pose, (x_px, y_px) in zip(
        published()["sound/rays"].poses, [(103.5, 23.5), (23.5, 71.5)], strict=True
    ):
        x, y, z = rotated_x(pose.orientation)
        assert (63.5 + 100 * x / z, 47.5 + 100 * y / z) == pytest.approx((x_px, y_px))


def test_scores_and_points():
    result = objects.as_object(score_fields("speech", 0.25, 1, "c")).results[0]
    assert (result.class_id, result.score) == ("speech", 0.25)
    point = objects.as_object(point_fields([1.0, -2.0, 3.5], 1, "map")).point
    assert (point.x, point.y, point.z) == (1.0, -2.0, 3.5)


def test_an_overlay_shows_its_own_head():
    messages = published()
    sound = decode_image(messages["sound/overlay"]).image.astype(int)
    speech = decode_image(messages["speech/overlay"]).image.astype(int)
    # Sound is amber, speech blue; each only where its own map says so.
    assert sound[71, 23, 0] > sound[71, 23, 2] + 40
    np.testing.assert_allclose(speech[71, 23], 90, atol=1)
    speech_cell = speech[50:62, 50:62].mean(axis=(0, 1))  # with its peak's mark
    assert speech_cell[2] > speech_cell[0] + 40
    compressed = decode_compressed_image(messages["sound/overlay/compressed"]).image
    assert np.abs(compressed.astype(int) - sound).mean() < 6


def test_diagnostics():
    fields = diagnostics_fields(STAMP_NS, [Status("a: b", 1, "late", {"hz": 29.97, "n": 3})])
    message = objects.as_object(fields)
    status = message.status[0]
    assert (status.name, status.level, status.message) == ("a: b", 1, "late")
    assert [(value.key, value.value) for value in status.values] == [("hz", "29.97"), ("n", "3")]


class Octet:
    """Stands where rclpy generates a class: one field of the type `byte`."""

    def __init__(self, level, name):
        self.level, self.name = level, name

    @classmethod
    def get_fields_and_field_types(cls):
        return {"level": "octet", "name": "string"}


def test_build_writes_bytes_where_rclpy_wants_them():
    message = build(Fields("a/msg/B", level=2, name="x"), lambda name: Octet)
    assert (message.level, message.name) == (b"\x02", "x")


def test_build_asks_for_every_nested_type():
    asked = []

    def type_of(name):
        asked.append(name)
        return SimpleNamespace

    build(header_fields(0, ""), type_of)
    assert asked == ["std_msgs/msg/Header", "builtin_interfaces/msg/Time"]


@pytest.mark.parametrize("distro", ["jazzy", "humble"])
def test_outputs_survive_the_wire_format(distro):
    pytest.importorskip("rosbags")
    from av_grounding.transports.messages.definitions import typestore

    store = typestore(distro)
    frame, heatmaps = scene()
    outputs = dict(encode_outputs(frame, heatmaps, None, CAMERA))
    outputs["/diagnostics"] = diagnostics_fields(STAMP_NS, [Status("x", 2, "m", {"a": 1})])
    outputs["sound/point"] = point_fields([1, 2, 3], STAMP_NS, "map")
    for fields in outputs.values():
        message = build(fields, store.types.__getitem__)
        wire = store.serialize_cdr(message, fields.type_name)
        back = store.deserialize_cdr(wire, fields.type_name)
        assert bytes(store.serialize_cdr(back, fields.type_name)) == bytes(wire)
        if "Image" in fields.type_name:
            np.testing.assert_array_equal(back.data, np.asarray(fields["data"]))


def test_type_hashes_are_those_of_ros():
    pytest.importorskip("rosbags")
    from av_grounding.transports.messages.definitions import typestore

    store = typestore("jazzy")
    # As `ros2 topic info -v` prints them on Jazzy.
    assert store.hash_rihs01("sensor_msgs/msg/Image") == (
        "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
    )
