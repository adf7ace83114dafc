"""Windows encoded in a thread of their own: in order, none unheard, and nobody waits."""

import threading
import time

import numpy as np
import pytest

from av_grounding.audio import NS_PER_S
from av_grounding.streaming.apart import ApartEncoder
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.runner import Runner
from tests.helpers import signals
from tests.helpers.memory import START_NS, ListSink, ListSource, chunks, frames
from tests.helpers.tiny_backend import TinyBackend

PATIENT_S = 30.0


class Gate:
    """Encodes a window once it is let; remembers which, and what was new in each."""

    def __init__(self):
        self.may_go = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.windows = []

    def __call__(self, window, num_new):
        self.windows.append((int(window[-1]), num_new))
        self.begun.release()
        assert self.may_go.acquire(timeout=PATIENT_S)
        return np.full((1, 1, 1), window[-1], np.float32)


def window(end, num=100):
    return np.arange(end - num + 1, end + 1, dtype=np.float32)


def put(encoder, *ends):
    for end in ends:
        encoder.put(end, window(end))


def settle(encoder, horizon=10**9):
    deadline_s = time.monotonic() + PATIENT_S
    while encoder.is_behind(horizon) and time.monotonic() < deadline_s:
        time.sleep(0.001)


def ends_of(encoder):
    return [end for end, _ in encoder.take()]


def test_tokens_come_in_order_with_their_ends():
    gate = Gate()
    encoder = ApartEncoder(gate, 100, 0)
    for end in (10, 20, 30):
        assert not encoder.is_behind(end)
        put(encoder, end)
        assert encoder.is_behind(end)
        assert not encoder.is_behind(end - 1)
        gate.may_go.release()
        settle(encoder)
    taken = encoder.take()
    assert [(end, float(tokens[0, 0, 0])) for end, tokens in taken] == [
        (10, 10.0), (20, 20.0), (30, 30.0),
    ]  # fmt: skip
    assert gate.windows == [(10, 10), (20, 10), (30, 10)]
    assert (encoder.num_skipped, encoder.step) == (0, 10)
    assert encoder.take() == []


def test_too_slow_a_machine_takes_the_newest_window_and_hears_every_sample():
    gate = Gate()
    encoder = ApartEncoder(gate, 100, 0)
    put(encoder, 10)
    assert gate.begun.acquire(timeout=PATIENT_S)
    put(encoder, *range(20, 261, 10))
    for _ in range(4):
        gate.may_go.release()
    deadline_s = time.monotonic() + PATIENT_S
    ends = []
    while ends[-1:] != [260] and time.monotonic() < deadline_s:
        ends += ends_of(encoder)
        time.sleep(0.001)
    # 10 held all up to it; no later window may begin after the last one's end.
    assert ends == [10, 110, 210, 260]
    assert [num_new for _, num_new in gate.windows] == [10, 100, 100, 50]
    assert encoder.num_skipped == 22


def test_a_token_keeps_its_context_where_windows_are_left_out():
    gate = Gate()
    encoder = ApartEncoder(gate, 100, 20)
    put(encoder, 10)
    assert gate.begun.acquire(timeout=PATIENT_S)
    put(encoder, *range(20, 201, 10))
    for _ in range(5):
        gate.may_go.release()
    settle(encoder)
    # No step of more than the window without the context at both its ends.
    assert [end for end, _ in gate.windows] == [10, 70, 130, 190, 200]


def test_what_was_forgotten_does_not_come_back():
    gate = Gate()
    encoder = ApartEncoder(gate, 100, 0)
    put(encoder, 500)
    assert gate.begun.acquire(timeout=PATIENT_S)
    encoder.clear()
    put(encoder, 10)
    gate.may_go.release()
    gate.may_go.release()
    assert gate.begun.acquire(timeout=PATIENT_S)
    deadline_s = time.monotonic() + PATIENT_S
    while not (ends := ends_of(encoder)) and time.monotonic() < deadline_s:
        time.sleep(0.001)
    assert ends == [10]
    assert gate.windows[-1] == (10, 10)


def test_an_error_is_raised_where_tokens_are_taken():
    def fail(window, num_new):
        raise RuntimeError("the encoder broke")

    encoder = ApartEncoder(fail, 100, 0)
    put(encoder, 10)
    settle(encoder)
    with pytest.raises(RuntimeError, match="the encoder broke"):
        encoder.take()


def run_through(stream, waveform, num_frames=8):
    """Push everything, let encoding finish, and ask for the last frames."""
    for chunk in chunks(waveform):
        stream.push_audio(chunk.samples, chunk.stamp_ns, chunk.sample_rate_hz)
        if stream._hearing._apart is not None:
            settle(stream._hearing._apart)  # a machine that is fast enough
    end_ns = START_NS + round(1e9 * len(waveform) / 16_000)
    return [
        stream.push_frame(signals.picture(), end_ns - i * NS_PER_S // 20).sound
        for i in range(num_frames, 0, -1)
    ]


def test_apart_and_fast_enough_answers_are_the_same_bytes():
    together, apart = (GroundingStream(TinyBackend()) for _ in range(2))
    apart.hear_apart()
    waveform = signals.vowel(3.0)
    expected, given = run_through(together, waveform), run_through(apart, waveform)
    assert any(heatmap.any() for heatmap in expected)
    for one, other in zip(expected, given, strict=True):
        np.testing.assert_array_equal(one, other)
    assert apart.stats["num_windows_encoded"] == together.stats["num_windows_encoded"]
    assert apart.stats["hop_widened"] == 1.0
    again = apart.restarted(apart.config)
    assert again._hearing._apart is not None


class LongListener(TinyBackend):
    """Needs three hops for a window, as a large model on a small machine."""

    hears_slowly = True

    def __init__(self):
        super().__init__()
        self.is_warm = False
        self.busy_with = set()

    def encode_audio(self, waveform):
        if self.is_warm:
            self.busy_with.add(threading.current_thread().name)
            time.sleep(3 * self.spec.hop_s)
        self.is_warm = True
        return super().encode_audio(waveform)


def test_frames_and_a_long_window_do_not_wait_for_each_other():
    backend, sink = LongListener(), ListSink()
    hop_s = backend.spec.hop_s
    duration_s = 30 * hop_s
    video = ListSource(frames(int(20 * duration_s), rate_hz=20.0), interval_s=0.05)
    audio = ListSource(chunks(signals.vowel(duration_s)), interval_s=0.02)
    stream = GroundingStream(backend)
    report = Runner(stream, video, audio, [sink], max_image_age_s=PATIENT_S).run()
    assert backend.busy_with == {"av-ear"}
    assert report.num_audio_overruns == 0
    # All frames but a few that a busy machine loses; before, a window of sound held each up.
    assert report.num_frames_published > 0.6 * report.num_frames_captured
    assert any(answer.sound.any() for _, answer in sink.results)
    assert report.stream["num_windows_skipped"] > 0
    assert report.stream["hop_widened"] > 1.5
    assert report.stream["hop_s"] <= backend.spec.window_s
    assert threading.active_count() < 20


def test_duration_ends_a_run_whose_video_stalls():
    class Stalling(ListSource):
        def __iter__(self):
            yield frames(1)[0]
            while not self.num_closed:
                time.sleep(0.01)

    began_s = time.monotonic()
    Runner(GroundingStream(TinyBackend()), Stalling([]), None, [], duration_s=0.2).run()
    assert time.monotonic() - began_s < 5.0
