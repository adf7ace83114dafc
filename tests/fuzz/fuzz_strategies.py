"""Hypothesis strategies: honest bytes with a few faults, as wires and attackers make them."""

from __future__ import annotations

from hypothesis import strategies as st

NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63,
    2**64 - 1,
)
TOKENS = (
    b"\0", b"\xff" * 64, b"[" * 2000, b'{"a":' * 500, b"- " * 500, b"&a [*a]", b"1e999", b"-1",
    b"null", b'""', b"[]", b"{}", b"9" * 400, b"0x" + b"f" * 300, b"NaN", b"\xed\xa0\x80", b"\n",
    b"../../etc/passwd", b"%s%n", "²".encode(), b"true", b"4294967296", b'[["a"]]', b"0",
)  # fmt: skip


@st.composite
def damaged(draw, seeds: list[bytes], max_faults: int = 4) -> bytes:
    """A seed with up to `max_faults` faults: bits, numbers, cuts, repeats, insertions."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, max_faults))):
        at = draw(st.integers(0, len(data)))
        fault = draw(
            st.sampled_from(("byte", "number", "cut", "drop", "repeat", "insert", "swap"))
        )
        size = draw(st.sampled_from((1, 2, 4, 8, 16, 64)))
        if fault == "byte":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif fault == "number":
            number = draw(st.sampled_from(NUMBERS)) % 256**size
            data[at : at + size] = number.to_bytes(size, draw(st.sampled_from(("little", "big"))))
        elif fault == "cut":
            del data[at:]
        elif fault == "drop":
            del data[at : at + size]
        elif fault == "repeat":
            data[at:at] = data[at : at + size] * draw(st.sampled_from((1, 2, 50)))
        elif fault == "insert":
            data[at:at] = draw(st.sampled_from(TOKENS))
        else:
            token = draw(st.sampled_from(TOKENS))
            data[at : at + size] = token
    return bytes(data)
