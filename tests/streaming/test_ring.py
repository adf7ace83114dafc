"""The ring against a plain list that keeps everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_grounding.streaming.ring import Ring


@given(st.integers(1, 20), st.lists(st.integers(0, 50), max_size=15), st.data())
def test_reads_what_was_appended(capacity, sizes, data):
    ring, everything = Ring(capacity, np.int64), []
    for size in sizes:
        values = np.arange(len(everything), len(everything) + size) + 1
        if size == 1:
            ring.append_one(values[0].item())
        else:
            ring.append(values)
        everything.extend(values.tolist())
    assert ring.end == len(everything)
    assert ring.start == max(0, len(everything) - capacity)
    start = data.draw(st.integers(ring.start, ring.end))
    stop = data.draw(st.integers(start, ring.end))
    assert ring.read(start, stop).tolist() == everything[start:stop]


@given(st.integers(1, 9), st.integers(0, 9))
def test_before_the_beginning_lie_zeros(num_padded, num_values):
    ring = Ring(10)
    ring.append(np.arange(1, num_values + 1, dtype=np.float32))
    expected = [0.0] * num_padded + list(range(1, num_values + 1))
    assert ring.read(-num_padded, num_values).tolist() == expected
    assert ring.read(-num_padded, 0).tolist() == [0.0] * num_padded


def test_a_read_is_a_copy():
    ring = Ring(4)
    ring.append(np.ones(4, np.float32))
    values = ring.read(0, 4)
    ring.append(np.zeros(4, np.float32))
    assert values.tolist() == [1.0] * 4


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (-1, 8), (8, 11), (9, 8)])
def test_what_is_gone_or_to_come_is_refused(start, stop):
    ring = Ring(6)
    ring.append(np.zeros(10, np.float32))
    with pytest.raises(IndexError, match="outside"):
        ring.read(start, stop)


def test_clear_begins_at_zero():
    ring = Ring(4)
    ring.append(np.ones(7, np.float32))
    ring.clear()
    ring.append(np.full(1, 5.0, np.float32))
    assert ring.read(-2, 1).tolist() == [0.0, 0.0, 5.0]
