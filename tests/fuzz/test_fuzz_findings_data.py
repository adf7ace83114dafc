"""What fuzzing found in readers of bags and data, one test each; and what errors show."""

import json
import sqlite3
import struct

import numpy as np
import pytest

from av_grounding.evaluation.benchmarks.files import FileCheck
from av_grounding.files import brief, one_line, parse_json
from av_grounding.sources.playback import PlaybackClock
from av_grounding.training.data.shards import Shard, ShardClips, find_shards, list_members
from av_grounding.transports import messages
from av_grounding.transports.bag.limits import check_mcap, inflate
from av_grounding.transports.bag.reader import Bag
from av_grounding.transports.bag.source import open_bag
from tests.fuzz import fuzz_seeds, fuzz_targets

# Bags


def test_what_a_recording_notes_may_be_nested_without_end():
    assert fuzz_targets.run_facts(b"[" * 100_000) is None


def test_a_compressed_chunk_is_as_long_as_it_says():
    import lz4.frame
    import zstandard

    for compression, packed in (
        ("zstd", zstandard.compress(bytes(1000))), ("lz4", lz4.frame.compress(bytes(1000))),
    ):  # fmt: skip
        assert inflate(packed, compression, 1000) == bytes(1000)
        for stated in (999, 1001):
            with pytest.raises(ValueError, match="that it states"):
                inflate(packed, compression, stated)
        with pytest.raises(ValueError, match=r"damaged|states"):
            inflate(packed[: len(packed) // 2], compression, 1000)


def test_rosbags_unpacks_no_more_than_that(tmp_path):
    """Its own decompressors look at the size when all of it is there."""
    from rosbags.rosbag2 import storage_mcap

    path = tmp_path / "bag.mcap"
    path.write_bytes(fuzz_seeds.bag_mcap()[2])
    Bag(path)
    import zstandard

    with pytest.raises(ValueError, match="that it states"):
        storage_mcap.DECOMPRESSORS["zstd"](zstandard.compress(bytes(1 << 20)), 100)


def test_messages_compressed_one_by_one_are_read(tmp_path):
    from rosbags.rosbag2 import Writer
    from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

    from tests.helpers import bags

    frame = bags.pictures(1)[0]
    store = bags.shared_typestore("ros-drivers")
    writer = Writer(tmp_path / "bag", version=9)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        fields = messages.image_fields(frame.image, "rgb8", frame.stamp_ns, "optical")
        connection = writer.add_connection("/image", fields.type_name, typestore=store)
        message = messages.build(fields, store.types.__getitem__)
        writer.write(connection, 1, store.serialize_cdr(message, fields.type_name))
    video, _, _ = open_bag(tmp_path / "bag", audio="none", realtime=False)
    np.testing.assert_array_equal(next(iter(video)).image, frame.image)


def test_an_index_that_names_a_chunk_twice_is_not_used(tmp_path):
    data = fuzz_seeds.bag_mcap()[1]
    path = tmp_path / "bag.mcap"
    path.write_bytes(data)
    check_mcap(path)
    (summary,) = struct.unpack_from("<Q", data, len(data) - 28)
    at = summary
    while data[at] != 0x08:
        at += 9 + struct.unpack_from("<Q", data, at + 1)[0]
    record = data[at : at + 9 + struct.unpack_from("<Q", data, at + 1)[0]]
    path.write_bytes(data[:at] + 100 * record + data[at:])
    with pytest.raises(ValueError, match="overlap"):
        check_mcap(path)
    video, _, _ = open_bag(path, realtime=False)
    assert len(list(video)) == 2


def test_a_log_time_in_five_hundred_years_is_waited_for_without_an_error():
    import threading

    clock, closed = PlaybackClock(True), threading.Event()
    clock.wait(0, closed)
    threading.Timer(0.2, closed.set).start()
    assert not clock.wait(1 << 64, closed)


def test_the_topics_of_a_bag_are_listed_up_to_a_number(tmp_path):
    path = tmp_path / "bag.db3"
    path.write_bytes(fuzz_seeds.bag_sqlite()[0])
    with sqlite3.connect(path) as database:
        rows = [(i, f"/t{i}\n", "std_msgs/msg/String", "cdr", "", "") for i in range(10, 900)]
        database.executemany("INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)", rows)
    with pytest.raises(ValueError, match=r"and 86[0-9] more") as caught:
        open_bag(path, "/nowhere")
    assert "\n" not in str(caught.value)


# Data


@pytest.mark.parametrize("name", ["../../secret.tar", "/etc/secret.tar", "a\0b", "", 5])
def test_a_shard_lies_below_its_index(tmp_path, name):
    row = {"file": name, "kind": "sound", "split": "train", "num_clips": 1}
    (tmp_path / "shards.json").write_text(json.dumps({"format": 1, "shards": [row]}))
    with pytest.raises(ValueError, match="is no shard"):
        find_shards(tmp_path, "train")


@pytest.mark.parametrize("index", [[], {"format": 1}, {"format": 1, "shards": [{}]}, 5])
def test_a_strange_index_of_shards_is_one_line(tmp_path, index):
    (tmp_path / "shards.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="no index of shards"):
        find_shards(tmp_path, "train")


def test_a_sparse_member_of_a_tar_is_left_out(tmp_path):
    import tarfile

    info = tarfile.TarInfo("a.jpg")
    info.type = tarfile.GNUTYPE_SPARSE
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert list_members(path) == []


def test_strange_suffixes_in_a_tar_are_shown_on_one_line(tmp_path):
    import tarfile

    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(50):
            tar.addfile(tarfile.TarInfo(f"a.x{number}\n\0FAKE LOG LINE"))
    clips = ShardClips([Shard(path, "sound", 1)], 16_000)
    with pytest.raises(ValueError, match="expected a picture and a sound") as caught:
        clips.read(0, np.random.default_rng(0))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_field_of_megabytes_is_no_csv(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"video,audio,label\n" + b"a" * (1 << 20) + b",b,c\n")
    with pytest.raises(ValueError, match="not valid CSV"):
        list(FileCheck().rows(path, ("video",)))


def test_names_that_no_file_system_takes_are_missing_files(tmp_path):
    listing = FileCheck()
    assert not listing.has("a", tmp_path / ("a" * 9999), tmp_path / "a\0b")
    assert [problem.kind for problem in listing.problems] == ["missing_file"] * 2


# What errors show


def test_what_is_shown_of_a_value_is_short():
    nested: list = []
    value = nested
    for _ in range(900):
        value.append([])
        value = value[0]
    for shown in (nested, "a" * 10**6, 1 << 99_999, [["x\n" * 9999] * 99] * 99, {"a" * 999: 1}):
        assert len(brief(shown)) < 1500
        assert "\n" not in brief(shown)
    assert brief("it's") == '"it\'s"'


def test_one_line_is_one_line():
    assert one_line(ValueError("a\n  b\tc")) == "a b c"
    assert len(one_line("x " * 10**6)) <= 500


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "{", ""])
def test_json_that_python_cannot_hold_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"[a-z]+"):
        parse_json(text)
