"""Numbers of sources from frame to frame, alone and in a stream."""

from dataclasses import replace

import numpy as np
import pytest

from av_grounding.identification import SourcesSpec
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.source_ids import HOLD_NS, SourceIds
from av_grounding.types import HeadAnswer
from tests.helpers import signals
from tests.helpers.tiny_backend import TinyBackend

STEP_NS = 100_000_000


def answer(*places):
    """One map a place (row, column) on a grid of 10 x 10, the first one the loudest."""
    logits = np.full((len(places), 10, 10), -9.0, np.float32)
    for number, place in enumerate(places):
        logits[(number, *place)] = 3.0 - number
    return HeadAnswer(logits)


def ids(numbers, *places, at=0):
    return numbers.name({"sound": answer(*places)}, at * STEP_NS)["sound"].ids


def test_a_source_keeps_its_number_while_it_moves_and_others_come_and_go():
    numbers = SourceIds(4)
    assert ids(numbers, (2, 2), (7, 7)) == (1, 2)
    # The order of the maps is that of their peaks, which change.
    assert ids(numbers, (7, 6), (2, 3), at=1) == (2, 1)
    assert ids(numbers, (7, 5), at=2) == (2,)
    assert ids(numbers, (2, 3), (7, 5), at=3) == (1, 2)
    assert ids(numbers, (2, 8), (7, 5), at=4) == (3, 2)


def test_a_number_is_free_once_its_source_is_gone_for_long():
    numbers = SourceIds(2)
    assert ids(numbers, (2, 2), (7, 7)) == (1, 2)
    assert ids(numbers, (7, 7), at=9) == (2,)
    at = 2 + HOLD_NS // STEP_NS
    assert ids(numbers, (5, 1), (7, 7), at=at) == (1, 2)


def test_where_all_numbers_are_in_use_the_oldest_is_given_up():
    numbers = SourceIds(2)
    ids(numbers, (2, 2), (7, 7))
    ids(numbers, (7, 7), at=1)
    assert ids(numbers, (7, 7), (2, 8), at=2) == (2, 1)


def test_reset_forgets():
    numbers = SourceIds(4)
    ids(numbers, (2, 2))
    assert ids(numbers, (8, 8), at=1) == (2,)
    numbers.reset()
    assert ids(numbers, (8, 8), at=2) == (1,)


def test_heatmaps_by_number_and_zeros_where_a_source_is_not():
    numbers = SourceIds(3)
    named = numbers.name({"sound": answer((2, 2), (7, 7))}, 0)["sound"]
    assert named.max_sources == 3
    assert named.names == ("source 1", "source 2")
    by_number = named.source_heatmaps
    assert by_number.shape == (3, 10, 10)
    np.testing.assert_array_equal(by_number[:2], named.heatmaps)
    assert not by_number[2].any()
    nothing = numbers.name({"sound": HeadAnswer(np.zeros((0, 10, 10), np.float32))}, 1)["sound"]
    assert nothing.ids == ()
    assert nothing.source_heatmaps.shape == (3, 10, 10)
    assert not nothing.source_heatmaps.any()


def several(**sources):
    backend = TinyBackend(heads=("sound",))
    spec = replace(
        backend.spec, compares="cosine", sources=SourcesSpec(silent_cosine=1.0, **sources)
    )
    return backend.with_spec(spec)


def play(backend):
    stream = GroundingStream(backend)
    wave = signals.vowel(1.5)
    stream.push_audio(wave, 0, 16_000)
    return stream, [
        stream.push_frame(signals.picture(96, 120, seed), 1_000_000_000 + seed * STEP_NS)
        for seed in range(4)
    ]


@pytest.mark.parametrize("num", [1, 2, 3])
def test_a_stream_gives_the_number_of_sources_that_is_asked_for(num):
    stream, answers = play(several(num_sources=num))
    for one in answers:
        assert len(one["sound"].logits) == num
        assert len(set(one["sound"].ids)) == num
        assert one["sound"].max_sources == 4
    again = play(several(num_sources=num))[1]
    for first, second in zip(answers, again, strict=True):
        assert first["sound"].ids == second["sound"].ids
        np.testing.assert_array_equal(first["sound"].logits, second["sound"].logits)
    stream.reset()
    assert stream.push_frame(signals.picture(96, 120), 0)["sound"].ids == ()


def test_a_cosine_does_not_hear_how_loud_the_pooled_sound_is():
    plain = TinyBackend(heads=("sound",))
    cosine = plain.with_spec(replace(plain.spec, compares="cosine"))
    tokens = plain.encode_image(signals.picture(32, 40))
    from av_grounding.streaming.pooling import AudioQuery, answer

    vector, one = np.ones((1, 6), np.float32), np.ones(1, np.float32)
    logits = [
        answer(cosine, tokens, {"sound": AudioQuery(scale * vector, one)}, 6)["sound"]
        for scale in (0.1, 10.0)
    ]
    np.testing.assert_allclose(logits[0].logits, logits[1].logits, rtol=1e-5)
    expected = plain.similarity(tokens, vector[None])[0, 0] / np.sqrt(6.0)
    expected = plain.spec.heads[0].calibration.logits(expected)
    np.testing.assert_allclose(logits[0].logits.ravel(), expected, rtol=1e-5)


def test_a_model_of_one_map_has_no_sources_to_ask_for():
    with pytest.raises(ValueError, match="one map a head: expected a bundle of several sources"):
        TinyBackend().spec.with_sources(2)
    assert several().spec.with_sources(2).sources.num_sources == 2
