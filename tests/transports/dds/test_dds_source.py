"""Topics as sources on a real bus: another process publishes, this one reads."""

import itertools
import logging
import threading
import time
from array import array

import numpy as np
import pytest

pytest.importorskip("cyclonedds")
pytest.importorskip("rosbags")

from av_grounding.config import config_from_mapping
from av_grounding.transports.dds.source import DdsInputs, find_topic
from av_grounding.transports.messages import Fields, audio_fields, audio_info_fields, header_fields
from av_grounding.types import AudioChunk
from tests.helpers import coded
from tests.helpers.dds_helpers import Peer, kill_peers, open_bus, wait_until


@pytest.fixture
def bus():
    opened = open_bus().retain()
    yield opened
    kill_peers()
    opened.release()


def take_frames(source, number):
    """The next frames that can be read."""
    read = (frame for encoded in source if (frame := encoded.decode()) is not None)
    return take(read, number, source.close)


def take(source, number, close=None):
    """The next items; a source that never gives them is closed, which ends it."""
    guard = threading.Timer(60, close or source.close)
    guard.start()
    try:
        items = list(itertools.islice(source, number))
    finally:
        guard.cancel()
    assert len(items) == number
    return items


@pytest.mark.parametrize("kind", ["raw", "compressed", "recorded"])
def test_images_and_sound_come_as_they_were_sent(bus, kind):
    inputs = DdsInputs(bus, "/cam/image", "/mic/audio", camera_info="/cam/camera_info")
    peer = Peer("publish", kind, "60")
    frames, chunks = take_frames(inputs.video, 12), take(inputs.audio, 12)
    for earlier, later in itertools.pairwise(frames):
        assert earlier.stamp_ns < later.stamp_ns
    for frame in frames:
        assert frame.image.shape == (48, 64, 3)
        assert np.ptp(frame.image) == 0
        assert frame.frame_id == "optical"
    # Sound is not thinned: the very next chunk follows.
    levels = [int(chunk.samples[0, 0]) for chunk in chunks]
    assert levels == [(levels[0] + i) % 100 for i in range(12)]
    assert {chunk.samples.shape for chunk in chunks} == {(533, 2)}
    assert {chunk.sample_rate_hz for chunk in chunks} == {16_000}
    wait_until(lambda: inputs.camera is not None)
    assert inputs.camera.k[0, 0] == 50.0
    behind_ns = time.time_ns() - frames[-1].stamp_ns
    assert abs(behind_ns - (10**15 if kind == "recorded" else 0)) < 60e9
    inputs.video.close()
    inputs.audio.close()
    peer.finish()


def test_compressed_video_comes_from_its_first_key_frame_on(bus):
    driver = open_bus(namespace="/b", name="driver")
    writer = driver.writer("/cam/video", "foxglove_msgs/msg/CompressedVideo", 30)
    inputs = DdsInputs(bus, "/cam/video")
    wait_until(lambda: writer.num_readers > 0)
    packets = coded.video_packets([coded.grey(i) for i in range(12)])
    stamps = [time.time_ns() + i for i in range(12)]
    for packet, stamp_ns in list(zip(packets, stamps, strict=True))[2:]:
        fields = Fields(
            "foxglove_msgs/msg/CompressedVideo",
            timestamp=header_fields(stamp_ns, "")["stamp"],
            frame_id="optical",
            data=array("B", packet),
            format="h264",
        )
        assert writer.write(fields)
    wait_until(lambda: inputs.video.num_received == 10)
    (frame,) = take_frames(inputs.video, 1)
    assert (frame.stamp_ns, frame.frame_id) == (stamps[-1], "optical")
    assert frame.image.mean() == pytest.approx(220, abs=2.5)
    assert inputs.malformed.as_dict() == {"/cam/video keyframe": 3}
    inputs.video.close()
    driver.close()


def test_a_driver_may_come_back_with_another_type(bus):
    driver = open_bus(namespace="/b", name="driver")
    driver.writer("/cam/image", "sensor_msgs/msg/Image")
    inputs = DdsInputs(bus, "/cam/image")
    wait_until(lambda: "/cam/image" in inputs._readers)
    driver.close()
    wait_until(lambda: "/cam/image" not in bus.offers())
    peer = Peer("publish", "compressed", "60")
    assert [frame.image.shape for frame in take_frames(inputs.video, 2)] == [(48, 64, 3)] * 2
    inputs.video.close()
    peer.finish()


def test_malformed_messages_are_counted_and_the_rest_comes(bus):
    inputs = DdsInputs(bus, "/cam/image")
    peer = Peer("publish", "malformed", "60")
    frames = take_frames(inputs.video, 6)
    assert {int(frame.image[0, 0, 0]) % 2 for frame in frames} == {0}
    assert inputs.malformed.as_dict()["/cam/image step"] >= 5
    inputs.video.close()
    peer.finish()


def test_the_only_topic_is_found_and_several_are_named(bus):
    assert find_topic(bus, "image", 0.2) is None
    other = open_bus(namespace="/b", name="driver")
    first = other.writer("/front/image", "sensor_msgs/msg/Image")
    other.writer("/a/sound/overlay", "sensor_msgs/msg/Image")
    wait_until(lambda: "/front/image" in bus.offers())
    assert find_topic(bus, "image", 0.2) == "/front/image"
    other.writer("/rear/image", "sensor_msgs/msg/CompressedImage")
    wait_until(lambda: "/rear/image" in bus.offers())
    with pytest.raises(ValueError, match="/front/image, /rear/image"):
        find_topic(bus, "image", 0.2)
    assert first.num_readers == 0
    other.close()


def sound(values=(0, 1000, -1000, 32767)):
    return AudioChunk(np.array(values, np.int16), time.time_ns(), 16_000)


def send_until_read(source, send, number=1):
    """Publish over and over, since nothing is kept for subscribers that are not there yet."""
    got = []
    deadline_s = time.monotonic() + 30
    while len(got) < number:
        assert time.monotonic() < deadline_s
        send()
        if source.source.num_received:
            got += take(source, 1)
        time.sleep(0.05)
    return got


def test_foxglove_audio(bus):
    driver, chunk = open_bus(namespace="/b", name="driver"), sound()
    writer = driver.writer("/mic", "foxglove_msgs/msg/RawAudio", 10)
    fields = Fields(
        "foxglove_msgs/msg/RawAudio",
        timestamp=header_fields(chunk.stamp_ns, "")["stamp"],
        data=audio_fields(chunk)["audio"]["data"],
        format="pcm-s16",
        sample_rate=16_000,
        number_of_channels=1,
    )
    inputs = DdsInputs(bus, "/cam/image", "/mic")
    [heard] = send_until_read(inputs.audio, lambda: writer.write(fields))
    np.testing.assert_array_equal(heard.samples, chunk.samples)
    assert heard.stamp_ns == chunk.stamp_ns
    inputs.video.close()
    inputs.audio.close()
    driver.close()


def test_portaudio_messages_of_the_other_package_of_that_name(bus):
    driver, chunk = open_bus(namespace="/b", name="driver"), sound()
    writer = driver.writer("/mic", "audio_common_msgs/msg/AudioStamped", 10, "mgonzs13")
    package = "audio_common_msgs/msg"
    numbers = {"float32": "f", "int32": "i", "int16": "h", "int8": "b", "uint8": "B"}
    data = Fields(
        f"{package}/AudioData", **{f"{name}_data": array(code) for name, code in numbers.items()}
    )
    data["int16_data"] = array("h", chunk.samples.tolist())
    info = Fields(f"{package}/AudioInfo", format=8, channels=1, rate=16_000, chunk=4)
    fields = Fields(
        f"{package}/AudioStamped",
        header=header_fields(chunk.stamp_ns, "mic"),
        audio=Fields(f"{package}/Audio", audio_data=data, info=info),
    )
    inputs = DdsInputs(bus, "/cam/image", "/mic")
    [heard] = send_until_read(inputs.audio, lambda: writer.write(fields))
    np.testing.assert_array_equal(heard.samples, chunk.samples)
    inputs.video.close()
    inputs.audio.close()
    driver.close()


def test_layout_from_parameters_where_nobody_publishes_it(bus):
    driver, chunk = open_bus(namespace="/b", name="driver"), sound()
    writer = driver.writer("/mic", "audio_common_msgs/msg/AudioData", 10)
    config = config_from_mapping(
        {"audio.sample_rate": 8000, "audio.allow_unstamped": True, "audio.channels": 2}
    )
    inputs = DdsInputs(bus, "/cam/image", "/mic", config=config)
    fields = audio_fields(chunk)["audio"]
    [heard] = send_until_read(inputs.audio, lambda: writer.write(fields))
    np.testing.assert_array_equal(heard.samples, chunk.samples.reshape(2, 2))
    assert heard.sample_rate_hz == 8000
    assert 0 <= time.time_ns() - heard.stamp_ns < 30e9
    inputs.video.close()
    inputs.audio.close()
    driver.close()


def test_without_audio_info_the_remedy_is_counted(bus):
    driver, chunk = open_bus(namespace="/b", name="driver"), sound()
    stamped = driver.writer("/mic/audio", "audio_common_msgs/msg/AudioDataStamped", 10)
    info = driver.writer("/mic/audio_info", "audio_common_msgs/msg/AudioInfo", 1)
    inputs = DdsInputs(bus, "/cam/image", "/mic/audio")
    reading = iter(inputs.audio)
    wait_until(lambda: stamped.num_readers == 1)
    stamped.write(audio_fields(chunk))
    wait_until(lambda: inputs.audio.source.num_received == 1)
    wait_until(lambda: info.num_readers == 1)
    info.write(audio_info_fields(chunk))
    wait_until(lambda: inputs._layout is not None)
    np.testing.assert_array_equal(next(reading).samples, chunk.samples)
    inputs._layout = None
    stamped.write(audio_fields(chunk))
    wait_until(lambda: inputs.audio.source.num_received == 2)
    with pytest.raises(ValueError, match="AudioInfo"):
        inputs._decode_audio(inputs.audio.source._take()[0], 0)
    inputs.video.close()
    inputs.audio.close()
    driver.close()


def test_a_missing_input_is_named(bus, caplog, monkeypatch):
    monkeypatch.setattr("av_grounding.streaming.liveness.WATCHDOG_S", 0.5)
    driver = open_bus(namespace="/b", name="driver")
    driver.writer("/cam/image", "sensor_msgs/msg/Image")
    driver.writer("/cam/imagined", "sensor_msgs/msg/CameraInfo")
    wait_until(lambda: {"/cam/image", "/cam/imagined"} <= bus.offers().keys())
    inputs = DdsInputs(bus, "/cam/imagee")
    with caplog.at_level(logging.WARNING):
        wait_until(lambda: "nobody publishes /cam/imagee" in caplog.text)
    assert "topics of that kind: /cam/image." in caplog.text
    inputs.video.close()
    caplog.clear()
    inputs = DdsInputs(bus, "/cam/imagined")
    with caplog.at_level(logging.WARNING):
        wait_until(lambda: "carries sensor_msgs/msg/CameraInfo" in caplog.text)
    inputs.video.close()
    driver.close()
