"""A slow eye beside the ear: own pictures only, no sound held up, newer sound for a frame."""

import threading
import time

import numpy as np
import pytest

from av_grounding.audio import NS_PER_S
from av_grounding.backends import load_backend
from av_grounding.streaming.looking import LookedAt
from av_grounding.streaming.pipeline import MAX_AGAIN_S, GroundingStream
from av_grounding.streaming.runner import Runner
from av_grounding.types import Frame
from tests.helpers import signals
from tests.helpers.memory import START_NS, ListSink, ListSource, chunks
from tests.helpers.small_regions import disc_and_square, save_small_regions
from tests.helpers.tiny_backend import TinyBackend

PATIENT_S = 30.0
PICTURES = [signals.picture(96, 120, seed) for seed in range(4)]


def different_frames(num, rate_hz=20.0):
    return [
        Frame(PICTURES[i % len(PICTURES)].copy(), START_NS + round(i * NS_PER_S / rate_hz))
        for i in range(num)
    ]


def heard(stream, seconds, start_s=0.0, total_s=6.0):
    waveform = signals.vowel(total_s)[: round(seconds * 16_000)]
    for chunk in chunks(waveform):
        if chunk.stamp_ns >= START_NS + round(start_s * NS_PER_S):
            stream.push_audio(chunk.samples, chunk.stamp_ns, chunk.sample_rate_hz)
    return stream


class SlowEye(TinyBackend):
    """Encodes an image once a test lets it, in whatever thread asks."""

    sees_slowly = True

    def __init__(self):
        super().__init__()
        self.may_see = threading.Semaphore(0)
        self.has_begun = threading.Event()
        self.seen_by = set()

    def encode_image(self, image):
        self.seen_by.add(threading.current_thread().name)
        self.has_begun.set()
        assert self.may_see.acquire(timeout=PATIENT_S)
        return super().encode_image(image)


def wait_for(is_so):
    deadline_s = time.monotonic() + PATIENT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_a_picture_is_kept_for_its_own_array_alone_and_once():
    looked = LookedAt()
    one, same, third = np.zeros(3), np.zeros(3), np.zeros(3)
    looked.put(one, "one")
    assert looked.take(same) is None
    assert looked.take(one) == "one"
    assert looked.take(one) is None
    for image, tokens in ((one, "one"), (same, "same"), (third, "third")):
        looked.put(image, tokens)
    assert [looked.take(image) for image in (one, third, same)] == [None, "third", "same"]


def test_a_frame_that_was_looked_at_is_answered_the_same_and_encoded_once():
    plain, ahead = (heard(GroundingStream(TinyBackend()), 2.0) for _ in range(2))
    image, other = PICTURES[:2]
    expected = plain.push_frame(image, START_NS + 2 * NS_PER_S)
    ahead.look(other)
    ahead.look(image)
    given = ahead.push_frame(image, START_NS + 2 * NS_PER_S)
    assert ahead.backend.num_images == 2
    np.testing.assert_array_equal(given.sound, expected.sound)
    assert given.sound.any()
    # An equal picture in another array is another frame.
    ahead.push_frame(image.copy(), START_NS + 2 * NS_PER_S)
    assert ahead.backend.num_images == 3


def test_sound_goes_on_and_the_newest_frame_wins_while_the_eye_is_busy():
    backend, sink = SlowEye(), ListSink()
    given = different_frames(12)
    video, audio = ListSource(given), ListSource(chunks(signals.vowel(3.0)), endless=True)

    class Waiting(ListSource):
        def __iter__(self):
            for number, frame in enumerate(super().__iter__()):
                if number == 1:
                    assert backend.has_begun.wait(PATIENT_S)
                yield frame
            self.has_given_all.set()
            assert self.may_end.wait(PATIENT_S)

    video = Waiting(given)
    video.has_given_all, video.may_end = threading.Event(), threading.Event()
    stream = GroundingStream(backend)
    num_before = backend.num_windows
    runner = Runner(stream, video, audio, [sink], max_image_age_s=PATIENT_S)
    thread = threading.Thread(target=runner.run)
    thread.start()
    assert video.has_given_all.wait(PATIENT_S)
    # Three seconds of sound are encoded while the first frame is still being looked at.
    wait_for(lambda: backend.num_windows - num_before >= 15)
    assert not sink.results
    backend.may_see.release()
    wait_for(lambda: len(sink.results) == 1)
    backend.may_see.release()
    wait_for(lambda: len(sink.results) == 2)
    video.may_end.set()
    thread.join(PATIENT_S)
    assert not thread.is_alive()
    assert [frame.stamp_ns for frame, _ in sink.results] == [given[0].stamp_ns, given[11].stamp_ns]
    assert backend.seen_by == {"av-eye"}
    report = runner.report
    assert (report.num_frames_captured, report.num_frames_replaced) == (12, 10)
    assert (report.num_frames_published, report.num_frames_unanswered) == (2, 0)
    assert report.num_audio_overruns == 0
    assert report.num_answered_again == 0


def test_an_error_of_the_eye_ends_the_run():
    class Blind(SlowEye):
        def encode_image(self, image):
            raise RuntimeError("no light")

    runner = Runner(GroundingStream(Blind()), ListSource(different_frames(3), endless=True))
    with pytest.raises(RuntimeError, match="no light"):
        runner.run()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("av-")]


def test_every_answer_of_a_live_run_has_the_regions_of_its_own_picture(tmp_path):
    backend = load_backend(save_small_regions(tmp_path / "bundle"), "torch")
    assert backend.sees_slowly
    image, _ = disc_and_square(96, 128)
    pictures = [image, image[:, ::-1].copy(), image[::-1].copy()]
    sink = ListSink()

    def endless():
        number = 0
        while len(sink.results) < 6:
            yield Frame(pictures[number % 3].copy(), START_NS + NS_PER_S + number)
            number += 1

    video = ListSource(endless(), interval_s=0.03)
    audio = ListSource(chunks(signals.vowel(4.0)), endless=True)
    stream = GroundingStream(backend)
    placed = stream._place(96, 128)
    report = Runner(stream, video, audio, [sink], max_image_age_s=PATIENT_S).run()
    assert report.num_frames_published == len(sink.results) >= 6
    masks = [backend.encode_image(placed.apply(one)).masks[0] for one in pictures]
    num_checked = 0
    for frame, grounding in sink.results:
        regions = grounding["sound"].regions
        if regions is not None:
            number = (frame.stamp_ns - START_NS - NS_PER_S) % 3
            np.testing.assert_array_equal(regions.masks, masks[number])
            num_checked += 1
    assert num_checked > 1


def test_newer_sound_answers_the_last_frame_again_once_a_hop():
    stream = GroundingStream(TinyBackend())
    hop_s = stream.backend.spec.hop_s
    assert stream.answer_again() is None
    heard(stream, 1.0)
    assert stream.answer_again() is None
    stamp_ns = START_NS + NS_PER_S
    first = stream.push_frame(PICTURES[0], stamp_ns, "optical")
    assert first.heard_ns is None
    assert stream.answer_again() is None
    heard(stream, 1.0 + 2.6 * hop_s, start_s=1.0)
    again = stream.answer_again()
    assert (again.stamp_ns, again.frame_id, again.image_size) == (stamp_ns, "optical", (96, 120))
    assert again.heard_ns == pytest.approx(START_NS + (1.0 + 2.6 * hop_s) * 1e9, abs=3e7)
    assert stream.answer_again() is None
    assert stream.backend.num_images == 1
    # It is what a frame of that moment with the same picture would get.
    other = heard(GroundingStream(TinyBackend()), 1.0 + 2.6 * hop_s)
    expected = other.push_frame(PICTURES[0], again.heard_ns)
    np.testing.assert_allclose(again.sound, expected.sound, atol=1e-6)
    assert not np.allclose(again.sound, first.sound, atol=1e-3)
    stream.reset()
    heard(stream, 2.0)
    assert stream.answer_again() is None


def test_a_camera_that_stopped_is_answered_no_more():
    stream = heard(GroundingStream(TinyBackend()), 0.5)
    stream.push_frame(PICTURES[0], START_NS + NS_PER_S // 2)
    heard(stream, MAX_AGAIN_S + 0.9, start_s=0.5, total_s=8.0)
    assert stream.answer_again() is None


def test_a_live_run_answers_again_where_it_is_asked_to():
    (frame,) = different_frames(1)

    class OneFrame(ListSource):
        def __iter__(self):
            yield from super().__iter__()
            wait_for(lambda: len(sink.results) >= 4)

    sink = ListSink()
    audio = ListSource(chunks(signals.vowel(3.0)), interval_s=0.01, endless=True)
    runner = Runner(
        GroundingStream(TinyBackend()), OneFrame([frame]), audio, [sink],
        max_image_age_s=PATIENT_S, answers_again=True,
    )  # fmt: skip
    report = runner.run()
    assert report.num_frames_published == 1
    assert report.num_answered_again >= len(sink.results) - 1 >= 3
    assert all(shown is frame for shown, _ in sink.results)
    assert {grounding.stamp_ns for _, grounding in sink.results} == {frame.stamp_ns}
    heard_ns = [grounding.heard_ns for _, grounding in sink.results]
    assert heard_ns[0] is None
    assert heard_ns[1:] == sorted(set(heard_ns[1:]))
    assert report.latency.count == 1
