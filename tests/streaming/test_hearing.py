"""How windows reach a backend: one by one in a stream, together in a clip, each state its own."""

import numpy as np
import pytest

from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming import timeline
from av_grounding.streaming.hearing import Hearing
from av_grounding.streaming.offline import ground_clip
from av_grounding.streaming.pipeline import GroundingStream
from tests.helpers import signals
from tests.helpers.tiny_backend import TinyBackend

IMAGE = signals.picture()
CLIP = signals.scene()


class BatchBackend(TinyBackend):
    """Encodes up to five windows in a call."""

    max_audio_batch = 5

    def __init__(self, **options):
        super().__init__(**options)
        self.batches = []

    def encode_audio_batch(self, waveforms):
        self.batches.append(len(waveforms))
        return np.stack([self.encode_audio(waveform) for waveform in waveforms])


class KeepingBackend(TinyBackend):
    """Hands out streams that check what they are told."""

    def __init__(self, **options):
        super().__init__(**options)
        self.streams = []

    def audio_stream(self):
        self.streams.append(KeepingStream(self))
        return self.streams[-1]


class KeepingStream:
    def __init__(self, backend):
        self.backend, self.last, self.num_resets, self.num_followed = backend, None, 0, 0

    def encode(self, waveform, num_new):
        if self.last is not None:
            np.testing.assert_array_equal(self.last[num_new:], waveform[:-num_new])
            self.num_followed += 1
        self.last = waveform
        return self.backend.encode_audio(waveform)

    def reset(self):
        self.last, self.num_resets = None, self.num_resets + 1


def test_a_clip_is_encoded_in_batches_and_alike():
    together, one_by_one = BatchBackend(), TinyBackend()
    answer = ground_clip(together, IMAGE, CLIP, 16_000)
    expected = ground_clip(one_by_one, IMAGE, CLIP, 16_000)
    np.testing.assert_allclose(answer.sound, expected.sound, atol=1e-5)
    np.testing.assert_allclose(answer.speech, expected.speech, atol=1e-5)
    assert together.batches == [5, 5, 5, 5, 3]
    assert together.num_windows == one_by_one.num_windows == 24  # one warms up
    short = BatchBackend()
    ground_clip(short, IMAGE, CLIP[:100], 16_000)
    assert short.batches == []


def test_a_stream_is_never_encoded_in_batches():
    backend = BatchBackend()
    stream = GroundingStream(backend, StreamingConfig())
    stream.push_audio(CLIP, 0, 16_000)
    assert stream.stats["num_windows_encoded"] == 22
    assert backend.batches == []


@pytest.mark.parametrize("size", [320, 5_000, 70_000])
def test_windows_follow_each_other_until_a_reset(size):
    backend = KeepingBackend()
    hearing = Hearing(backend, StreamingConfig())
    (stream,) = backend.streams
    assert (stream.last, stream.num_resets) == (None, 1)  # forgot what warmed it up
    for start in range(0, CLIP.size, size):
        hearing.push(CLIP[start : start + size])
    assert stream.num_followed == 21
    hearing.reset()
    assert (stream.last, stream.num_resets) == (None, 2)
    hearing.push(CLIP)
    assert stream.num_followed == 42
    Hearing(backend, StreamingConfig())
    assert len(backend.streams) == 2


def test_frames_between_two_hops_listen_once(monkeypatch):
    asked = []
    original = timeline.listen_now

    def listen_now(hearing, spec, config, now):
        asked.append(now)
        return original(hearing, spec, config, now)

    monkeypatch.setattr(timeline, "listen_now", listen_now)
    stream = GroundingStream(TinyBackend(), StreamingConfig())
    stream.push_audio(CLIP, 0, 16_000)
    frames_s = np.arange(0.5, 1.5, 0.02)
    first = [stream.push_frame(IMAGE, round(time_s * 1e9)) for time_s in frames_s]
    assert len(asked) == len(set(asked)) == 6  # hops of 0.2 s
    # What was remembered is what would have been found.
    monkeypatch.setattr(stream._timeline, "_moment", None)
    again = stream.push_frame(IMAGE, round(frames_s[-1] * 1e9))
    assert len(asked) == 7
    np.testing.assert_array_equal(again.sound, first[-1].sound)
    np.testing.assert_array_equal(again.speech, first[-1].speech)
    assert first[-1].sound.any()
    stream.reset()
    assert not stream.push_frame(IMAGE, round(frames_s[-1] * 1e9)).sound.any()


@pytest.mark.parametrize("backend", [TinyBackend, KeepingBackend])
# Clips of 4.4 s: about as long as a stream's history, and more than its ring holds.
@pytest.mark.parametrize("num_idle", [2, 6])
def test_nothing_is_encoded_that_nobody_wants_and_the_first_answer_is_as_fresh(backend, num_idle):
    wave = np.concatenate([np.tile(CLIP, num_idle), signals.scene()[:35_000]])
    whole, lazy = GroundingStream(backend()), GroundingStream(backend())
    lazy.is_idle = True
    before = lazy.stats["num_windows_encoded"]
    for start in range(0, len(wave), 1600):
        for stream in (whole, lazy):
            stream.push_audio(wave[start : start + 1600], round(start / 16_000 * 1e9), 16_000)
    assert lazy.stats["num_windows_encoded"] == before
    at_ns = round(len(wave) / 16_000 * 1e9)
    whole.push_frame(IMAGE, at_ns - 100_000_000)
    lazy.is_idle = False
    answer, expected = lazy.push_frame(IMAGE, at_ns), whole.push_frame(IMAGE, at_ns)
    np.testing.assert_allclose(answer.sound, expected.sound, atol=1e-5)
    np.testing.assert_allclose(answer.speech, expected.speech, atol=1e-5)
    assert answer.sound.any()
    assert lazy.stats["num_windows_encoded"] < 1 + (12 * 0.7 + 2.6) / 0.2
