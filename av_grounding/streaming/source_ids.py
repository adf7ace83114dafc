"""Which source is which from frame to frame, by where it was last seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from av_grounding.image import peak_cell
from av_grounding.types import HeadAnswer

MAX_STEP = 0.2
"""A source moves by less than this share of the picture's width and height from answer to answer
that shows it; a peak further off is another source."""
HOLD_NS = 1_000_000_000
"""A source that was not seen for this long is gone, and its number free."""


@dataclass
class _Seen:
    place: Float32[np.ndarray, " 2"]
    """(y, x) of its peak in [0, 1]."""
    stamp_ns: int


class SourceIds:
    """Numbers 1 to `max_sources` for the maps of each head's answers; the lowest free one first.

    Depends on the answers and their stamps alone, so a replay gives the same numbers.
    """

    def __init__(self, max_sources: int) -> None:
        self.max_sources = max_sources
        self._seen: dict[str, dict[int, _Seen]] = {}

    def reset(self) -> None:
        """Forget all sources."""
        self._seen.clear()

    def name(self, answers: Mapping[str, HeadAnswer], stamp_ns: int) -> dict[str, HeadAnswer]:
        """The answers, each map with its source's number."""
        return {
            head: replace(
                answer, ids=self._name(head, answer, stamp_ns), max_sources=self.max_sources
            )
            for head, answer in answers.items()
        }

    def _name(self, head: str, answer: HeadAnswer, stamp_ns: int) -> tuple[int, ...]:
        seen = self._seen.setdefault(head, {})
        for number in [n for n, one in seen.items() if abs(stamp_ns - one.stamp_ns) > HOLD_NS]:
            del seen[number]
        places = [peak_place(one) for one in answer.logits]
        # The nearest pairs first, each source and each map once.
        steps = sorted(
            (float(np.abs(one.place - place).max()), number, index)
            for number, one in seen.items()
            for index, place in enumerate(places)
        )
        ids: dict[int, int] = {}
        for step, number, index in steps:
            if step < MAX_STEP and index not in ids and number not in ids.values():
                ids[index] = number
        for index in range(len(places)):
            if index not in ids:
                taken = set(ids.values())
                free = [n for n in range(1, self.max_sources + 1) if n not in seen.keys() | taken]
                # All numbers are in use: the source that was seen longest ago gives its own up.
                old = sorted((one.stamp_ns, n) for n, one in seen.items() if n not in taken)
                ids[index] = free[0] if free else old[0][1]
        for index, place in enumerate(places):
            seen[ids[index]] = _Seen(place, stamp_ns)
        return tuple(ids[index] for index in range(len(places)))


def peak_place(logits: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, " 2"]:
    """(y, x) of a map's largest value in [0, 1]: the middle of its cell."""
    row, column = peak_cell(logits)
    return np.array([(row + 0.5) / logits.shape[0], (column + 0.5) / logits.shape[1]], np.float32)
