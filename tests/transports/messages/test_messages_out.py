"""What is published: absolute values, peaks where they are, rays that point, real types."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_grounding.transports.messages import (
    Fields,
    MalformedMessage,
    Status,
    build,
    compressed_image_fields,
    decode_heatmap,
    diagnostics_fields,
    find_peaks,
    header_fields,
    heatmap_fields,
    image_fields,
    peaks_of,
    peek_stamp_ns,
    point_fields,
    rays_fields,
    score_fields,
)
from av_grounding.types import HeadAnswer
from tests.helpers import answers, objects

STAMP_NS = 1_700_000_000_987_654_321
GRID = (6, 8)


def heatmap():
    values = np.zeros(GRID, np.float32)
    values[1, 6], values[1, 5], values[4, 1] = 0.875, 0.5, 0.75
    return values


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


def test_peaks_stand_where_the_maximum_is():
    first, second = find_peaks(heatmap(), (96, 128))
    assert (first.x_px, first.y_px) == (103.5, 23.5)
    assert (second.x_px, second.y_px) == (23.5, 71.5)
    assert find_peaks(heatmap(), (96, 128), max_peaks=1) == [first]
    [high] = find_peaks(heatmap(), (96, 128), threshold=0.8)
    assert (high.x_px, high.y_px, high.size_x_px) == (103.5, 23.5, 16.0)
    assert find_peaks(heatmap() * 0, (96, 128), threshold=0.0) == []


def test_the_peaks_of_several_maps_are_one_list():
    other = np.zeros(GRID, np.float32)
    other[5, 7] = 0.8125
    maps = answers.answer(heatmap(), other)
    of_head = peaks_of("sound", maps, (96, 128))
    assert [peak.score for peak in of_head] == pytest.approx([0.875, 0.8125, 0.75])
    assert {peak.name for peak in of_head} == {"sound"}
    labelled = answers.answer(heatmap(), other, labels=("dog", "radio"))
    named = peaks_of("sound", labelled, (96, 128), max_peaks=2)
    assert [(peak.name, peak.x_px, peak.y_px) for peak in named] == [
        ("dog", 103.5, 23.5),
        ("radio", 119.5, 87.5),
    ]
    assert peaks_of("sound", labelled, (96, 128), threshold=0.9) == []
    nothing_heard = HeadAnswer(np.zeros((0, *GRID), np.float32))
    assert peaks_of("sound", nothing_heard, (96, 128), threshold=0.0) == []


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


@settings(max_examples=20)
@given(hnp.arrays(np.float64, 3, elements=st.floats(-1, 1)))
@example(np.array([-0.5, 0.0, 1e-6]))
@example(np.array([-1.0, 3e-5, -2e-5]))
@example(np.array([-1.0, 0.0, 1e-16]))
def test_rays_turn_x_onto_the_direction(direction):
    norm = np.linalg.norm(direction)
    ray = direction / norm if norm > 1e-3 else np.array([-1.0, 0.0, 0.0])
    pose = objects.as_object(rays_fields([ray], 1, "c")).poses[0]
    np.testing.assert_allclose(objects.rotated_x(pose.orientation), ray, atol=1e-6)
    assert (pose.position.x, pose.position.y, pose.position.z) == (0, 0, 0)


def test_scores_and_points():
    result = objects.as_object(score_fields("speech", 0.25, 1, "c")).results[0]
    assert (result.class_id, result.score) == ("speech", 0.25)
    point = objects.as_object(point_fields([1.0, -2.0, 3.5], 1, "map")).point
    assert (point.x, point.y, point.z) == (1.0, -2.0, 3.5)


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


def test_type_hashes_are_those_of_ros():
    pytest.importorskip("rosbags")
    from av_grounding.transports.messages.definitions import typestore

    store = typestore("jazzy")
    # As `ros2 topic info -v` prints them on Jazzy.
    assert store.hash_rihs01("sensor_msgs/msg/Image") == (
        "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
    )


@pytest.mark.parametrize("distro", ["jazzy", "humble"])
def test_the_stamp_is_read_without_the_message(distro):
    pytest.importorskip("rosbags")
    from av_grounding.transports.messages.definitions import typestore

    store = typestore(distro)
    pixels = np.zeros((4, 6, 3), np.uint8)
    for fields in (
        image_fields(pixels, "rgb8", STAMP_NS, "optical"),
        compressed_image_fields(pixels, STAMP_NS, "optical"),
    ):
        message = build(fields, store.types.__getitem__)
        for is_little_endian in (True, False):
            cdr = store.serialize_cdr(message, fields.type_name, little_endian=is_little_endian)
            assert peek_stamp_ns(bytes(cdr)) == peek_stamp_ns(cdr) == STAMP_NS


@pytest.mark.parametrize(
    ("cdr", "kind"),
    [
        (b"", "serialization"),
        (b"\0\1\0\0" + bytes(7), "serialization"),
        (b"\0\x0b\0\0" + bytes(40), "serialization"),
        (b"\xff" * 40, "serialization"),
        (b"\0\1\0\0" + b"\xff" * 40, "stamp"),
    ],
)
def test_bytes_without_a_stamp_are_named(cdr, kind):
    with pytest.raises(MalformedMessage, match="expected") as told:
        peek_stamp_ns(cdr)
    assert told.value.kind == kind
