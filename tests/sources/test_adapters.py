"""Sources made of other sources."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_grounding.sources.adapters import OneChannel, RateLimiter, Tee
from av_grounding.types import AudioChunk, Frame, Source

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Listed:
    def __init__(self, items):
        self.items, self.is_closed = items, False

    def __iter__(self):
        return iter(self.items)

    def close(self):
        self.is_closed = True


def frames(stamps_s):
    return Listed([Frame(IMAGE, round(stamp * 1e9)) for stamp in stamps_s])


@pytest.mark.parametrize("max_rate_hz", [1.0, 7.0, 10.0, 15.0, 20.0, 30.0])
def test_thinning_keeps_the_rate(max_rate_hz):
    rng = np.random.default_rng(0)
    stamps = np.arange(300) / 30.0 + rng.uniform(0.0, 0.002, 300)
    kept = list(RateLimiter(frames(stamps), max_rate_hz))
    assert len(kept) == pytest.approx(10 * max_rate_hz, abs=2)


@given(st.lists(st.floats(0.0, 100.0), max_size=60), st.floats(0.5, 50.0))
def test_thinning_leaves_frames_in_order_and_keeps_the_first(stamps, max_rate_hz):
    source = frames(stamps)
    kept = list(RateLimiter(source, max_rate_hz))
    assert kept[:1] == source.items[:1]
    remaining = iter(source.items)
    assert all(any(frame is item for item in remaining) for frame in kept)


def test_a_rate_above_the_source_changes_nothing():
    source = frames(np.arange(50) / 15.0)
    assert list(RateLimiter(source, 100.0)) == source.items


def test_thinning_starts_anew_after_a_pause_or_a_clock_that_was_set():
    stamps = [0.0, 0.1, 50.0, 50.1, 50.5, 3.0, 3.1, 3.5]
    kept = [frame.stamp_ns / 1e9 for frame in RateLimiter(frames(stamps), 2.0)]
    assert kept == [0.0, 50.0, 50.5, 3.0, 3.5]


def test_no_rate_is_refused():
    with pytest.raises(ValueError, match="more than 0"):
        RateLimiter(frames([]), 0.0)


def test_a_tap_sees_what_passes_and_closes_the_source():
    source, seen = frames([0.0, 0.1, 0.2]), []
    tapped = Tee(source, seen.append)
    assert isinstance(tapped, Source)
    assert list(tapped) == seen == source.items
    tapped.close()
    assert source.is_closed
    RateLimiter(source, 1.0).close()


def test_one_channel_is_heard_and_pictures_pass(caplog):
    six = np.arange(24, dtype=np.int16).reshape(4, 6)
    frame, mono = Frame(IMAGE, 5), AudioChunk(six[:, 3].copy(), 7, 16_000)
    source = OneChannel(Listed([AudioChunk(six, 3, 16_000), frame, mono, mono]), channel=4)
    assert isinstance(source, Source)
    heard, picture, *others = source
    np.testing.assert_array_equal(heard.samples, [4, 10, 16, 22])
    assert (heard.stamp_ns, heard.sample_rate_hz) == (3, 16_000)
    assert picture is frame
    # What has no such channel is heard as it is, and said once.
    assert others[0] is others[1] is mono
    assert source.num_channels_missing == 1
    assert caplog.text.count("got audio.channel 4, expected one of the 1 channels") == 1
    source.channel = 0
    np.testing.assert_array_equal(list(source)[2].samples, mono.samples)
    source.close()
    assert source.source.is_closed
