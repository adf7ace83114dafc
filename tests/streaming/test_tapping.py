"""One place at a time for all who want its sound."""

import numpy as np
import pytest

from av_grounding.audio import NS_PER_S
from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.tapping import TappedStream, separation_latency_s
from tests.helpers.masking_backend import IMAGE, RATE_HZ, MaskingBackend, noise
from tests.helpers.tiny_backend import TinyBackend

CONFIG = StreamingConfig(silence_s=0.5)


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


def test_what_cannot_be_separated_is_known_before_the_run():
    assert separation_latency_s(MaskingBackend(), CONFIG) == pytest.approx(0.32 + 0.022 + 0.2)
    with pytest.raises(ValueError, match="does not separate sounds"):
        separation_latency_s(TinyBackend(), CONFIG)
    with pytest.raises(ValueError, match="expected multiples of the 320"):
        separation_latency_s(MaskingBackend(), StreamingConfig(hop_s=0.0505))
