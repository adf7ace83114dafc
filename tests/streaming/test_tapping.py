"""One place at a time for all who want its sound."""

import threading
import time

import numpy as np
import pytest

from av_grounding.audio import NS_PER_S
from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.replay import run_offline
from av_grounding.streaming.runner import Runner
from av_grounding.streaming.tapping import TappedStream, separation_latency_s
from av_grounding.types import AudioChunk, Frame
from tests.helpers.masking_backend import IMAGE, RATE_HZ, MaskingBackend, noise
from tests.helpers.memory import ListSource
from tests.helpers.tiny_backend import TinyBackend

CONFIG = StreamingConfig(silence_s=0.5)
PATIENT = StreamingConfig(silence_s=10.0)
"""For runs by the wall clock: a machine that stalls gates nothing."""


class Taker:
    def __init__(self, place=None):
        self.place, self.sizes, self.got = place, set(), []

    def ask(self, size):
        self.sizes.add(size)
        return self.place

    def take(self, chunk, frame):
        assert chunk.stamp_ns < frame.stamp_ns
        self.got.append(chunk.samples)

    @property
    def num(self):
        return sum(map(len, self.got))


def play(stream, first_s, seconds):
    sound = noise(seconds, seed=round(first_s))
    for number in range(round(seconds / 0.2)):
        piece = sound[round(0.2 * number * RATE_HZ) :][: round(0.2 * RATE_HZ)]
        stream.push_audio(piece, round((first_s + 0.2 * number) * NS_PER_S), RATE_HZ)
        stream.push_frame(IMAGE, round((first_s + 0.2 * (number + 1)) * NS_PER_S))


def test_the_first_who_asks_chooses_and_all_take():
    backend = MaskingBackend()
    stream = TappedStream(GroundingStream(backend, CONFIG))
    one, other = Taker(), Taker()
    for taker in (one, other):
        stream.tap(taker.ask, taker.take)
    play(stream, 0.0, 2.0)
    assert backend.asked == []
    assert one.got == other.got == []
    other.place = (2.0, 2.0)
    play(stream, 2.0, 2.0)
    assert backend.asked[-1][0].argmax() == 0
    one.place = (40.0, 30.0)
    play(stream, 4.0, 2.0)
    assert backend.asked[-1][0].argmax() > 10
    assert one.num == other.num > 2.5 * RATE_HZ
    np.testing.assert_array_equal(np.concatenate(one.got), np.concatenate(other.got))
    assert one.sizes == {IMAGE.shape[:2]}
    one.place = other.place = None
    num = len(backend.asked)
    play(stream, 6.0, 1.0)
    assert len(backend.asked) == num


def chunks_of(waveform, num=800):
    return [
        AudioChunk(waveform[at : at + num], round(at / RATE_HZ * NS_PER_S), RATE_HZ)
        for at in range(0, len(waveform), num)
    ]


@pytest.mark.parametrize("is_live", [True, False])
def test_the_sound_behind_the_last_frame_is_taken_too(is_live):
    """Frames up to 2.0 s, sound up to 2.35 s: a file whose tracks differ."""
    waveform, taker = noise(2.35), Taker()
    video = [Frame(IMAGE, number * NS_PER_S // 10) for number in range(21)]
    stream = TappedStream(GroundingStream(MaskingBackend(1.0), PATIENT))
    stream.tap(taker.ask, taker.take)
    taker.place = (20.0, 10.0)
    stream.begin(taker.place)
    sources = (ListSource(video), ListSource(chunks_of(waveform)))
    if is_live:
        runner = Runner(
            stream, *sources, is_paced=True, max_image_age_s=30.0, takes_last_sound=True
        )
        runner.run()
    else:
        run_offline(*sources, stream, takes_last_sound=True)
    out = np.concatenate(taker.got)
    assert out.size == waveform.size
    np.testing.assert_allclose(out, waveform, atol=1e-6)


def test_a_run_that_is_stopped_gives_what_it_has_heard():
    waveform, taker = noise(2.0), Taker()
    taker.place = (20.0, 10.0)
    stream = TappedStream(GroundingStream(MaskingBackend(1.0), PATIENT))
    stream.tap(taker.ask, taker.take)
    stream.begin(taker.place)
    video = ListSource([Frame(IMAGE, n * NS_PER_S // 10) for n in range(21)], endless=True)
    audio = ListSource(chunks_of(waveform), endless=True)
    runner = Runner(
        stream, video, audio, is_paced=True, max_image_age_s=30.0, takes_last_sound=True
    )
    running = threading.Thread(target=runner.run)
    running.start()
    deadline_s = time.monotonic() + 30.0
    while stream.stats["num_audio_chunks"] < 40 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.5)
    runner.stop()
    running.join()
    out = np.concatenate(taker.got)
    assert out.size == waveform.size
    np.testing.assert_allclose(out, waveform, atol=1e-6)


def test_what_cannot_be_separated_is_known_before_the_run():
    assert separation_latency_s(MaskingBackend(), CONFIG) == pytest.approx(0.32 + 0.022 + 0.2)
    with pytest.raises(ValueError, match="does not separate sounds"):
        separation_latency_s(TinyBackend(), CONFIG)
    with pytest.raises(ValueError, match="expected multiples of the 320"):
        separation_latency_s(MaskingBackend(), StreamingConfig(hop_s=0.0505))
