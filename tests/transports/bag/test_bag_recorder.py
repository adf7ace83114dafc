"""Recordings: exact inputs, the order of processing, the same answers, and what ROS reads."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from av_grounding.config import StreamingConfig
from av_grounding.sources.adapters import RateLimiter
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.replay import run_offline
from av_grounding.streaming.runner import Runner
from av_grounding.transports import messages
from av_grounding.transports.bag.encoding import choose_format
from av_grounding.transports.bag.reader import Bag, shared_typestore
from av_grounding.transports.bag.recorder import recorder_in
from av_grounding.transports.bag.source import open_bag, read_facts
from av_grounding.transports.topics.live_stream import LiveStream
from av_grounding.types import AudioChunk, Frame
from tests.helpers import bags
from tests.helpers.bags import START_NS, BagRecorder
from tests.helpers.memory import ListSink
from tests.helpers.other_backends import RegionBackend, SourcesBackend
from tests.helpers.tiny_backend import TinyBackend

NAMESPACE = "/av_grounding"


def groundings(path, backend=None):
    """What a replay as fast as possible answers."""
    video, audio, _ = open_bag(path, realtime=False)
    sink = ListSink()
    run_offline(video, audio, GroundingStream(backend or TinyBackend()), [sink])
    return [grounding for _, grounding in sink.results]


def replay(path, backend=None):
    """Answers of a replay, in the shape of `bags.push`."""
    return [bags.answer_of(grounding) for grounding in groundings(path, backend)]


@pytest.mark.parametrize("name", ["recording.mcap", "recording"])
@pytest.mark.parametrize("is_live", [True, False])
def test_a_replay_gives_the_same_bytes_whatever_came_late(tmp_path, name, is_live):
    steps = bags.mixed_up()
    answers = bags.record(tmp_path / name, steps, is_live=is_live)
    assert sum(shape[0] for (_, shape, _), *_ in answers) > 10  # frames that have a map
    assert replay(tmp_path / name) == answers
    # In the order of the stamps the answers are others: it is the order that makes them equal.
    in_order = sorted(steps, key=lambda step: (step.stamp_ns, isinstance(step, Frame)))
    assert bags.push(GroundingStream(TinyBackend()), in_order) != answers


@pytest.mark.parametrize(
    ("dtype", "channels", "pictures"),
    [
        *((np.float32, 1, "raw"), (np.float32, 2, "png"), (np.int16, 3, "png")),
        *((np.int32, 1, "raw"), (np.float64, 1, "png")),
    ],
)
def test_inputs_come_back_exactly_and_in_order(tmp_path, dtype, channels, pictures):
    steps = bags.mixed_up(6, dtype, channels)
    bags.record(tmp_path / "r.mcap", steps, is_live=False, pictures=pictures)
    video, audio, _ = open_bag(tmp_path / "r.mcap", realtime=False)
    assert audio is None
    again = list(video)
    assert [type(item) for item in again] == [type(step) for step in steps]
    for item, step in zip(again, steps, strict=True):
        assert item.stamp_ns == step.stamp_ns
        if isinstance(step, Frame):
            np.testing.assert_array_equal(item.image, step.image)
            assert item.frame_id == step.frame_id
        else:
            expected = step.samples.astype(np.float32) if dtype == np.float64 else step.samples
            assert item.samples.dtype == expected.dtype
            np.testing.assert_array_equal(item.samples, expected)


def test_a_live_run_with_threads_replays_to_the_byte(tmp_path):
    """Two capture threads, a model thread, frames dropped: what was recorded is what was done."""
    recorder = BagRecorder(tmp_path / "r.mcap")
    sink = ListSink()
    video, audio, _ = open_bag(bags.robot_bag(tmp_path / "bag", num=15), realtime=True)
    stream = recorder.wrap(GroundingStream(TinyBackend()))
    # Live here is a machine that may be busy: no frame is too old to be answered.
    runner = Runner(stream, video, audio, [sink, recorder], max_image_age_s=60.0)
    report = runner.run()
    answers = [bags.answer_of(grounding) for _, grounding in sink.results]
    assert report.num_frames_published >= 1
    assert recorder.describe()["num_frames"] == report.num_frames_published
    assert replay(tmp_path / "r.mcap") == answers


def test_what_ros_2_needs_is_there(tmp_path):
    bags.record(
        tmp_path / "rec", bags.mixed_up(8), is_live=False, facts={"model": {"bundle": "x"}}
    )
    info = yaml.safe_load((tmp_path / "rec" / "metadata.yaml").read_text())
    info = info["rosbag2_bagfile_information"]
    assert info["storage_identifier"] == "mcap"
    assert info["relative_file_paths"] == ["rec.mcap"]
    topics = {t["topic_metadata"]["name"]: t for t in info["topics_with_message_count"]}
    kinds = ("heatmap", "score", "peaks")
    outputs = {f"{NAMESPACE}/{head}/{kind}" for head in ("sound", "speech") for kind in kinds}
    inputs = {f"{NAMESPACE}/audio", f"{NAMESPACE}/image/compressed", f"{NAMESPACE}/recording"}
    assert set(topics) == outputs | inputs
    store = shared_typestore("mgonzs13")
    for name, topic in topics.items():
        metadata = topic["topic_metadata"]
        assert metadata["type_description_hash"] == store.hash_rihs01(metadata["type"])
        (profile,) = yaml.safe_load(metadata["offered_qos_profiles"])
        assert profile["reliability"] == 1
        assert profile["durability"] == (1 if name.endswith("recording") else 2)
        if name in outputs or "image" in name:
            assert topic["message_count"] == 8
    assert info["message_count"] == sum(t["message_count"] for t in topics.values())

    from mcap.reader import make_reader

    with open(tmp_path / "rec" / "rec.mcap", "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert {channel.topic for channel in summary.channels.values()} == set(topics)
        for channel in summary.channels.values():
            schema = summary.schemas[channel.schema_id]
            assert (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
            assert channel.metadata["topic_type_hash"].startswith("RIHS01_")
        logs = [message.log_time for _, _, message in reader.iter_messages()]
        assert logs == sorted(logs)
        (record,) = [r for r in reader.iter_metadata() if r.name == "rosbag2"]
        embedded = yaml.safe_load(record.metadata["serialized_metadata"])
        assert embedded["rosbag2_bagfile_information"] == info
    found = bags.read_topics(tmp_path / "rec")
    (facts,) = found[f"{NAMESPACE}/recording"]
    assert json.loads(facts[1].data)["model"] == {"bundle": "x"}


def test_outputs_are_the_answers(tmp_path):
    bags.record(tmp_path / "r.mcap", bags.mixed_up(12), is_live=False)
    answers = groundings(tmp_path / "r.mcap")
    found = bags.read_topics(tmp_path / "r.mcap")
    for head in ("sound", "speech"):
        maps, scores, peaks = (
            [message for _, message in found[f"{NAMESPACE}/{head}/{kind}"]]
            for kind in ("heatmap", "score", "peaks")
        )
        assert len(maps) == 12
        for answer, heatmap, score, peak in zip(answers, maps, scores, peaks, strict=True):
            decoded = messages.decode_heatmap(heatmap)
            assert decoded.tobytes() == answer.heatmap(head).tobytes()
            assert messages.stamp_ns_of(heatmap.header.stamp) == answer.stamp_ns
            assert heatmap.header.frame_id == "optical"
            assert score.results[0].class_id == head
            assert score.results[0].score == pytest.approx(answer.score(head))
            assert bool(len(peak.detections)) == bool(decoded.max() >= 0.5)
    assert any(len(p.detections) for _, p in found[f"{NAMESPACE}/sound/peaks"])


@pytest.mark.parametrize(
    "backend", [TinyBackend(heads=("music",)), RegionBackend(), SourcesBackend()]
)
def test_any_model_is_recorded_and_replays_to_the_byte(tmp_path, backend):
    answers = bags.record(tmp_path / "r.mcap", bags.mixed_up(8), backend, is_live=False)
    assert replay(tmp_path / "r.mcap", backend) == answers
    found = bags.read_topics(tmp_path / "r.mcap")
    heads = {name.split("/")[-2] for name in found if name.endswith("/heatmap")}
    assert heads == set(backend.spec.head_names)
    names = {
        result.hypothesis.class_id
        for head in heads
        for _, message in found[f"{NAMESPACE}/{head}/peaks"]
        for detection in message.detections
        for result in detection.results
    }
    labels = {"source 1", "source 2", "source 3"}
    assert names
    assert names <= (labels if isinstance(backend, SourcesBackend) else heads)


def test_a_stream_that_takes_requests_is_recorded_as_it_answered(tmp_path):
    recorder, live = BagRecorder(tmp_path / "r.mcap"), LiveStream(TinyBackend(), StreamingConfig())
    stream = recorder.wrap(live)
    live.request(StreamingConfig(recency_s=0.3))  # before the first chunk, so a replay knows it
    answers = bags.push(stream, bags.mixed_up(8))
    recorder.close()
    assert stream.config.recency_s == 0.3
    video, audio, _ = open_bag(tmp_path / "r.mcap", realtime=False)
    again = GroundingStream(TinyBackend(), StreamingConfig(recency_s=0.3))
    assert audio is None
    assert bags.push(again, video) == answers


def test_a_folder_gets_a_recording_of_every_start(tmp_path):
    for _ in range(2):
        recorder = recorder_in(tmp_path / "new" / "folder", {"source": "a node"})
        bags.push(recorder.wrap(GroundingStream(TinyBackend())), bags.mixed_up(2))
        recorder.close()
    recordings = sorted((tmp_path / "new" / "folder").glob("*.mcap"))
    assert len(recordings) == 2
    assert read_facts(Bag(recordings[0]))["source"] == "a node"


def test_thinning_leaves_the_sound_alone(tmp_path):
    steps = bags.mixed_up(10)
    bags.record(tmp_path / "r.mcap", steps, is_live=False)
    video, _, _ = open_bag(tmp_path / "r.mcap", realtime=False)
    items = list(RateLimiter(video, 5.0))
    assert sum(isinstance(item, Frame) for item in items) == 5
    assert sum(isinstance(item, AudioChunk) for item in items) == sum(
        isinstance(step, AudioChunk) for step in steps
    )


def test_an_existing_recording_is_left_alone(tmp_path):
    (tmp_path / "r.mcap").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="exists already: choose another name"):
        BagRecorder(tmp_path / "r.mcap")
    assert (tmp_path / "r.mcap").read_bytes() == b"precious"


def test_a_recording_of_nothing_is_a_sound_file(tmp_path):
    BagRecorder(tmp_path / "rec").close()
    with pytest.raises(ValueError, match=r"no message in it|no topic with pictures"):
        open_bag(tmp_path / "rec")
    assert (tmp_path / "rec" / "metadata.yaml").exists()


def test_the_pipeline_never_waits_and_drops_are_counted(tmp_path, monkeypatch, caplog):
    """A disk that hangs: pushing goes on, pictures are dropped before sound, and it is said."""
    is_open = threading.Event()
    real = os.pwrite

    def hang(*arguments):
        is_open.wait()
        return real(*arguments)

    recorder = BagRecorder(tmp_path / "r.mcap", pictures="raw", flush_s=0.0)
    monkeypatch.setattr(os, "pwrite", hang)
    monkeypatch.setattr("av_grounding.transports.bag.recorder.MAX_QUEUE_BYTES", 200_000)
    stream = recorder.wrap(GroundingStream(TinyBackend()))
    pushed = bags.push(stream, bags.mixed_up(40))
    assert len(pushed) == 40
    counts = recorder.describe()
    is_open.set()
    recorder.close()
    counts = recorder.describe()
    assert counts["num_frames_dropped"] > 10
    assert counts["num_audio_chunks_dropped"] == 0
    assert counts["num_frames"] + counts["num_frames_dropped"] == 40
    assert "too slow" in caplog.text
    assert len(list(open_bag(tmp_path / "r.mcap", realtime=False)[0])) > 100


def test_an_offline_run_waits_for_the_disk_and_drops_nothing(tmp_path, monkeypatch):
    real = os.pwrite

    def crawl(*arguments):
        time.sleep(0.01)
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", crawl)
    monkeypatch.setattr("av_grounding.transports.bag.recorder.MAX_QUEUE_BYTES", 20_000)
    steps = bags.mixed_up(12)
    options = {"is_live": False, "pictures": "raw", "flush_s": 0.0}
    answers = bags.record(tmp_path / "r.mcap", steps, **options)
    assert replay(tmp_path / "r.mcap") == answers
    assert len(list(open_bag(tmp_path / "r.mcap", realtime=False)[0])) == len(steps)


def test_the_picture_format_is_chosen_by_size_and_cost():
    smooth, rough = bags.picture(0), np.random.default_rng(0).integers(0, 256, (48, 64, 3))
    costs = iter([0.0, 0.01, 0.0, 0.02, 0.0, 0.01])
    assert choose_format(smooth, 30.0, lambda: next(costs)) == "png"
    assert choose_format(smooth, 30.0, lambda: next(costs)) == "raw"
    assert choose_format(rough.astype(np.uint8), 30.0, lambda: next(costs)) == "raw"


def start_child(path, pause=0.05, limit=""):
    folder = Path(__file__).parents[2] / "helpers"
    return subprocess.Popen(
        [sys.executable, str(folder / "bag_child.py"), str(path), str(pause), str(limit)],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", ["r.mcap", "r"])
def test_a_killed_recorder_leaves_all_but_the_last_second(tmp_path, name):
    child = start_child(tmp_path / name)
    reported = []
    for line in child.stdout:
        reported.append([int(word) for word in line.split()])
        if len(reported) >= 30 and reported[-1][1] - reported[0][1] > 2.5e9:
            break
    os.kill(child.pid, signal.SIGKILL)
    rest = [[int(word) for word in line.split()] for line in child.stdout]
    child.wait()
    reported += [words for words in rest if len(words) == 2]
    killed_ns = reported[-1][1]
    bag = Bag(tmp_path / name)
    assert "it was not closed" in bag.fault
    items = list(open_bag(tmp_path / name, realtime=False)[0])
    frames = [item for item in items if isinstance(item, Frame)]
    must_be = [index for index, at_ns in reported if killed_ns - at_ns > 1e9]
    assert len(must_be) > 5
    assert len(frames) >= len(must_be)
    for index, frame in enumerate(frames):
        assert frame.stamp_ns == START_NS + index * 100_000_000
        np.testing.assert_array_equal(frame.image, bags.picture(index % 50))
    # Every frame that is there gets the answer that was given.
    answered = {g.stamp_ns: g.heatmap("sound").tobytes() for g in groundings(tmp_path / name)}
    heatmaps = list(bag.messages([f"{NAMESPACE}/sound/heatmap"]))
    assert len(heatmaps) >= len(must_be)
    for message in heatmaps:
        decoded = bag.decode(message)
        stamp_ns = messages.stamp_ns_of(decoded.header.stamp)
        assert messages.decode_heatmap(decoded).tobytes() == answered[stamp_ns]


def check_full_disk(path, child, number):
    output, _ = child.communicate()
    lines = output.strip().splitlines()
    assert child.returncode == 3, output
    error = json.loads(lines[-1])
    assert error["errno"] == number
    assert "stopped" in error["error"]
    assert "free space or choose another place" in error["error"]
    bag = Bag(path)
    assert bag.fault is None, "the file must be complete"
    found = bags.read_topics(path)
    frames = found[f"{NAMESPACE}/image"]
    assert f"kept {len(frames)} frames" in error["error"]
    assert len(frames) > 20
    assert len(replay(path)) == len(frames)


def test_a_file_size_limit_leaves_a_complete_recording(tmp_path):
    check_full_disk(tmp_path / "r", start_child(tmp_path / "r", 0.0, 700_000), errno.EFBIG)


@pytest.fixture
def tiny_disk(tmp_path, request):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = f"size={request.param}k"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("tiny_disk", [1000], indirect=True)
def test_a_full_disk_leaves_a_complete_recording(tiny_disk):
    check_full_disk(tiny_disk / "r", start_child(tiny_disk / "r", 0.0), errno.ENOSPC)


def test_a_live_recording_has_the_times_of_the_wall_clock(tmp_path):
    before_ns = time.time_ns()
    bags.record(tmp_path / "r.mcap", bags.mixed_up(3))
    bag = Bag(tmp_path / "r.mcap")
    assert before_ns - 10 <= bag.start_ns <= bag.end_ns <= time.time_ns() + 10_000
    bags.record(tmp_path / "o.mcap", bags.mixed_up(3), is_live=False)
    offline = Bag(tmp_path / "o.mcap")
    # The moment that the first item was due: a frame's stamp or a chunk's end.
    assert START_NS - 1 <= offline.start_ns <= START_NS + 20_000_000
    assert offline.duration_s == pytest.approx(0.2, abs=0.05)
