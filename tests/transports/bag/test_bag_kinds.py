"""Kinds of bags, pictures and sound of robots: killed recorders, video, other sound messages."""

import logging
import sqlite3

import numpy as np
import pytest
import zstandard
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from av_grounding.config import AudioSettings
from av_grounding.transports import messages
from av_grounding.transports.bag.reader import Bag, shared_typestore
from av_grounding.transports.bag.source import open_bag
from av_grounding.transports.messages import Fields
from tests.helpers import bags, coded
from tests.helpers.bags import START_NS, BagWriter

PLUGINS = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}


def play(path, **options):
    video, audio, playback = open_bag(path, realtime=False, **options)
    return list(video), [] if audio is None else list(audio), playback


def check_whole(path, num=20):
    video, audio, playback = play(path)
    assert [frame.stamp_ns for frame in video] == [f.stamp_ns for f in bags.pictures(num)]
    for frame, was in zip(video, bags.pictures(num), strict=True):
        np.testing.assert_array_equal(frame.image, was.image)
    sounds = bags.sounds(num / 10, np.int16)
    assert len(audio) == len(sounds) == 5 * num
    for chunk, was in zip(audio, sounds, strict=True):
        np.testing.assert_array_equal(chunk.samples, was.samples)
    assert playback.malformed.total == 0
    return playback


def compressed_bag(path, storage, mode):
    """`bags.robot_bag` as `ros2 bag record --compression-mode` writes it."""
    source = Bag(bags.robot_bag(path.with_name("plain")))
    writer = Writer(path, version=9, storage_plugin=PLUGINS[storage])
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = {
            name: writer.add_connection(
                name, topic.type_name, typestore=shared_typestore("ros-drivers")
            )
            for name, topic in source.topics.items()
        }
        for message in source.messages(list(source.topics)):
            writer.write(connections[message.topic], message.log_ns, bytes(message.data))
    return path


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
@pytest.mark.parametrize("mode", [CompressionMode.MESSAGE, CompressionMode.FILE])
def test_compressed_bags_are_read_whole_and_killed_and_file_by_file(tmp_path, storage, mode):
    path = compressed_bag(tmp_path / "bag", storage, mode)
    check_whole(path)
    (path / "metadata.yaml").unlink()
    assert "metadata.yaml is missing" in check_whole(path).bag.fault
    (file,) = path.iterdir()
    check_whole(file)


def test_what_is_missing_of_a_compressed_file_is_said(tmp_path, caplog):
    path = compressed_bag(tmp_path / "bag", "sqlite3", CompressionMode.FILE)
    (path / "metadata.yaml").unlink()
    (file,) = path.iterdir()
    plain = zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read()
    packed = zstandard.ZstdCompressor().compressobj()
    begin = packed.compress(plain[: len(plain) * 2 // 3])
    file.write_bytes(begin + packed.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    video, _, _ = play(path)
    assert 5 <= len(video) < 20
    for frame, was in zip(video, bags.pictures(20), strict=False):
        np.testing.assert_array_equal(frame.image, was.image)
    assert "the database ends early" in caplog.text


def killed_with_a_log(tmp_path):
    """A bag half of whose messages are in the write-ahead log, as a killed recorder leaves it."""
    (source,) = bags.robot_bag(tmp_path / "src", "sqlite3").glob("*.db3")
    left = tmp_path / "bag"
    left.mkdir()
    (tmp_path / "work").mkdir()
    database = sqlite3.connect(tmp_path / "work" / "bag_0.db3")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute("ATTACH ? AS src", (str(source),))
    for name, sql in database.execute(
        "SELECT name, sql FROM src.sqlite_master WHERE type = 'table'"
    ).fetchall():
        database.execute(sql)
        half = "WHERE id <= (SELECT max(id) / 2 FROM src.messages)" if name == "messages" else ""
        database.execute(f"INSERT INTO {name} SELECT * FROM src.{name} {half}")
    database.commit()
    database.execute("PRAGMA main.wal_checkpoint(FULL)")
    database.execute(
        "INSERT INTO messages SELECT * FROM src.messages "
        "WHERE id > (SELECT max(id) / 2 FROM src.messages)"
    )
    database.commit()
    for file in (tmp_path / "work").iterdir():
        (left / file.name).write_bytes(file.read_bytes())
    database.close()
    return left


@pytest.mark.parametrize("name", [".", "bag_0.db3"])
def test_the_write_ahead_log_of_a_killed_recorder_is_read(tmp_path, name):
    folder = killed_with_a_log(tmp_path)
    assert (folder / "bag_0.db3-wal").stat().st_size > 100_000
    assert check_whole(folder / name).bag.fault.startswith("bag_0.db3-wal was never merged")


def test_topics_that_the_library_would_leave_out_are_read(tmp_path):
    """rosbags gives none of a topic whose QoS metadata.yaml states otherwise than the file."""
    path = bags.robot_bag(tmp_path / "bag")
    text = (path / "metadata.yaml").read_text()
    changed = text.replace("type: sensor_msgs/msg/Image", "type: sensor_msgs/msg/CompressedImage")
    assert changed != text
    (path / "metadata.yaml").write_text(changed)
    assert "does not describe /camera/image_raw as bag.mcap does" in check_whole(path).bag.fault


def test_less_than_the_bag_states_is_said(tmp_path, caplog):
    path = bags.robot_bag(tmp_path / "bag", "sqlite3")
    with sqlite3.connect(path / "bag.db3") as database:
        database.execute("DELETE FROM messages WHERE timestamp > ?", (START_NS + 10**9,))
    database.close()
    video, _, _ = play(path, audio="none")
    assert len(video) == 10
    assert f"{len(video)} of the 20 messages of /camera/image_raw are in its files" in caplog.text


def test_a_bag_of_ros_1_is_named_with_the_command(tmp_path):
    path = tmp_path / "my kitchen.bag"
    path.write_bytes(b"#ROSBAG V2.0\n" + bytes(5000))
    command = rf"rosbags-convert --src '{path}' --dst '{tmp_path}/my kitchen'"
    for given in (path, tmp_path):
        with pytest.raises(ValueError, match=command):
            open_bag(given)


def with_pictures(path, fields_of, num=12, audio="ros-drivers"):
    writer = BagWriter(path, "mcap", audio)
    for i in range(num):
        log_ns = START_NS + i * 10**8
        writer.add("/camera/picture", fields_of(i, log_ns), log_ns)
    return writer


def h264_fields(num=12):
    packets = coded.video_packets([coded.grey(i) for i in range(num)])

    def fields_of(i, stamp_ns):
        stamp = messages.header_fields(stamp_ns, "")["stamp"]
        data = np.frombuffer(packets[i], np.uint8)
        return Fields(
            "foxglove_msgs/msg/CompressedVideo",
            timestamp=stamp, frame_id="optical", data=data, format="h264",
        )  # fmt: skip

    return fields_of


def test_compressed_video_is_decoded(tmp_path):
    path = with_pictures(tmp_path / "bag", h264_fields()).close()
    for _ in range(2):
        video, _, playback = play(path, audio="none")
        assert [frame.stamp_ns for frame in video] == [START_NS + i * 10**8 for i in range(12)]
        grey = [frame.image.mean() for frame in video]
        np.testing.assert_allclose(grey, 20 * np.arange(12), atol=2.5)
        assert playback.malformed.total == 0


def nv21_fields(i, stamp_ns):
    rows = np.full((72, 64), 128, np.uint8)
    rows[:48] = 16 + 10 * i
    fields = messages.image_fields(rows, "nv21", stamp_ns, "optical")
    return Fields("sensor_msgs/msg/Image", **{**fields, "height": 48})


def test_nv21_is_decoded(tmp_path):
    video, _, _ = play(with_pictures(tmp_path / "bag", nv21_fields).close(), audio="none")
    grey = [frame.image.mean() for frame in video]
    np.testing.assert_allclose(grey, 10 * np.arange(12) * 255 / 219, atol=1.0)
    assert {frame.image.shape for frame in video} == {(48, 64, 3)}


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1", "nv24"])
def test_pictures_that_are_not_read_are_named(tmp_path, encoding):
    pixels = np.zeros((4, 6), {"32FC1": np.float32, "16UC1": np.uint16}.get(encoding, np.uint8))

    def fields_of(i, stamp_ns):
        return messages.image_fields(pixels, encoding, stamp_ns, "optical")

    path = with_pictures(tmp_path / "bag", fields_of).close()
    with pytest.raises(ValueError, match=rf"/camera/picture: image encoding '?{encoding}'?.*read"):
        open_bag(path, audio="none")
    if encoding != "16UC1":
        with pytest.raises(ValueError, match=f"image encoding '{encoding}': expected one of rgb8"):
            open_bag(path, "/camera/picture", "none")


def test_bare_mp3_without_its_info_is_refused(tmp_path):
    writer = with_pictures(tmp_path / "bag", nv21_fields)
    samples = np.concatenate([c.samples for c in bags.sounds(1.0, np.int16)])
    for i, packet in enumerate(coded.mp3_packets(samples)):
        stamp_ns = START_NS + i * 36_000_000
        octets = Fields("audio_common_msgs/msg/AudioData", data=np.frombuffer(packet, np.uint8))
        header = messages.header_fields(stamp_ns, "mic")
        stamped = Fields("audio_common_msgs/msg/AudioDataStamped", header=header, audio=octets)
        writer.add("/audio/audio_stamped", stamped, stamp_ns)
    path = writer.close()
    with pytest.raises(ValueError, match=r"MP3 .*format:=wave.*record /audio/audio_info too"):
        open_bag(path)
    assert len(play(path, audio="none")[0]) == 12


@pytest.mark.parametrize("given", [{}, {"sample_rate": 8_000, "channels": 1}])
def test_a_later_file_of_a_split_bag_has_the_layout_of_the_first(tmp_path, caplog, given):
    chunks = bags.sounds(0.4, np.int16, channels=6, rate_hz=48_000)
    folder = tmp_path / "split"
    folder.mkdir()
    for number in (0, 1):
        writer = BagWriter(tmp_path / f"part{number}")
        writer.add_picture(bags.pictures(1)[0])
        if number == 0:
            writer.add("/audio/audio_info", messages.audio_info_fields(chunks[0]), START_NS)
        for chunk in chunks[10 * number :][:10]:
            writer.add_sound(chunk)
        (file,) = writer.close().glob("*.mcap")
        file.rename(folder / f"split_{number}.mcap")
    caplog.set_level(logging.INFO)
    _, audio, _ = play(folder / "split_1.mcap", settings=AudioSettings(**given))
    if given:  # what was set on purpose holds
        assert {chunk.sample_rate_hz for chunk in audio} == {8_000}
        return
    assert {chunk.sample_rate_hz for chunk in audio} == {48_000}
    for chunk, was in zip(audio, chunks[10:], strict=True):
        np.testing.assert_array_equal(chunk.samples, was.samples)
    assert "that of split_0.mcap holds (48000 Hz, 6 channels, S16LE)" in caplog.text
    assert "taken as" not in caplog.text


def frame_fields(chunk, stamp):
    return Fields(
        "audio_utils_msgs/msg/AudioFrame",
        header=stamp, format="signed_16", channel_count=2, sampling_frequency=16_000,
        frame_sample_count=len(chunk.samples), data=chunk.samples.view(np.uint8).ravel(),
    )  # fmt: skip


def buffer_fields(chunk, stamp):
    return Fields(
        "naoqi_bridge_msgs/msg/AudioBuffer",
        header=stamp, frequency=16_000, channel_map=np.array([0, 2], np.uint8),
        data=chunk.samples.ravel(),
    )  # fmt: skip


@pytest.mark.parametrize("fields_of", [frame_fields, buffer_fields])
def test_sound_messages_of_other_robots_are_heard(tmp_path, fields_of):
    writer = with_pictures(tmp_path / "bag", nv21_fields)
    chunks = bags.sounds(0.2, np.int16, channels=2)
    for chunk in chunks:
        end_ns = chunk.stamp_ns + 20_000_000
        writer.add("/mic", fields_of(chunk, messages.header_fields(end_ns, "mic")), end_ns)
    _, audio, _ = play(writer.close())
    assert [chunk.stamp_ns for chunk in audio] == [chunk.stamp_ns for chunk in chunks]
    for chunk, was in zip(audio, chunks, strict=True):
        assert chunk.sample_rate_hz == 16_000
        np.testing.assert_array_equal(chunk.samples, was.samples)


def test_sound_that_is_not_read_is_named_with_what_is(tmp_path, caplog):
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    name = "unitree_go/msg/AudioData"
    store.register(get_types_from_msg("uint64 time_frame\nuint8[] data", name))
    source = Bag(with_pictures(tmp_path / "plain", nv21_fields).close())
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        picture = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=store)
        sound = writer.add_connection("/audiosender", name, typestore=store)
        packet = store.types[name](time_frame=1, data=np.zeros(80, np.uint8))
        for message in source.messages(["/camera/picture"]):
            writer.write(picture, message.log_ns, bytes(message.data))
            writer.write(sound, message.log_ns, store.serialize_cdr(packet, name))
    video, audio, _ = play(tmp_path / "bag")
    assert (len(video), audio) == (12, [])
    assert "/audiosender is unitree_go/msg/AudioData, which is not read" in caplog.text
    assert "read are audio_common_msgs/msg/AudioDataStamped" in caplog.text
