"""The drawn world's phrases, said by any engine: a model may know words, or one engine's words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from av_grounding.everyday import voices
from av_grounding.everyday.corpus import say_noun
from av_grounding.synthetic.acoustics import normalize_level
from av_grounding.synthetic.speech import Speak, Utterance, phrase


@dataclass(frozen=True)
class Speaker:
    """What `SyntheticSamples(speak=...)` and `AudioBank.build` take: voice, rate and pitch are
    drawn from the seed.

    `spoken_by` are identifiers of `voices.list_voices`. Levels are those of the world's own
    utterances, and what is said is cached.
    """

    spoken_by: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.spoken_by:
            raise ValueError("no voices to speak with; expected some of voices.list_voices()")
        for engine in sorted({voice.partition(":")[0] for voice in self.spoken_by}):
            known = voices.list_voices(engine)  # which says what is wrong with an engine
            for voice in self.spoken_by:
                if voice.startswith(f"{engine}:") and voice not in known:
                    raise ValueError(
                        f"unknown voice {voice!r}; expected some of {', '.join(known[:8])}"
                    )

    def __call__(self, class_name: str, carrier: str, seed: int) -> Utterance:
        rng = np.random.default_rng(seed)
        voice = self.spoken_by[rng.integers(len(self.spoken_by))]
        rate, pitch = rng.choice((0.85, 1.0, 1.15)), rng.choice((0.92, 1.0, 1.08))
        noun = class_name.replace("_", " ")
        said, span_s = say_noun(noun, carrier, voice, rate, pitch, cached=True)
        return Utterance(
            waveform=normalize_level(said.waveform),
            text=phrase(class_name, carrier)[0],
            class_name=class_name,
            word_span_s=span_s,
            voice=voice,
        )


@lru_cache
def speaker_of(named: str) -> Speak | None:
    """The speaker behind `--voices`: all voices of an engine, or those named, "engine:voice" with
    commas between; None for the world's own."""
    if named == "own":
        return None
    return Speaker(tuple(named.split(",")) if ":" in named else voices.list_voices(named))
