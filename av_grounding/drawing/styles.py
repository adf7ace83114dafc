"""How a head looks and what it claims, wherever it is shown: overlays, clips, the live page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

Rgb = tuple[int, int, int]


@runtime_checkable
class Answer(Protocol):
    """What is drawn of one head: `types.HeadAnswer`, or an answer that was read from a file."""

    @property
    def heatmap(self) -> Float32[np.ndarray, "h w"]: ...

    @property
    def heatmaps(self) -> Float32[np.ndarray, "m h w"]: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def score(self) -> float: ...


Answers = Mapping[str, Answer]


@dataclass(frozen=True)
class RecordedAnswer:
    """A head's heatmap and score as a recording has them, in [0, 1]."""

    heatmap: Float32[np.ndarray, "h w"]
    score: float
    labels: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.labels

    @property
    def heatmaps(self) -> Float32[np.ndarray, "1 h w"]:
        return self.heatmap[None]


@dataclass(frozen=True)
class Style:
    """Weak and strong end of a head's colour ramp, the shape of its mark, and its line.

    Heads are told apart by the colours alone, and by mark and line alone. `asks` is the question
    that the head answers, `verdicts` what it says of nothing, of too little, and of a find.
    """

    weak: Rgb
    strong: Rgb
    mark: Literal["disc", "diamond", "square", "triangle"]
    is_dashed: bool = False
    asks: str = "Where is it?"
    verdicts: tuple[str, str, str] = ("Nothing found", "Not sure where", "Found")

    def verdict(self, score: float, threshold: float) -> str:
        """What the head claims at this score."""
        return self.verdicts[(score > 0.0) + (score > 0.0 and score >= threshold)]


# Amber and blue differ in lightness as well as in hue and stay apart with every common colour
# vision deficiency; so do the others from them and from one another.
KNOWN = {
    "sound": Style(
        (214, 72, 0),
        (255, 214, 64),
        "disc",
        asks="Where does it come from?",
        verdicts=("Nothing heard", "Heard, but not located", "Source located"),
    ),
    "speech": Style(
        (0, 58, 196),
        (96, 214, 255),
        "diamond",
        is_dashed=True,
        asks="What is being talked about?",
        verdicts=("No words heard", "Words heard, nothing found", "Object found"),
    ),
}
OTHERS = (
    Style((0, 84, 20), (60, 190, 60), "square"),
    Style((110, 0, 80), (225, 60, 160), "triangle", is_dashed=True),
    Style((96, 96, 96), (245, 245, 245), "square", is_dashed=True),
    Style((50, 20, 130), (150, 100, 240), "triangle"),
)


def styles_of(heads: Iterable[str]) -> dict[str, Style]:
    """A style for each head; those that are not known take turns in the order they come."""
    heads = list(heads)
    strangers = [head for head in heads if head not in KNOWN]
    return {
        head: KNOWN[head] if head in KNOWN else OTHERS[strangers.index(head) % len(OTHERS)]
        for head in heads
    }
