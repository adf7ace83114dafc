"""Spoken phrases that name a class, by espeak-ng, with the time at which the noun is said."""

from __future__ import annotations

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import soxr
from jaxtyping import Float32

from av_grounding.synthetic.acoustics import SAMPLE_RATE_HZ, active_spans, normalize_level

logger = logging.getLogger(__name__)

INSTALL_REMEDY = "pip install espeakng-loader (or apt install libespeak-ng1)"
_MARGIN_S = 0.05
_WORKER = Path(__file__).with_name("espeak_worker.py")

CARRIERS: tuple[str, ...] = (
    "{noun}",
    "the {noun}",
    "{article_noun}",
    "a picture of {article_noun}",
    "look at the {noun}",
    "where is the {noun}",
    "point to the {noun}",
    "I can see {article_noun}",
    "can you see {article_noun} over there",
    "the {noun} is on this side",
    "there is {article_noun} in front of us",
    "{article_noun} in the picture",
    "{noun}, please",
    "show me the {noun} now",
    "this must have come from the {noun}",
    "do you know where the {noun} is",
)
"""Phrases around a noun, which stands first, in the middle or last."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker: an accent of espeak-ng with a speaker variant, and the ranges it speaks in.

    Rates are words per minute and pitches espeak-ng's 0..100; both ends are included.
    """

    name: str
    variant: str
    rate_wpm: tuple[int, int] = (130, 210)
    pitch: tuple[int, int] = (20, 80)

    @property
    def identifier(self) -> str:
        return f"{self.name}+{self.variant}"


@dataclass(frozen=True, slots=True)
class Utterance:
    """A spoken phrase, mono at 16 kHz; `word_span_s` is when its class's noun is said."""

    waveform: Float32[np.ndarray, " s"]
    text: str
    class_name: str
    word_span_s: tuple[float, float]
    voice: str


Speak = Callable[[str, str, int], Utterance]
"""(class name, carrier, seed) -> the phrase, said by another speaker than the world's own."""

# Voice files of espeak-ng; "en-gb" alone is not a name that the library's voice lookup knows.
_ACCENTS = (
    "gmw/en-US",
    "gmw/en",
    "gmw/en-GB-x-rp",
    "gmw/en-GB-scotland",
    "gmw/en-GB-x-gbclan",
    "gmw/en-029",
    "gmw/en-US-nyc",
    "gmw/en-GB-x-gbcwmd",
)
# A speaker variant, and so a speaker's family (steph, steph2), belongs to one split alone.
_VARIANTS = {
    "train": (
        *("m1", "f1", "m2", "f2", "m4", "f5", "m5", "m7", "m8", "Annie", "adam", "Alex"),
        *("belinda", "benjamin", "grandma", "grandpa", "steph", "steph2", "david", "edward"),
        *("Gene", "Hugo", "klatt", "klatt2", "croak", "Jacky", "john", "Marco", "max", "michel"),
        *("paul", "pedro", "rob", "shelby", "travis", "zac", "norbert", "caleb", "anika"),
        *("miguel", "quincy", "Lee", "sandro", "iven", "kaukovalta"),
    ),
    "val": ("f4", "m6", "Alicia", "boris"),
    "test": ("m3", "f3", "Andy", "linda", "victor", "Andrea", "Michael", "aunty"),
}


def _voices(variants: tuple[str, ...], num_accents_each: int) -> tuple[Voice, ...]:
    return tuple(
        Voice(_ACCENTS[(index + 3 * turn) % len(_ACCENTS)], variant)
        for turn in range(num_accents_each)
        for index, variant in enumerate(variants)
    )


VOICES: MappingProxyType[str, tuple[Voice, ...]] = MappingProxyType(
    {
        "train": _voices(_VARIANTS["train"], 3),
        "val": _voices(_VARIANTS["val"], 2),
        "test": _voices(_VARIANTS["test"], 2),
    }
)
"""Split -> voices. No speaker variant stands in two splits."""


class _Engine:
    """The worker process behind this process's utterances (see `espeak_worker`)."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = -1

    def speak(self, text: str, voice: str, rate_wpm: int, pitch: int) -> tuple[dict, bytes]:
        request = {"text": text, "voice": voice, "rate_wpm": rate_wpm, "pitch": pitch}
        with self.lock:
            try:
                header, waveform = self._exchange(request)
            except BaseException:
                # An answer that nobody read would be taken for the next request's.
                self.close()
                raise
        if header.get("missing"):
            raise RuntimeError(f"no speech synthesiser on this machine: {INSTALL_REMEDY}")
        if "error" in header:
            raise RuntimeError(header["error"])
        return header, waveform

    def _exchange(self, request: dict) -> tuple[dict, bytes]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"espeak-ng's process ended; {INSTALL_REMEDY} may mend it")
        header = json.loads(line)
        return header, process.stdout.read(header.get("num_bytes", 0))

    def _running(self) -> subprocess.Popen[bytes]:
        # After a fork the pipes belong to the parent: the child starts a worker of its own.
        if self.process is None or self.owner != os.getpid() or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-E", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C is for the caller alone.
                start_new_session=True,
            )
            self.owner = os.getpid()
        return self.process

    def close(self) -> None:
        if self.process is not None and self.owner == os.getpid():
            self.process.kill()
            with self.process:
                pass
        self.process = None


_engine = _Engine()
atexit.register(_engine.close)
if hasattr(os, "register_at_fork"):
    # Another thread may hold the lock while a process forks.
    os.register_at_fork(after_in_child=lambda: setattr(_engine, "lock", threading.Lock()))


def phrase(class_name: str, carrier: str) -> tuple[str, int]:
    """The carrier with the class's noun in it, and the noun's character offset."""
    noun = class_name.replace("_", " ")
    article = "an" if noun[0] in "aeiou" else "a"
    mark = "\0"
    text = carrier.format(noun=mark, article_noun=f"{article} {mark}")
    if text.count(mark) != 1:
        raise ValueError(
            f"carrier {carrier!r} must hold {{noun}} or {{article_noun}} once; see CARRIERS"
        )
    return text.replace(mark, noun), text.index(mark)


def synthesize_utterance(class_name: str, carrier: str, voice: Voice, seed: int) -> Utterance:
    """The phrase `carrier` about `class_name`, spoken by `voice`; rate and pitch from `seed`.

    16 kHz, active level -20 dBFS, 50 ms of margin on both sides. The word's span runs from its
    first phoneme to the start of the next word or of the pause behind it, as espeak-ng reports
    them. Raises RuntimeError where espeak-ng is not installed.
    """
    rng = np.random.default_rng(seed)
    rate_wpm = int(rng.integers(voice.rate_wpm[0], voice.rate_wpm[1] + 1))
    pitch = int(rng.integers(voice.pitch[0], voice.pitch[1] + 1))
    text, offset = phrase(class_name, carrier)
    header, raw = _engine.speak(text, voice.identifier, rate_wpm, pitch)
    rate_hz = header["sample_rate_hz"]
    waveform = np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0
    if not waveform.any():
        raise RuntimeError(f"espeak-ng said nothing for {text!r} with {voice.identifier}")

    starts = [sample for position, sample in header["words"] if position == offset]
    assert len(starts) == 1, (text, offset, header["words"])
    ends = [sample for _, sample in header["words"] if sample > starts[0]]
    ends += [sample for sample in header["pauses"] if sample > starts[0]]
    span_s = starts[0] / rate_hz, min([*ends, len(waveform)]) / rate_hz

    waveform = soxr.resample(waveform, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    waveform, shift_s = _trimmed(waveform)
    duration_s = len(waveform) / SAMPLE_RATE_HZ
    start_s, end_s = (float(np.clip(t + shift_s, 0.0, duration_s)) for t in span_s)
    return Utterance(
        waveform=normalize_level(waveform),
        text=text,
        class_name=class_name,
        word_span_s=(start_s, end_s),
        voice=voice.identifier,
    )


def speak_words(
    text: str, voice: str, rate_wpm: int, pitch: int
) -> tuple[Float32[np.ndarray, " s"], int, list[tuple[int, int, int]]]:
    """(waveform, its rate in Hz, words) of any text by espeak-ng's voice of that identifier.

    A word is (character offset in the text, first sample, end sample).
    """
    header, raw = _engine.speak(text, voice, rate_wpm, pitch)
    waveform = np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0
    starts = [sample for _, sample in header["words"]]
    stops = sorted([*starts, *header["pauses"], len(waveform)])
    words = [
        (offset, start, next((stop for stop in stops if stop > start), len(waveform)))
        for offset, start in header["words"]
    ]
    return waveform, header["sample_rate_hz"], words


def engine_version() -> str:
    """The version of espeak-ng that speaks; raises RuntimeError where none is installed."""
    header, _ = _engine.speak("a", "gmw/en", 160, 50)
    return header["version"]


def _trimmed(waveform: Float32[np.ndarray, " s"]) -> tuple[Float32[np.ndarray, " t"], float]:
    """Silence at both ends cut, or filled up, to the margin; and the shift in seconds."""
    margin = round(_MARGIN_S * SAMPLE_RATE_HZ)
    first, last = active_spans(waveform, floor_db=-45.0)
    begin, end = first - margin, last + margin
    padded = np.pad(waveform, (max(0, -begin), max(0, end - len(waveform))))
    begin_padded = max(begin, 0)
    return padded[begin_padded : begin_padded + end - begin], -begin / SAMPLE_RATE_HZ
