"""A corpus of spoken nouns: every noun by every engine, alone and in sentences, with its span.

It is built in rounds, each with all nouns by one voice (of espeak-ng: by many), and a round is one
file, so that an interrupted build goes on where it stopped and training may begin before its end.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int16

from av_grounding.everyday import voices
from av_grounding.files import atomic_write
from av_grounding.synthetic.speech import phrase

logger = logging.getLogger(__name__)

CARRIERS: tuple[str, ...] = (
    "the {noun}",
    "{article_noun}",
    "look at the {noun}",
    "where is the {noun}",
    "point to the {noun}",
    "I can see {article_noun}",
    "can you see {article_noun} over there",
    "the {noun} is on this side",
    "there is {article_noun} in front of us",
    "{noun} please",
    "show me the {noun} now",
    "do you know where the {noun} is",
    "where is the red {noun}",
    "go to the old {noun} and wait",
    "my {noun} was here before",
    "that is a very big {noun}",
    "what about this little {noun} here",
    "give the {noun} to your mother",
    "hey robot find my {noun}",
    "did you hear that {noun}",
    "this green {noun} belongs to him",
    "we like our {noun}",
    "is it behind the {noun} or not",
    "one more {noun} would be nice",
)
"""Phrases around a noun, which stands first, in the middle or last."""
_TEXT = """
    a about above add after again against age air all also always an and animal another answer
    any appear are arm around art as ask at away back bad ball bank be because bed been before
    begin believe below best better between big bird black blow board body both bottom boy
    break bright broke brother brown but by call came can care case catch cell cent center
    change child children choose circle city class clean climb close clothe cloud cold collect
    come complete consonant control cool corner cost could count country crease dance day
    decimal design dictionary did die different direct divide do does door down dress drop
    during each ear early earth ease edge egg else end energy engine enough equal even ever
    every exact example except exercise experiment fair family fast father feel feet fell felt
    few find finish first fit five flat flow flower follow food for forest form found fraction
    from fun garden gas general get girl give glass go gone good got govern grand grass great
    grew ground group had half hand happen happy has have he head heard heart heavy help her
    here high him his hold hole home hope hour house how hundred hunt ice if in include
    instrument interest into is it its job join joy just keep kept key kill kind king kitchen
    knew know lady lake land large last late lay learn least leave left leg length less letter
    life light like line list listen little live lone long look lost lot loud love made make
    man many map mark material matter may me mean measure melody men method middle mile milk
    million mix moment money month more morning most mother mount mouth move much music must my
    name nation near need never new next night no north not notice now number numeral observe
    of off office often old on one only open or order other our out over own page pair paper
    part pass past pattern pay people perhaps person pick picture piece place plain plant play
    please point poor position present press probable problem product prove pull put question
    quiet quite race rain reach read ready real reason receive red region remember represent
    ride right rise river road robot rock row rule run said sail same save saw say scale school
    second section see seed seem sent sentence serve set settle several she short should shout
    show sign simple since sing single sit six size skin sky sleep slow small smile so soft
    some son song soon sound south space speak speed spell spring square start step stick still
    stone store story straight strange study subject such sudden suggest summer surprise
    syllable symbol take talk team tell ten than that the their them then there these they
    thing think this those though thought three through time tiny to together told tomorrow
    tone too top touch toward trade travel tree trip trouble try turn twenty two under until up
    us use usual vary very visit voice walk wall want war was water wave way we wear weather
    weight well went were west what when where which while white who whole why wide wild will
    wind window winter wire wish with word work world would write written wrote yard year yet
    you young your
"""
OTHER_WORDS = tuple(_TEXT.split())
"""Common words that name nothing of the vocabulary."""
ALONE = 0.45
"""The share of nouns that are said alone, without a sentence."""


@dataclass(frozen=True, slots=True)
class Round:
    """All nouns once, by one voice or by all of an engine in turn."""

    engine: str
    voice: str | None
    number: int

    @property
    def file_name(self) -> str:
        return f"{self.engine}_{self.voice or 'all'}_{self.number:02}.npz"


ROUNDS = {"espeak": (24, 14), "flite": (5, 2), "festival": (4, 2), "piper": (6, 3)}
"""How many rounds (of each voice; of espeak-ng: of all) say nouns alone and in `CARRIERS`, and how
many among other words. Without the latter a trunk takes words that it never heard for nouns."""


def plan(engine_names: Sequence[str]) -> tuple[Round, ...]:
    """The corpus's rounds by these engines; the first of each voice before the second of any."""
    rounds = []
    for engine in engine_names:
        known = voices.list_voices(engine)
        names = [None] if engine == "espeak" else [voice.partition(":")[2] for voice in known]
        rounds += [Round(engine, name, n) for name in names for n in range(sum(ROUNDS[engine]))]
    return tuple(
        sorted(rounds, key=lambda r: (r.number / (6 if r.voice is None else 1), r.engine))
    )


@dataclass(frozen=True, slots=True)
class CorpusShard:
    """The utterances of a round: int16 at 16 kHz one behind another, `bounds` between them.

    `spans` are the first and the end sample of the noun within its utterance; `nouns` its number
    in `vocabulary`.
    """

    samples: Int16[np.ndarray, " s"]
    bounds: Int[np.ndarray, " n_and_1"]
    spans: Int[np.ndarray, "n 2"]
    nouns: Int[np.ndarray, " n"]
    vocabulary: tuple[str, ...]


def build(folder: Path, nouns: Sequence[str], rounds: Iterable[Round]) -> Iterator[Path]:
    """Say what is missing in `folder`, and yield each round's file when it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in rounds:
        path = folder / item.file_name
        if not path.exists() or load(path).vocabulary != tuple(nouns):
            _save(path, _say_round(item, nouns))
        yield path


def _say_round(item: Round, nouns: Sequence[str]) -> CorpusShard:
    seed = hashlib.sha256(item.file_name.encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(seed, "little"))
    engine_voices = [
        voice for voice in voices.list_voices(item.engine) if voice not in VALIDATION_VOICES
    ]
    samples, spans, numbers = [], [], []
    for number, noun in enumerate(nouns):
        voice = (
            f"{item.engine}:{item.voice}" if item.voice is not None else rng.choice(engine_voices)
        )
        if item.number >= ROUNDS[item.engine][0]:
            carrier = among_other_words(noun, rng)
        else:
            carrier = "{noun}" if rng.random() < ALONE else str(rng.choice(CARRIERS))
        rate, pitch = np.exp(rng.uniform(-0.25, 0.25)), np.exp(rng.uniform(-0.15, 0.15))
        said, span_s = say_noun(noun, carrier, str(voice), rate, pitch)
        samples.append(np.round(said.waveform * 32767).astype(np.int16))
        spans.append(np.array(span_s) * voices.SAMPLE_RATE_HZ)
        numbers.append(number)
    return CorpusShard(
        np.concatenate(samples),
        np.cumsum([0, *(len(s) for s in samples)]),
        np.round(spans).astype(np.int64),
        np.array(numbers),
        tuple(nouns),
    )


def among_other_words(noun: str, rng: np.random.Generator) -> str:
    """A carrier of up to four words before the noun and up to three behind it, without sense."""
    others = [word for word in OTHER_WORDS if word not in noun.split()]
    before, behind = (rng.choice(others, rng.integers(most + 1)).tolist() for most in (4, 3))
    return " ".join([*before, "{noun}", *behind])


def say_noun(
    noun: str, carrier: str, voice: str, rate: float = 1.0, pitch: float = 1.0, *, cached=False
) -> tuple[voices.SpokenText, tuple[float, float]]:
    """The carrier with the noun in it, and the noun's span in seconds."""
    text, offset = phrase(noun, carrier)
    first, num_words = len(text[:offset].split()), len(noun.split())
    speak = voices.speak if cached else voices.speak_uncached
    said = speak(text, voice, float(rate), float(pitch))
    return said, said.span_s(first, num_words)


VALIDATION_VOICES = frozenset(f"espeak:{v.identifier}" for v in voices.ESPEAK_VOICES["val"])
"""No round of the corpus is said by these."""


def load(path: Path) -> CorpusShard:
    """A round's file; ValueError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as values:
            return CorpusShard(
                values["samples"],
                values["bounds"],
                values["spans"],
                values["nouns"],
                tuple(values["vocabulary"].tolist()),
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{path}: no shard of spoken nouns ({error}); remove it") from None


def _save(path: Path, shard: CorpusShard) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        samples=shard.samples,
        bounds=shard.bounds,
        spans=shard.spans,
        nouns=shard.nouns,
        vocabulary=np.array(shard.vocabulary),
    )
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
