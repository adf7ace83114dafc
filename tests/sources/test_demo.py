"""The demo source: stamps, pace, and the same content live as at full speed."""

import itertools
import threading
import time

import numpy as np
import pytest

from av_grounding.sources.demo import CHUNK_S, DemoAudio, DemoVideo, open_demo
from av_grounding.sources.playback import PlaybackClock
from av_grounding.synthetic import espeak_worker, speech
from av_grounding.synthetic.demo_scene import DURATION_S, DemoScene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ

pytestmark = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)


@pytest.fixture(scope="module")
def scene():
    return DemoScene(height_px=48, width_px=64)


def test_as_fast_as_possible_stamps_are_media_time(scene):
    video, audio = open_demo(realtime=False, duration_s=1.0, scene=scene)
    frames, chunks = list(video), list(audio)
    assert [frame.stamp_ns for frame in frames] == [round(n * 1e9 / 15) for n in range(15)]
    assert video.duration_s == audio.duration_s == 1.0
    assert video.frame_rate_hz == 15.0
    for number in (0, 7, 14):
        np.testing.assert_array_equal(frames[number].image, scene.frame(number / 15).image)
    assert [chunk.stamp_ns for chunk in chunks] == [n * 20_000_000 for n in range(50)]
    assert {chunk.sample_rate_hz for chunk in chunks} == {SAMPLE_RATE_HZ}
    heard = np.concatenate([chunk.samples for chunk in chunks])
    np.testing.assert_array_equal(heard, scene.waveform[:SAMPLE_RATE_HZ])


def test_a_whole_demo_and_never_more(scene):
    for duration_s in (None, 100.0):
        video, audio = open_demo(realtime=False, duration_s=duration_s, scene=scene)
        assert video.duration_s == audio.duration_s == DURATION_S
    heard = np.concatenate([chunk.samples for chunk in audio])
    np.testing.assert_array_equal(heard, scene.waveform)


def test_live_stamps_share_one_origin_and_nothing_comes_early(scene):
    video, audio = open_demo(realtime=True, duration_s=0.5, scene=scene)
    before_ns, arrivals = time.time_ns(), {}

    def drain(name, source):
        arrivals[name] = [(item, time.time_ns()) for item in source]

    threads = [threading.Thread(target=drain, args=pair) for pair in (("v", video), ("a", audio))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    frames, chunks = arrivals["v"], arrivals["a"]
    assert len(frames) == 8
    assert len(chunks) == 25
    origin_ns = chunks[0][0].stamp_ns
    assert frames[0][0].stamp_ns == origin_ns >= before_ns
    slack_ns = 2_000_000  # the wall clock and the monotonic clock are read one after the other
    for number, (frame, arrived_ns) in enumerate(frames):
        assert frame.stamp_ns - origin_ns == round(number * 1e9 / 15)
        assert arrived_ns >= frame.stamp_ns - slack_ns
    for chunk, arrived_ns in chunks:
        assert arrived_ns >= chunk.stamp_ns + CHUNK_S * 1e9 - slack_ns


def test_close_ends_a_waiting_source(scene):
    video, audio = open_demo(realtime=True, scene=scene)
    for source in (video, audio):
        items = iter(source)
        next(items)
        threading.Timer(0.05, source.close).start()
        assert len(list(items)) < 100  # of 390 frames and 1300 chunks


def test_sound_begins_again_and_the_last_chunk_may_be_short():
    waveform = np.arange(1000, dtype=np.float32)
    audio = DemoAudio(waveform, PlaybackClock(realtime=False), duration_s=2500 / SAMPLE_RATE_HZ)
    chunks = list(audio)
    heard = np.concatenate([chunk.samples for chunk in chunks])
    np.testing.assert_array_equal(heard, np.tile(waveform, 3)[:2500])
    assert [len(chunk.samples) for chunk in chunks] == [320] * 7 + [260]


def test_pictures_are_drawn_for_their_own_moment():
    def draw(time_s):
        return np.full((2, 2, 3), round(time_s * 15), np.uint8)

    frames = DemoVideo(draw, PlaybackClock(realtime=False), duration_s=10.0)
    shown = [int(frame.image[0, 0, 0]) for frame in itertools.islice(frames, 20)]
    assert shown == list(range(20))


@pytest.mark.parametrize("duration_s", [0.0, -1.0])
def test_a_demo_of_no_length_is_refused(duration_s):
    with pytest.raises(ValueError, match="expected more than 0"):
        open_demo(duration_s=duration_s)
