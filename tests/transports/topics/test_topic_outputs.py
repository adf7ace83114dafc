"""An answer as the messages of its topics: any heads, what is wanted, real types."""

from dataclasses import replace

import numpy as np
import pytest

from av_grounding.config import config_from_mapping
from av_grounding.transports.messages import (
    CameraInfo,
    Status,
    build,
    decode_compressed_image,
    decode_heatmap,
    decode_image,
    diagnostics_fields,
    point_fields,
)
from av_grounding.transports.topics.outputs import OutputOptions, encode_outputs
from av_grounding.transports.topics.table import is_output, topics_of
from av_grounding.types import Frame, Grounding, HeadAnswer
from tests.helpers import objects
from tests.helpers.answers import answer

STAMP_NS = 1_700_000_000_987_654_321
GRID = (6, 8)
HEADS = ("sound", "speech")
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
    heads = {"sound": answer(sound), "speech": answer(speech)}
    return frame, Grounding(heads, STAMP_NS, "optical", (96, 128))


def published(grounding=None, **options):
    frame, of_both = scene()
    outputs = encode_outputs(frame, grounding or of_both, OutputOptions(**options), CAMERA)
    return {topic: objects.as_object(fields) for topic, fields in outputs}


def test_every_topic_but_two_comes_from_one_frame_with_its_header():
    messages = published()
    others = {"sound/point", "speech/point", "/diagnostics"}
    assert set(messages) == set(topics_of(HEADS)) - others
    for message in messages.values():
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == STAMP_NS
        assert message.header.frame_id == "optical"


def test_a_head_that_the_model_lacks_has_no_topic():
    names = set(topics_of(["sound"]))
    assert {"sound/heatmap", "sound/overlay/compressed", "heatmap/camera_info"} <= names
    assert not any(name.startswith("speech/") for name in names)
    assert set(topics_of([])) == {"heatmap/camera_info", "/diagnostics"}
    _, both = scene()
    alone = replace(both, heads={"music": both["sound"]})
    messages = published(alone)
    assert set(messages) == set(topics_of(["music"])) - {"music/point", "/diagnostics"}
    assert messages["music/score"].results[0].class_id == "music"


def test_every_source_has_a_heatmap_of_its_own_and_a_detection_with_its_number():
    first, second = np.zeros((2, *GRID), np.float32)
    first[1, 6], first[4, 1], second[3, 3] = 0.875, 0.75, 0.625
    several = replace(answer(first, second), ids=(2, 1), max_sources=3)
    _, both = scene()
    messages = published(replace(both, heads={"sound": several}))
    assert set(messages) == set(topics_of(["sound"], max_sources=3)) - {
        "sound/point",
        "/diagnostics",
    }
    heatmaps = [decode_heatmap(messages[f"sound/source_{n}/heatmap"]) for n in (1, 2, 3)]
    np.testing.assert_allclose(heatmaps[0], second, atol=1e-6)
    np.testing.assert_allclose(heatmaps[1], first, atol=1e-6)
    assert not heatmaps[2].any()
    # One for each source, although the first map has two maxima.
    found = [
        (one.id, one.results[0].hypothesis.class_id) for one in messages["sound/peaks"].detections
    ]
    assert found == [("source_2", "sound"), ("source_1", "sound")]
    nothing = HeadAnswer(np.zeros((0, *GRID), np.float32), max_sources=3)
    silent = published(replace(both, heads={"sound": nothing}))
    assert not decode_heatmap(silent["sound/source_1/heatmap"]).any()
    assert silent["sound/peaks"].detections == []


def test_several_maps_are_one_heatmap_and_one_list_of_named_peaks():
    dog, radio = np.zeros(GRID, np.float32), np.zeros(GRID, np.float32)
    dog[1, 6], radio[4, 1] = 0.625, 0.875
    heads = {"sound": answer(dog, radio, labels=("dog", "radio"))}
    messages = published(Grounding(heads, STAMP_NS, "optical", (96, 128)))
    heatmap = decode_heatmap(messages["sound/heatmap"])
    np.testing.assert_allclose(heatmap, np.maximum(dog, radio), atol=1e-6)
    found = [d.results[0].hypothesis for d in messages["sound/peaks"].detections]
    assert [result.class_id for result in found] == ["radio", "dog"]
    assert [result.score for result in found] == pytest.approx([0.875, 0.625])
    assert messages["sound/score"].results[0].score == pytest.approx(0.875)
    assert len(messages["sound/rays"].poses) == 2


def test_nothing_heard_is_all_zeros_and_no_peak():
    nothing = HeadAnswer(np.zeros((0, *GRID), np.float32))
    messages = published(Grounding({"sound": nothing}, STAMP_NS, "optical", (96, 128)))
    np.testing.assert_array_equal(decode_heatmap(messages["sound/heatmap"]), np.zeros(GRID))
    assert messages["sound/score"].results[0].score == 0.0
    assert messages["sound/peaks"].detections == []


def test_a_threshold_is_its_heads_and_the_usual_where_nothing_was_said():
    options = OutputOptions.of(config_from_mapping({"sound.threshold": 0.8}), (96, 128))
    assert (options.threshold("sound"), options.threshold("music")) == (0.8, 0.5)
    detections = published(thresholds=options.thresholds)
    assert len(detections["sound/peaks"].detections) == 1
    assert len(detections["speech/peaks"].detections) == 1


def test_own_pictures_are_told_from_cameras():
    names = ("/a/music/heatmap", "/sound/overlay", "/x/overlay/compressed")
    assert all(map(is_output, names))
    assert not any(map(is_output, ("/camera/image", "/camera/image/compressed", "/overlay_cam")))


def test_types_are_those_of_the_table():
    frame, grounding = scene()
    topics = topics_of(HEADS)
    for topic, fields in encode_outputs(frame, grounding, None, CAMERA):
        assert fields.type_name == topics[topic].type_name
    assert diagnostics_fields(0, []).type_name == topics["/diagnostics"].type_name
    assert point_fields([1, 2, 3], 0, "c").type_name == topics["sound/point"].type_name


def test_only_what_is_wanted_is_made():
    frame, grounding = scene()
    wanted = {"speech/heatmap", "sound/peaks"}
    outputs = encode_outputs(frame, grounding, None, CAMERA, wanted.__contains__)
    assert {topic for topic, _ in outputs} == wanted


def test_without_calibration_there_are_no_rays():
    frame, grounding = scene()
    uncalibrated = replace(CAMERA, k=np.zeros((3, 3)))
    topics = {topic for topic, _ in encode_outputs(frame, grounding, None, uncalibrated)}
    assert "sound/rays" not in topics
    assert "sound/peaks" in topics
    topics = {topic for topic, _ in encode_outputs(frame, grounding)}
    assert "heatmap/camera_info" not in topics


def test_heatmap_size_changes_the_map_and_its_camera():
    messages = published(heatmap_size=(24, 32))
    assert decode_heatmap(messages["sound/heatmap"]).shape == (24, 32)
    info = messages["heatmap/camera_info"]
    assert (info.height, info.width) == (24, 32)
    assert info.k[0] == pytest.approx(25.0)


def test_peaks_and_their_boxes_in_image_pixels():
    detections = published()["sound/peaks"].detections
    assert [d.results[0].hypothesis.score for d in detections] == pytest.approx([0.875, 0.75])
    assert {d.results[0].hypothesis.class_id for d in detections} == {"sound"}
    box = detections[0].bbox  # cells (1, 5) and (1, 6) of 16 x 16 pixels
    assert (box.size_x, box.size_y) == (32.0, 16.0)
    assert (box.center.position.x, box.center.position.y) == (95.5, 23.5)


def test_rays_of_peaks_point_at_their_pixels():
    for pose, (x_px, y_px) in zip(
        published()["sound/rays"].poses, [(103.5, 23.5), (23.5, 71.5)], strict=True
    ):
        x, y, z = objects.rotated_x(pose.orientation)
        assert (63.5 + 100 * x / z, 47.5 + 100 * y / z) == pytest.approx((x_px, y_px))


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


@pytest.mark.parametrize("distro", ["jazzy", "humble"])
def test_outputs_survive_the_wire_format(distro):
    pytest.importorskip("rosbags")
    from av_grounding.transports.messages.definitions import typestore

    store = typestore(distro)
    frame, grounding = scene()
    outputs = dict(encode_outputs(frame, grounding, None, CAMERA))
    outputs["/diagnostics"] = diagnostics_fields(STAMP_NS, [Status("x", 2, "m", {"a": 1})])
    outputs["sound/point"] = point_fields([1, 2, 3], STAMP_NS, "map")
    for fields in outputs.values():
        message = build(fields, store.types.__getitem__)
        wire = store.serialize_cdr(message, fields.type_name)
        back = store.deserialize_cdr(wire, fields.type_name)
        assert bytes(store.serialize_cdr(back, fields.type_name)) == bytes(wire)
        if "Image" in fields.type_name:
            np.testing.assert_array_equal(back.data, np.asarray(fields["data"]))
