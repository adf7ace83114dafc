"""The heatmap topics on a real bus: two processes over Cyclone DDS on the loopback interface."""

import hashlib
import os
import signal
import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds")
pytest.importorskip("rosbags")

from av_grounding.config import config_from_mapping
from av_grounding.transports.dds.diagnostics import DdsMonitor
from av_grounding.transports.dds.node import MAX_WAITING, DdsPublisher
from av_grounding.transports.dds.types import WireTypes
from av_grounding.transports.messages import (
    CameraInfo,
    MalformedCounter,
    MalformedMessage,
)
from av_grounding.transports.topics.outputs import OutputOptions, encode_outputs
from av_grounding.transports.topics.separated import AUDIO, sound_fields
from av_grounding.transports.topics.table import topics_of
from av_grounding.types import AudioChunk
from tests.helpers.dds_helpers import HEADS, Peer, kill_peers, open_bus, scene, wait_until

CAMERA = CameraInfo(
    96, 128, np.diag([100.0, 100.0, 1.0]), np.zeros((3, 4)), np.zeros(5), np.eye(3)
)
HEATMAP = "sensor_msgs/msg/Image"
TOPICS = topics_of(HEADS)
PUBLISHED = [name for name in TOPICS if not name.endswith("/point")]


@pytest.fixture
def publisher():
    published = DdsPublisher(open_bus(), HEADS, camera=lambda: CAMERA)
    yield published
    kill_peers()
    published.close()


def absolute(name):
    return name if name.startswith("/") else f"/a/{name}"


def subscriber(names, reliabilities=("reliable",)):
    peer = Peer(
        "subscribe",
        *(
            f"{how}:{absolute(name)}={TOPICS[name].type_name}"
            for how in reliabilities
            for name in names
        ),
    )
    matched = peer.wait_for("ready")["matched"]
    assert all(matched.values()), matched
    return peer


def received(lines, name, reliability="reliable"):
    return [line for line in lines if line.get("topic") == f"{reliability}:{absolute(name)}"]


def test_every_topic_arrives_as_it_was_encoded_with_either_quality_of_service(publisher):
    publisher.statuses = DdsMonitor(publisher, COUNTERS.copy).statuses
    both = ("reliable", "best_effort")
    peer = subscriber(PUBLISHED, both)
    wait_until(lambda: all(number == 2 for number in publisher.num_subscribers.values()))
    scenes = []
    for index in range(5):
        scenes.append(scene(index))
        publisher.write(*scenes[-1])
        # Overlays are left out while frames wait, which is another test's matter.
        wait_until(lambda: publisher.num_published == len(scenes))
    time.sleep(1.2)  # one report of the diagnostics
    lines = peer.finish()
    types, options = WireTypes(), OutputOptions()
    for frame, grounding in scenes:
        for name, fields in encode_outputs(frame, grounding, options, CAMERA):
            cdr = types.encode(fields).cdr
            sha = hashlib.sha256(cdr.ljust((len(cdr) + 3) // 4 * 4, b"\0")).hexdigest()
            for how in both:
                found = [line for line in received(lines, name, how) if line["sha"] == sha]
                assert [line["stamp_ns"] for line in found] == [frame.stamp_ns], name
    for name in set(PUBLISHED) - {"/diagnostics"}:
        assert len(received(lines, name)) == len(scenes)
    assert received(lines, "/diagnostics")


def test_types_and_node_are_seen_by_a_stranger_to_this_package():
    for distro in ("jazzy", "humble"):
        publisher = DdsPublisher(open_bus(distro), HEADS)
        peer = Peer("native", distro=distro)
        peer.wait_for("ready")
        wait_until(lambda p=publisher: p.num_subscribers["sound/heatmap"] == 1)
        wait_until(lambda p=publisher: p.num_subscribers["sound/score"] == 1)
        frame, grounding = scene(5)
        publisher.write(frame, grounding)
        time.sleep(0.7)
        lines = peer.finish()
        publisher.close()
        _check_messages(lines, frame, grounding)
        _check_graph(lines, distro)


def _check_messages(lines, frame, grounding):
    [heatmap] = [line for line in lines if line.get("kind") == "heatmap"]
    assert heatmap["stamp_ns"] == frame.stamp_ns
    assert (heatmap["frame_id"], heatmap["encoding"]) == ("optical", "32FC1")
    assert heatmap["size"] == list(grounding.heatmap("sound").shape)
    values = np.frombuffer(bytes.fromhex(heatmap["data"]), "<f4")
    np.testing.assert_array_equal(values, grounding.heatmap("sound").ravel())
    [score] = [line for line in lines if line.get("kind") == "score"]
    assert score["value"] == ["sound", pytest.approx(0.75)]


def _check_graph(lines, distro):
    [*_, node] = [line for line in lines if line.get("kind") == "node"]
    assert node["name"] == ["/a", "grounding"]
    endpoints = {
        line["key"]: line
        for line in lines
        if line.get("kind") == "endpoint" and line["topic"].startswith("rt/")
    }
    assert {gid[:32] for gid in node["writers"]} == set(endpoints)
    assert {len(gid) for gid in node["writers"]} == {48 if distro == "humble" else 32}
    assert {line["topic"] for line in endpoints.values()} == {
        f"rt{absolute(name)}" for name in PUBLISHED
    }
    [heatmap] = [line for line in endpoints.values() if line["topic"] == "rt/a/sound/heatmap"]
    assert heatmap["type"] == "sensor_msgs::msg::dds_::Image_"
    expected = "typehash=RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47;"
    assert heatmap["user_data"] == ("" if distro == "humble" else expected)
    [participant] = [line for line in lines if line.get("key") == node["participant"][:32]]
    assert participant["user_data"] == "enclave=/;"


def test_a_late_subscriber_gets_what_comes_from_then_on(publisher):
    for index in range(5):
        publisher.write(*scene(index))
    wait_until(lambda: publisher.num_published == 5)
    assert sum(publisher.num_subscribers.values()) == 0
    assert all(writer.num_written == 0 for writer in publisher._writers.values())
    peer = subscriber(["sound/heatmap"])
    wait_until(lambda: publisher.num_subscribers["sound/heatmap"] == 1)
    late = [scene(index) for index in range(5)]
    for frame, grounding in late:
        publisher.write(frame, grounding)
    wait_until(lambda: publisher.num_published == 10)
    stamps = [line["stamp_ns"] for line in received(peer.finish(), "sound/heatmap")]
    assert stamps == [frame.stamp_ns for frame, _ in late]
    # Nobody asked for pictures, so none was drawn.
    assert publisher._writers["sound/overlay"].num_written == 0


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_subscriber_costs_the_living_one_nothing(publisher, sent):
    names = ["sound/heatmap", "speech/heatmap", "sound/overlay"]
    living, dead = subscriber(names[:2]), subscriber(names)
    wait_until(lambda: all(publisher.num_subscribers[name] == 2 for name in names[:2]))
    os.kill(dead.pid, sent)
    stamps = []
    for index in range(60):
        # That a busy machine starves the publishing thread is another matter.
        wait_until(lambda: publisher.num_waiting < MAX_WAITING / 2)
        frame, grounding = scene(index)
        stamps.append(frame.stamp_ns)
        publisher.write(frame, grounding)
        time.sleep(0.02)
    wait_until(lambda: publisher.num_waiting == 0)
    lines = living.finish()
    dead.kill()
    for name in names[:2]:
        assert [line["stamp_ns"] for line in received(lines, name)] == stamps
    assert publisher.num_dropped == 0


def _stream(publisher, seconds, shape, capsys, num_waiting=MAX_WAITING):
    """30 Hz to a subscriber of each kind; every heatmap must come, in order.

    With `num_waiting` frames that are not yet published the next one waits.
    """
    names, both = ["sound/heatmap", "speech/heatmap"], ("reliable", "best_effort")
    peer = subscriber(names, both)
    wait_until(lambda: all(publisher.num_subscribers[name] == 2 for name in names))
    stamps, started_s = [], time.monotonic()
    for index in range(30 * seconds):
        time.sleep(max(0.0, started_s + index / 30 - time.monotonic()))
        wait_until(lambda: publisher.num_waiting <= num_waiting)
        frame, grounding = scene(index, shape)
        stamps.append(frame.stamp_ns)
        publisher.write(frame, grounding)
    wait_until(lambda: publisher.num_waiting == 0)
    lines = peer.finish()
    for name in names:
        for how in both:
            assert [line["stamp_ns"] for line in received(lines, name, how)] == stamps
    assert publisher.num_dropped == publisher.num_refused == 0
    ages_ms = [
        (line["received_ns"] - line["stamp_ns"]) / 1e6 for line in received(lines, names[0])
    ]
    p50, p99 = np.percentile(ages_ms, [50, 99])
    with capsys.disabled():
        print(f"\n{shape} float heatmaps at 30 Hz: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def test_thirty_hertz_without_a_loss(publisher, capsys):
    _stream(publisher, 3, (14, 18), capsys, MAX_WAITING // 2)


@pytest.mark.slow
def test_thirty_hertz_for_twenty_seconds_without_a_loss(publisher, capsys):
    _stream(publisher, 20, (224, 224), capsys)


def test_heatmaps_go_before_overlays_and_what_cannot_wait_is_counted(publisher):
    peer = subscriber(["sound/heatmap", "sound/overlay"])
    wait_until(lambda: publisher.num_subscribers["sound/overlay"] == 1)
    scenes = [scene(index) for index in range(3 * MAX_WAITING)]
    with publisher._changed:  # the publishing thread can take none meanwhile
        for frame, grounding in scenes:
            publisher.write(frame, grounding)
    wait_until(lambda: publisher.num_waiting == 0)
    wait_until(lambda: publisher.num_published == MAX_WAITING)
    lines = peer.finish()
    kept = [frame.stamp_ns for frame, _ in scenes[-MAX_WAITING:]]
    assert [line["stamp_ns"] for line in received(lines, "sound/heatmap")] == kept
    assert publisher.num_dropped == 2 * MAX_WAITING
    assert 0 < len(received(lines, "sound/overlay")) < MAX_WAITING


def test_a_head_may_be_switched_off(publisher):
    peer = subscriber(["sound/heatmap", "speech/heatmap"])
    wait_until(lambda: publisher.num_subscribers["speech/heatmap"] == 1)
    publisher.config = config_from_mapping({"speech.enabled": False})
    publisher.write(*scene(0))
    wait_until(lambda: publisher.num_published == 1)
    lines = peer.finish()
    assert len(received(lines, "sound/heatmap")) == 1
    assert received(lines, "speech/heatmap") == []


def test_a_head_that_the_model_lacks_is_not_offered():
    publisher = DdsPublisher(open_bus(), ["music"])
    listener = open_bus(namespace="/b", name="listener")
    wait_until(lambda: "/a/music/heatmap" in listener.offers())
    offered = {name for name in listener.offers() if name.startswith("/a/")}
    names = topics_of(["music"])
    assert offered == {f"/a/{n}" for n in names if n not in ("music/point", "/diagnostics")}
    publisher.close()
    listener.close()


def test_another_domain_hears_nothing():
    publisher = DdsPublisher(open_bus(), HEADS)
    elsewhere = open_bus("humble")
    time.sleep(1.0)
    assert "/a/sound/heatmap" not in elsewhere.offers()
    listener = open_bus(namespace="/b", name="listener")
    wait_until(lambda: "/a/sound/heatmap" in listener.offers())
    assert not listener.offers()["/a/sound/heatmap"][0].is_own
    publisher.close()
    wait_until(lambda: "/a/sound/heatmap" not in listener.offers())
    listener.close()
    elsewhere.close()


COUNTERS = {
    "num_frames_captured": 0,
    "num_frames_replaced": 3,
    "num_frames_too_old": 4,
    "num_audio_chunks": 0,
    "num_audio_overruns": 2,
    "stream": {
        "audio_lag_ms": 2500.0,
        "drift_ppm": 12.5,
        "num_gaps": 1,
        "num_overlaps": 0,
        "num_repeated_chunks": 0,
        "num_frame_stamp_steps_back": 0,
        "num_audio_resets": 0,
        "num_audio_samples": 16_000,
        "hop_s": 0.16,
        "hop_widened": 1.0,
    },
}


def test_diagnostics_name_what_is_wrong(publisher, monkeypatch):
    malformed = MalformedCounter()
    counters = dict(COUNTERS)
    monitor = DdsMonitor(publisher, lambda: counters, {"device": "cpu"}, malformed)
    inputs, sync, inference, transport = monitor.statuses()
    assert inputs.name == "/a/grounding: inputs"  # as the node's: its name with its namespace
    assert (inputs.level, sync.level) == (0, 1)
    assert "2.5 s apart" in sync.message
    assert inference.values["backend_device"] == "cpu"
    assert inference.values["skipped"] == 7
    assert transport.values["frames_dropped"] == 0
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 4.0)
    counters["num_audio_chunks"] = 40
    counters["num_frames_too_old"] = 100
    malformed.add("/cam", MalformedMessage("step", "step of 1 byte"))
    inputs, _, inference, _ = monitor.statuses()
    assert (inputs.level, inference.level) == (1, 0)
    assert "no image for 4 s" in inputs.message
    assert "no audio" not in inputs.message
    assert "step of 1 byte" in inputs.message
    assert inputs.values["audio_hz"] == pytest.approx(10.0, abs=0.1)
    assert inputs.values["malformed /cam step"] == 1
    counters["num_frames_captured"] = 100
    monkeypatch.setattr(time, "monotonic", lambda: now_s + 5.0)
    inference = monitor.statuses()[2]
    assert inference.level == 1
    assert "100 were older than max_image_age_ms" in inference.message


def test_the_wire_types_refuse_other_bytes():
    types = WireTypes()
    for cdr in (b"", b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 40, bytes(3000)):
        with pytest.raises(MalformedMessage, match="are no sensor_msgs/msg/Image"):
            types.decode(cdr, "sensor_msgs/msg/Image")


def test_the_sound_of_a_place_is_there_while_somebody_wants_it():
    config = config_from_mapping({"separation.target": "point", "separation.x_px": 100.0})
    publisher = DdsPublisher(open_bus(), HEADS, config, separates=True)
    try:
        assert publisher.place((96, 128)) is None
        type_name = topics_of(HEADS, separates=True)[AUDIO].type_name
        peer = Peer("subscribe", f"reliable:/a/{AUDIO}={type_name}")
        assert peer.wait_for("ready")["matched"] == {f"reliable:/a/{AUDIO}": 1}
        assert publisher.place((96, 128)) == (100.0, 0.0)
        assert publisher.place((96, 80)) is None  # off this picture
        rng, start_ns, sent = np.random.default_rng(0), time.time_ns(), []
        frame, _ = scene(0)
        for number in range(8):
            samples = 0.1 * rng.standard_normal(1600).astype(np.float32)
            chunk = AudioChunk(samples, start_ns + number * 100_000_000, 16_000)
            publisher.write_sound(chunk, frame)
            sent += [f for _, f in sound_fields(chunk, frame.frame_id, lambda name: name == AUDIO)]
        time.sleep(1.0)
        got = [line for line in peer.finish() if "sha" in line]
        expected = [hashlib.sha256(WireTypes().encode(one).cdr).hexdigest() for one in sent]
        assert [line["sha"] for line in got] == expected
        assert [line["stamp_ns"] - start_ns for line in got] == [
            number * 100_000_000 for number in range(8)
        ]
        wait_until(lambda: publisher.place((96, 128)) is None)
    finally:
        kill_peers()
        publisher.close()
