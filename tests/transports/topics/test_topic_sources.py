"""Sources fed by callbacks: newest frame wins, no chunk is lost, bad messages are counted."""

import threading
import time

import numpy as np
import pytest

from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.runner import Runner
from av_grounding.transports.messages import MalformedCounter, MalformedMessage
from av_grounding.transports.topics.sources import (
    MAX_WAITING_CHUNKS,
    HeardAudio,
    Recent,
    TopicAudio,
    TopicVideo,
)
from av_grounding.types import AudioChunk, Frame
from tests.helpers.memory import ListSink
from tests.helpers.tiny_backend import TinyBackend

IMAGE = np.zeros((32, 40, 3), np.uint8)


def as_frame(message, received_ns):
    if message % 1000 == 0:
        raise MalformedMessage("torn", "a torn message: expected a whole one")
    return Frame(IMAGE, message)


def stamp_of(message, received_ns):
    if message < 0:
        raise MalformedMessage("negative", "a negative message: expected none")
    return message


def video(malformed=None, **options):
    return TopicVideo("/image", stamp_of, as_frame, malformed or MalformedCounter(), **options)


def as_chunk(message, received_ns):
    if message < 0:
        raise MalformedMessage("negative", "a negative message: expected none")
    return AudioChunk(np.full(4, 0.5, np.float32), message + received_ns, 16_000)


def taken(source, num):
    items = []
    for item in source:
        items.append(item)
        if len(items) == num:
            break
    return items


def test_only_the_newest_frame_waits_and_the_others_are_counted():
    source = video()
    for stamp_ns in (1, 2, 3):
        source.put(stamp_ns, 0)
    [encoded] = taken(source, 1)
    assert encoded.stamp_ns == 3
    assert (source.num_received, source.num_replaced, source.num_decoded) == (3, 2, 0)
    assert encoded.decode().stamp_ns == 3
    assert (source.num_decoded, source.last_stamp_ns) == (1, 3)


def test_compressed_video_is_decoded_in_order_and_the_newest_given():
    decoded = []

    def decode(message, received_ns):
        decoded.append(message)
        return as_frame(message, received_ns)

    source = TopicVideo("/video", stamp_of, decode, MalformedCounter(), max_rate_hz=1.0)
    source.is_video = True
    for stamp_ns in (1, 2, 1000, 3, 4):  # one of them is torn
        source.put(stamp_ns, 0)
    [encoded] = taken(source, 1)
    assert decoded == [1, 2, 1000, 3, 4]
    assert (encoded.stamp_ns, encoded.decode().stamp_ns) == (4, 4)
    assert (source.num_received, source.num_replaced, source.num_decoded) == (5, 3, 4)
    source.put(5, 0)
    threading.Timer(0.3, source.close).start()
    assert list(source) == []  # decoded, though the rate leaves no room for it
    assert decoded[-1] == 5
    assert source.num_skipped == 1


def test_every_chunk_comes_in_order():
    source = TopicAudio("/audio", as_chunk, MalformedCounter())
    for number in range(1, 51):
        source.put(number, 1000)
    assert [chunk.stamp_ns for chunk in taken(source, 50)] == list(range(1001, 1051))
    assert source.num_replaced == 0


def test_a_stalled_reader_costs_the_oldest_chunks_and_no_more_memory():
    source = TopicAudio("/audio", as_chunk, MalformedCounter())
    for number in range(MAX_WAITING_CHUNKS + 5):
        source.put(number + 1, 0)
    assert source.num_replaced == 5
    assert taken(source, 1)[0].stamp_ns == 6


def test_what_cannot_be_decoded_is_counted_and_the_next_is_read():
    malformed = MalformedCounter()
    source = TopicAudio("/audio", as_chunk, malformed)
    for message in (-1, 0, 7):
        source.put(message, 0)
    assert taken(source, 1)[0].stamp_ns == 7
    assert malformed.as_dict() == {"/audio negative": 1, "/audio unstamped": 1}
    assert source.num_unstamped == 1
    assert source.num_decoded == 1


def test_a_frame_carries_the_moment_at_which_its_message_came():
    source = video()
    before_s = time.monotonic()
    source.put(7, 0)
    came_s = time.monotonic()
    time.sleep(0.05)
    [encoded] = taken(source, 1)
    assert before_s <= encoded.arrived_s <= came_s


def test_pictures_that_cannot_be_read_are_told_when_their_turn_comes(caplog):
    malformed = MalformedCounter()
    source = video(malformed)
    frames = iter(source)
    source.put(1000, 0)
    torn = next(frames)
    used_s = source.last_used_s
    assert malformed.total == 0
    assert torn.decode() is None
    assert malformed.as_dict() == {"/image torn": 1}
    # While none can be read, one that merely comes is no sign of life.
    source.put(2000, 0)
    assert next(frames).decode() is None
    assert source.last_used_s == used_s
    source.put(1, 0)
    assert next(frames).decode().stamp_ns == 1
    assert source.last_used_s > used_s
    assert caplog.text.count("torn message") == 1


class Slow(TinyBackend):
    """A model that takes its time."""

    def encode_image(self, image):
        time.sleep(0.02)
        return super().encode_image(image)


def run(source, max_image_age_s):
    """A runner at work on what comes from `source`, and what it publishes."""
    sink = ListSink()
    runner = Runner(GroundingStream(Slow()), source, sinks=[sink], max_image_age_s=max_image_age_s)
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    return runner, thread, sink


def wait_for(condition):
    ends_s = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def test_what_is_replaced_was_never_decoded_and_every_message_is_counted():
    malformed = MalformedCounter()
    source = video(malformed)
    runner, thread, sink = run(source, max_image_age_s=60.0)
    for message in range(1, 200):
        source.put(message, 0)
        time.sleep(0.001)
    source.put(-1, 0)
    wait_for(lambda: malformed.total == 1)
    source.put(1000, 0)
    wait_for(lambda: runner.counters["num_frames_unreadable"])
    runner.stop()
    thread.join(5.0)
    report = runner.report
    assert malformed.as_dict() == {"/image negative": 1, "/image torn": 1}
    assert source.num_decoded == report.num_frames_published == len(sink.results)
    assert source.num_decoded < 60
    stamps = [frame.stamp_ns for frame, _ in sink.results]
    assert stamps == sorted(stamps)
    assert (
        report.num_frames_captured
        == source.num_received - source.num_replaced - 1
        == (
            report.num_frames_published + report.num_frames_replaced + report.num_frames_unreadable
        )
    )


def test_age_counts_from_the_arrival_of_the_message():
    """A frame that nobody fetched for long is old, however late the source gave it."""
    source = video()
    source.put(1, 0)
    time.sleep(0.1)
    runner, thread, sink = run(source, max_image_age_s=0.09)
    wait_for(lambda: runner.counters["num_frames_too_old"])
    runner.stop()
    thread.join(5.0)
    assert (source.num_decoded, sink.results) == (0, [])


def test_closing_ends_an_iteration_that_waits():
    source = video()
    ended = threading.Event()

    def read():
        assert list(source) == []
        ended.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    source.close()
    thread.join(2.0)
    assert ended.is_set()


def test_clearing_forgets_what_waits():
    source = TopicAudio("/audio", as_chunk, MalformedCounter())
    source.put(1, 0)
    source.clear()
    source.put(2, 0)
    assert taken(source, 1)[0].stamp_ns == 2


def test_the_rate_is_bounded_on_an_even_grid_and_may_change(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    source = video(max_rate_hz=20.0)
    kept = []
    for number in range(60):
        now_s = 100.0 + number / 30.0
        before = source.num_skipped
        source.put(number + 1, 0)
        kept.append(source.num_skipped == before)
    assert sum(kept) == pytest.approx(40, abs=2)
    assert source.num_received == 60
    source.max_rate_hz = 0.0
    skipped = source.num_skipped
    for number in range(30):
        now_s = 102.0 + number / 30.0
        source.put(number + 1, 0)
    assert source.num_skipped == skipped


class Chunks:
    def __init__(self, *samples):
        self._samples = samples
        self.is_closed = False

    def __iter__(self):
        for number, samples in enumerate(self._samples):
            yield AudioChunk(samples, number, 48_000)

    def close(self):
        self.is_closed = True


def test_one_channel_may_be_chosen():
    stereo = np.stack([np.full(8, 0.25), np.full(8, -0.5)], axis=1).astype(np.float32)
    chosen = list(HeardAudio(Chunks(stereo), channel=1))
    np.testing.assert_array_equal(chosen[0].samples, np.full(8, -0.5, np.float32))
    every = list(HeardAudio(Chunks(stereo)))
    assert every[0].samples is stereo
    too_far = HeardAudio(Chunks(stereo), channel=2)
    assert next(iter(too_far)).samples is stereo
    assert too_far.num_channels_missing == 2


def test_levels_clipping_and_silence_are_watched():
    loud = np.ones(100, np.float32)
    loud[:50] = 0.0
    heard = HeardAudio(Chunks(loud, np.zeros(100, np.float32)))
    chunks = iter(heard)
    next(chunks)
    assert heard.level_dbfs == pytest.approx(-3.01, abs=0.01)
    assert heard.num_clipped == 50
    sounding_s = heard.last_sounding_s
    next(chunks)
    assert heard.last_sounding_s == sounding_s
    assert heard.last_heard_s >= sounding_s
    assert heard.level_dbfs == -120.0
    assert (heard.num_samples, heard.sample_rate_hz) == (200, 48_000)


def test_closing_reaches_the_source():
    source = Chunks()
    HeardAudio(source).close()
    assert source.is_closed


def test_percentiles_are_those_of_the_last_values():
    recent = Recent(size=3)
    assert np.isnan(recent.percentile(50))
    for value in (100.0, 1.0, 2.0, 3.0):
        recent.add(value)
    assert recent.percentile(50) == 2.0
