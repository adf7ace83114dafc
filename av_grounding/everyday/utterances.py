"""The drawn world's phrases, said by any engine: a model may know words, or one engine's words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from av_grounding.everyday import voices
from av_grounding.everyday.corpus import say_noun
from av_grounding.synthetic.acoustics import normalize_level
from av_grounding.synthetic.samples import Speak
from av_grounding.synthetic.speech import Utterance, phrase


def speaker(spoken_by: Sequence[str]) -> Speak:
    """What `SyntheticSamples(speak=...)` takes: voice, rate and pitch are drawn from the seed.

    `spoken_by` are identifiers of `voices.list_voices`. Levels are those of the world's own
    utterances, and what is said is cached.
    """
    if not spoken_by:
        raise ValueError("no voices to speak with; expected some of voices.list_voices()")

    def speak(class_name: str, carrier: str, seed: int) -> Utterance:
        rng = np.random.default_rng(seed)
        voice = spoken_by[rng.integers(len(spoken_by))]
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

    return speak


@lru_cache
def speaker_of(engine: str) -> Speak | None:
    """The speaker behind `--voices ENGINE`: all its voices; None for the world's own."""
    return None if engine == "own" else speaker(voices.list_voices(engine))
