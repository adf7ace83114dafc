"""Bags of robots as a source: both storages, every choice of topics, damage, pace."""

import logging
import time

import cv2
import numpy as np
import pytest

from av_grounding import cli
from av_grounding.config import AudioSettings, drawn_world_bundle
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.runner import Runner
from av_grounding.transports import messages
from av_grounding.transports.bag.reader import Bag
from av_grounding.transports.bag.source import BagPlayback, open_bag
from av_grounding.transports.messages import Fields
from av_grounding.types import AudioChunk, Frame, Source
from tests.helpers import bags
from tests.helpers.bags import HEADER_NS, START_NS, BagWriter
from tests.helpers.memory import ListSink
from tests.helpers.tiny_backend import TinyBackend


def play(path, **options):
    options.setdefault("realtime", False)
    video, audio, playback = open_bag(path, **options)
    return list(video), [] if audio is None else list(audio), playback


def check_robot_bag(video, audio, num=20):
    expected = bags.pictures(num)
    assert [frame.stamp_ns for frame in video] == [frame.stamp_ns for frame in expected]
    for frame, was in zip(video, expected, strict=True):
        assert frame.frame_id == "optical"
        np.testing.assert_array_equal(frame.image, was.image)
    sounds = bags.sounds(num / 10, np.int16)
    assert [chunk.stamp_ns for chunk in audio] == [chunk.stamp_ns for chunk in sounds]
    for chunk, was in zip(audio, sounds, strict=True):
        assert chunk.sample_rate_hz == 16_000
        np.testing.assert_array_equal(chunk.samples, was.samples)


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_bag_gives_what_was_put_in(tmp_path, storage):
    path = bags.robot_bag(tmp_path / "bag", storage)
    video, audio, playback = play(path)
    check_robot_bag(video, audio)
    assert playback.bag.fault is None
    assert playback.bag.duration_s == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_one_file_of_a_bag_will_do(tmp_path, storage):
    folder = bags.robot_bag(tmp_path / "bag", storage)
    (file,) = (p for p in folder.iterdir() if p.suffix in (".mcap", ".db3"))
    check_robot_bag(*play(file)[:2])


def test_sources_keep_the_contract(tmp_path):
    video, audio, _ = open_bag(bags.robot_bag(tmp_path / "bag"), realtime=False)
    assert isinstance(video, Source)
    assert isinstance(audio, Source)
    assert video.frame_rate_hz == pytest.approx(10, abs=0.5)
    given = iter(video)
    next(given)
    video.close()
    assert list(given) == []


def test_frames_and_sound_are_paced_on_one_clock(tmp_path):
    path = bags.robot_bag(tmp_path / "bag", num=4)
    video, audio, _ = open_bag(path, realtime=True)
    begin_s, begin_ns = time.monotonic(), time.time_ns()
    frames = list(video)
    assert time.monotonic() - begin_s >= 0.3
    gaps = np.diff([frame.stamp_ns for frame in frames])
    np.testing.assert_array_equal(gaps, 100_000_000)
    chunks = list(audio)
    # The bag begins with AudioInfo at the stamp of the first frame, so zero is that moment.
    assert 0 <= frames[0].stamp_ns - begin_ns < 10**10
    assert chunks[0].stamp_ns == frames[0].stamp_ns


def test_stamps_of_another_clock_are_mapped_as_well(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    for i, frame in enumerate(bags.pictures(3)):
        fields = messages.image_fields(frame.image, "rgb8", 7_000_000_000 + i * 10**8, "sim")
        writer.add("/image", fields, START_NS + i * 10**8)
    path = writer.close()
    begin_ns = time.time_ns()
    frames = list(open_bag(path, audio="none", realtime=True)[0])
    assert 0 <= frames[0].stamp_ns - begin_ns < 10**10
    assert frames[2].stamp_ns - frames[0].stamp_ns == 2 * 10**8
    raw = list(open_bag(path, audio="none", realtime=False)[0])
    assert [frame.stamp_ns for frame in raw] == [
        7 * 10**9,
        7 * 10**9 + 10**8,
        7 * 10**9 + 2 * 10**8,
    ]


HOURS_NS = 3 * 3600 * 10**9
BOOT_NS = START_NS - 4321 * 10**9


def stamped_otherwise(path, picture_ns=lambda ns: ns, sound_ns=lambda ns: ns):
    """The robot's bag, whose log times are right and whose stamps are not."""
    writer = BagWriter(path)
    writer.add(
        "/audio/audio_info", messages.audio_info_fields(bags.sounds(0.1, np.int16)[0]), START_NS
    )
    for frame in bags.pictures(20):
        fields = messages.image_fields(frame.image, "rgb8", picture_ns(frame.stamp_ns), "optical")
        writer.add("/camera/image_raw", fields, frame.stamp_ns + HEADER_NS)
    for chunk in bags.sounds(2.0, np.int16):
        sent = AudioChunk(chunk.samples, sound_ns(chunk.stamp_ns), chunk.sample_rate_hz)
        log_ns = chunk.stamp_ns + len(chunk.samples) * 10**9 // chunk.sample_rate_hz + HEADER_NS
        writer.add("/audio/audio", messages.audio_fields(sent), log_ns)
    return writer.close()


@pytest.mark.parametrize(
    ("picture_ns", "sound_ns", "is_told"),
    [
        (lambda ns: ns - HOURS_NS, lambda ns: ns, True),
        (lambda ns: ns - BOOT_NS, lambda ns: ns, True),
        (lambda ns: ns, lambda ns: ns - BOOT_NS, True),
        (lambda ns: ns - BOOT_NS, lambda ns: ns - BOOT_NS, False),
        (lambda ns: 0, lambda ns: 0, False),
    ],
)
@pytest.mark.parametrize("realtime", [False, True])
def test_sound_is_paired_with_the_pictures_it_was_recorded_with(
    tmp_path, caplog, picture_ns, sound_ns, is_told, realtime
):
    """Clocks hours apart, stamps since boot, no stamps: log times say what belongs together."""
    path = stamped_otherwise(tmp_path / "bag", picture_ns, sound_ns)
    with caplog.at_level(logging.WARNING, "av_grounding"):
        playback = BagPlayback(Bag(path), realtime=realtime)
    assert ("recorded" in caplog.text) == is_told
    video, audio = playback.sources()
    assert next(iter(video)).stamp_ns == next(iter(audio)).stamp_ns


def test_a_live_bag_is_answered_however_late_its_stamps_are(tmp_path):
    """9 s from stamp to log time, all of it before the bag was recorded: no frame is old."""
    behind = {"picture_ns": lambda ns: ns - 9 * 10**9, "sound_ns": lambda ns: ns - 9 * 10**9}
    video, audio, _ = open_bag(stamped_otherwise(tmp_path / "bag", **behind), realtime=True)
    sink = ListSink()
    stream = GroundingStream(TinyBackend())
    report = Runner(stream, video, audio, [sink], max_image_age_s=5.0).run()
    assert report.num_frames_too_old == 0
    assert report.num_frames_published + report.num_frames_replaced == 20
    assert len(sink.results) == report.num_frames_published > 0


def test_sound_without_stamps_goes_by_its_log_time(tmp_path):
    path = stamped_otherwise(tmp_path / "bag", sound_ns=lambda ns: 0)
    _, audio, _ = play(path)
    expected = [chunk.stamp_ns + HEADER_NS for chunk in bags.sounds(2.0, np.int16)]
    assert [chunk.stamp_ns for chunk in audio] == expected


def test_topics_are_chosen_by_what_they_hold(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    (frame,) = bags.pictures(1)
    depth = messages.image_fields(np.ones((4, 6), np.float32), "32FC1", START_NS, "optical")
    writer.add("/camera/depth", depth, START_NS)
    millimetres = messages.image_fields(np.ones((4, 6), np.uint16), "16UC1", START_NS, "optical")
    writer.add("/camera/depth_raw", millimetres, START_NS)
    writer.add("/robot/sound/heatmap", depth, START_NS)
    writer.add_picture(frame, "/robot/sound/overlay")
    jpeg = messages.compressed_image_fields(frame.image, START_NS, "optical")
    writer.add("/camera/image/compressed", jpeg, START_NS)
    writer.add_picture(frame, "/camera/image")
    video, _, playback = play(writer.close(), audio="none")
    assert playback.image.name == "/camera/image"
    np.testing.assert_array_equal(video[0].image, frame.image)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_compressed_pictures_are_decoded(tmp_path, kind):
    writer = BagWriter(tmp_path / "bag")
    (frame,) = bags.pictures(1)
    _, data = cv2.imencode(f".{kind}", frame.image[..., ::-1])
    header = messages.header_fields(START_NS, "optical")
    fields = Fields(
        "sensor_msgs/msg/CompressedImage", header=header, format=kind, data=data.ravel()
    )
    writer.add("/image/compressed", fields, START_NS)
    video, _, _ = play(writer.close(), audio="none")
    difference = np.abs(video[0].image.astype(int) - frame.image)
    assert difference.mean() < (6 if kind == "jpeg" else 1e-9)


def test_what_is_ambiguous_is_asked_for_and_what_is_wrong_is_answered(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    for frame in bags.pictures(2):
        writer.add_picture(frame, "/left/image")
        writer.add_picture(frame, "/right/image")
    path = writer.close()
    with pytest.raises(ValueError, match=r"/left/image, /right/image could .*--image TOPIC"):
        open_bag(path)
    assert len(play(path, image="/right/image", audio="none")[0]) == 2
    with pytest.raises(ValueError, match=r"no topic /middle; there are: /left/image \(sensor_"):
        open_bag(path, image="/middle")
    with pytest.raises(ValueError, match="/left/image is sensor_msgs/msg/Image; expected one of"):
        open_bag(path, image="/right/image", audio="/left/image")


def test_a_bag_without_pictures_lists_what_it_has(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    for chunk in bags.sounds(0.1):
        writer.add_sound(chunk)
    with pytest.raises(ValueError, match=r"no topic with pictures.*there are: /audio/audio"):
        open_bag(writer.close())


@pytest.mark.parametrize("name", ["nothing", "empty", "text.mcap", "text.db3"])
def test_what_is_no_bag_is_refused_in_one_line(tmp_path, name):
    path = tmp_path / name
    if name == "empty":
        path.mkdir()
    elif name != "nothing":
        path.write_text("hello, I am a text file\n" * 100)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        open_bag(path)
    assert "\n" not in str(caught.value)
    assert "expected a rosbag2" in str(caught.value)


def sound_messages(kind, chunk):
    """The same sound as each of the audio types."""
    samples = np.ascontiguousarray(chunk.samples)
    header, package = messages.header_fields(chunk.stamp_ns, "mic"), "audio_common_msgs/msg"
    if kind == "AudioDataStamped":
        return messages.audio_fields(chunk)
    if kind == "AudioData":
        return messages.audio_fields(chunk)["audio"]
    if kind == "RawAudio":
        return Fields(
            "foxglove_msgs/msg/RawAudio",
            timestamp=header["stamp"],
            data=samples.view(np.uint8),
            format="pcm-s16",
            sample_rate=16_000,
            number_of_channels=1,
        )
    names = ("float32", "int32", "int16", "int8", "uint8")
    data = {f"{n}_data": samples if n == "int16" else np.zeros(0, n) for n in names}
    return Fields(
        f"{package}/AudioStamped",
        header=header,
        audio=Fields(
            f"{package}/Audio",
            audio_data=Fields(f"{package}/AudioData", **data),
            info=Fields(f"{package}/AudioInfo", format=8, channels=1, rate=16_000, chunk=320),
        ),
    )


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
@pytest.mark.parametrize("kind", ["AudioDataStamped", "AudioData", "AudioStamped", "RawAudio"])
def test_every_audio_type_is_heard(tmp_path, kind, storage):
    package = "mgonzs13" if kind == "AudioStamped" else "ros-drivers"
    writer = BagWriter(tmp_path / "bag", storage, package)
    writer.add_picture(bags.pictures(1)[0])
    chunks = bags.sounds(0.2, np.int16)
    if kind in ("AudioDataStamped", "AudioData"):
        writer.add("/mic/info", messages.audio_info_fields(chunks[0]), START_NS)
    for chunk in chunks:
        # Without a stamp, the log time counts as the chunk's end.
        writer.add("/mic/audio", sound_messages(kind, chunk), chunk.stamp_ns + 20_000_000)
    _, audio, _ = play(writer.close())
    assert [chunk.stamp_ns for chunk in audio] == [chunk.stamp_ns for chunk in chunks]
    for chunk, was in zip(audio, chunks, strict=True):
        np.testing.assert_array_equal(chunk.samples, was.samples)


def test_sound_without_info_is_taken_as_the_usual_and_said(tmp_path, caplog):
    writer = BagWriter(tmp_path / "bag")
    writer.add_picture(bags.pictures(1)[0])
    for chunk in bags.sounds(0.1, np.int16):
        writer.add_sound(chunk)
    _, audio, _ = play(writer.close())
    assert audio[0].sample_rate_hz == 16_000
    assert "no AudioInfo for /audio/audio: taken as 16000 Hz" in caplog.text


@pytest.mark.parametrize("has_info", [True, False])
def test_the_settings_say_what_the_sound_does_not(tmp_path, caplog, has_info):
    writer = BagWriter(tmp_path / "bag")
    writer.add_picture(bags.pictures(1)[0])
    chunks = bags.sounds(0.1, np.int16, channels=6, rate_hz=48_000)
    if has_info:
        writer.add("/audio/audio_info", messages.audio_info_fields(chunks[0]), START_NS)
    for chunk in chunks:
        writer.add_sound(chunk)
    given = {"stamp_reference": "end"}
    if not has_info:
        given |= {"sample_rate": 48_000, "channels": 6, "sample_format": "s16le"}
    _, audio, _ = play(writer.close(), settings=AudioSettings(**given))
    assert [c.stamp_ns + 20_000_000 for c in audio] == [c.stamp_ns for c in chunks]
    for chunk, was in zip(audio, chunks, strict=True):
        assert chunk.sample_rate_hz == 48_000
        np.testing.assert_array_equal(chunk.samples, was.samples)
    assert "no AudioInfo" not in caplog.text


def test_a_type_of_message_may_be_asked_for(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    writer.add_picture(bags.pictures(1)[0])
    for kind, topic in (("AudioData", "/a"), ("AudioDataStamped", "/b")):
        writer.add(topic, sound_messages(kind, bags.sounds(0.02, np.int16)[0]), START_NS)
    path = writer.close()
    with pytest.raises(ValueError, match="/a"):
        open_bag(path)
    asked = AudioSettings(msg_type="AudioDataStamped")
    assert open_bag(path, settings=asked)[2].audio.name == "/b"


def test_malformed_messages_are_counted_and_left_out(tmp_path, caplog):
    writer = BagWriter(tmp_path / "bag")
    for i, frame in enumerate(bags.pictures(4)):
        fields = messages.image_fields(frame.image, "rgb8", frame.stamp_ns, "optical")
        if i == 2:
            fields["data"] = fields["data"][:100]
        writer.add("/image", fields, frame.stamp_ns)
    video, _, playback = play(writer.close(), audio="none")
    assert len(video) == 3
    assert playback.malformed.as_dict() == {"/image truncated": 1}
    assert "/image: malformed message" in caplog.text


@pytest.mark.parametrize("share", [0.7, 0.97])
def test_a_truncated_mcap_is_played_as_far_as_it_goes(tmp_path, share, caplog):
    folder = bags.robot_bag(tmp_path / "bag", num=200)
    file = folder / "bag.mcap"
    whole = file.read_bytes()
    file.write_bytes(whole[: round(len(whole) * share)])
    video, audio, _ = play(folder)
    # Chunks of 1 MB of about 2.5 MB: what the cut went through is lost, no more.
    lost = 1.1e6 / len(whole)
    assert (share - lost) * 200 <= len(video) <= share * 200
    assert len(audio) >= (share - lost) * 1000
    for frame, was in zip(video, bags.pictures(200), strict=False):
        np.testing.assert_array_equal(frame.image, was.image)
    assert "bag.mcap: it was not closed" in caplog.text
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


def test_damage_inside_an_mcap_costs_that_part_alone(tmp_path, caplog):
    path = tmp_path / "recording.mcap"
    steps = bags.mixed_up(40)
    bags.record(path, steps, is_live=False, pictures="raw", flush_s=0.0)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    video, _, playback = play(path)
    lost = len(steps) - len(video)
    assert 1 <= lost <= 3
    kept = {item.stamp_ns: item for item in video if isinstance(item, Frame)}
    assert len(kept) >= 38
    for frame in bags.pictures(40):
        if frame.stamp_ns in kept:
            np.testing.assert_array_equal(kept[frame.stamp_ns].image, frame.image)
    assert playback.bag.fault == "recording.mcap: 1 damaged parts were left out"


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_database_is_played_as_far_as_it_goes(tmp_path, share, caplog):
    folder = bags.robot_bag(tmp_path / "bag", "sqlite3", num=100)
    file = next(folder.glob("*.db3"))
    whole = file.read_bytes()
    file.write_bytes(whole[: round(len(whole) * share)])
    video, _, _ = play(folder)
    assert 0.4 * share * 100 < len(video) <= 100
    for frame, was in zip(video, bags.pictures(100), strict=False):
        np.testing.assert_array_equal(frame.image, was.image)
    assert "the database ends early" in caplog.text


def test_a_bag_without_metadata_is_read_from_its_files(tmp_path):
    folder = bags.robot_bag(tmp_path / "bag")
    (folder / "metadata.yaml").unlink()
    check_robot_bag(*play(folder)[:2])


def test_log_order_and_stamps_are_told_apart(tmp_path):
    """Messages come in the order of their log times, with their own stamps."""
    writer = BagWriter(tmp_path / "bag")
    frames = bags.pictures(3)
    for log, frame in zip((3, 1, 2), frames, strict=True):
        fields = messages.image_fields(frame.image, "rgb8", frame.stamp_ns, "optical")
        writer.add("/image", fields, START_NS + log)
    video, _, _ = play(writer.close(), audio="none")
    assert [f.stamp_ns for f in video] == [frames[i].stamp_ns for i in (1, 2, 0)]


def test_iterating_twice_gives_the_same(tmp_path):
    bag = Bag(bags.robot_bag(tmp_path / "bag"))
    playback = BagPlayback(bag, realtime=False)
    video, audio = playback.sources()
    both = list(zip(video, audio, strict=False))
    assert len(both) == 20
    assert isinstance(both[0][0], Frame)
    assert isinstance(both[0][1], AudioChunk)
    again, _ = playback.sources()
    assert [f.stamp_ns for f in again] == [f.stamp_ns for f, _ in both]
    assert playback.bag.end_ns - 1 - (START_NS + 2 * 10**9) == HEADER_NS


def grounded(path, out, *options):
    """heatmaps.npz of `av-grounding run bag:`."""
    words = ["run", f"bag:{path}", "--as-fast-as-possible", "--quiet", "--out", str(out)]
    words += ["--model", str(drawn_world_bundle())]
    assert cli.main([*words, *options]) == 0
    return dict(np.load(out / "heatmaps.npz"))


def test_a_run_of_a_bag_follows_its_parameters(tmp_path):
    """An array of microphones whose last channel is what the robot plays itself, loudly."""
    rng = np.random.default_rng(0)
    parameters = tmp_path / "array.yaml"
    parameters.write_text(
        "/**: {ros__parameters: {audio: {sample_rate: 16000, channels: 6, channel: 0}}}\n"
    )
    mono, six = BagWriter(tmp_path / "mono"), BagWriter(tmp_path / "six")
    for frame in bags.pictures(10):
        mono.add_picture(frame)
        six.add_picture(frame)
    for chunk in bags.sounds(1.0, np.int16):
        mono.add_sound(chunk)
        array = np.zeros((len(chunk.samples), 6), np.int16)
        array[:, 0] = chunk.samples
        array[:, 5] = rng.integers(-20_000, 20_000, len(array))
        six.add_sound(AudioChunk(array, chunk.stamp_ns, chunk.sample_rate_hz))
    expected = grounded(mono.close(), tmp_path / "a")
    path = six.close()
    heard = grounded(path, tmp_path / "b", "--config", str(parameters))
    loud = grounded(path, tmp_path / "c", "--config", str(parameters), "--set", "audio.channel=5")
    for name in ("stamp_ns", "sound", "sound_score", "speech"):
        np.testing.assert_array_equal(heard[name], expected[name])
    assert not np.allclose(loud["sound_score"], expected["sound_score"], rtol=0.5, atol=0.0)
