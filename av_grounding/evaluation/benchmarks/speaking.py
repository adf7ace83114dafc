"""Class names spoken by a text-to-speech engine, with the time at which each word is said."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from av_grounding.evaluation.benchmark import AudioClip

RATE_WPM = 160
PITCH = 50
# What is 40 dB below the peak is no speech, where an engine reports no times of its own.
SPEECH_FLOOR_DB = -40.0


class Word(NamedTuple):
    """A word and when it is said, in seconds from the start of the utterance."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Spoken:
    """An utterance: (s,) int16; `words` is empty where the engine reports no times.

    `span_s` is when the whole text is said: by `words`, else by the level of the sound.
    """

    waveform: np.ndarray
    sample_rate_hz: int
    words: tuple[Word, ...]
    span_s: tuple[float, float]


@runtime_checkable
class SpeechEngine(Protocol):
    """Speaks a text in one of its voices; the same call gives the same sound."""

    name: str
    voices: tuple[str, ...]

    def speak(self, text: str, voice: str) -> Spoken: ...

    def close(self) -> None: ...


def open_engine(name: str, voice: str | None) -> SpeechEngine:
    """An engine by name. Raises ImportError or RuntimeError, with the remedy, where it is missing.

    `voice` None takes the engine's own voices.
    """
    engines = {"espeak": Espeak, "gtts": Gtts, "piper": Piper}
    if name not in engines:
        raise ValueError(f"got engine {name!r}, expected one of {', '.join(engines)}")
    return engines[name](voice)


class Espeak:
    """espeak-ng in a process of its own, in the voices of the synthetic world's test split."""

    name = "espeak"

    def __init__(self, voice: str | None = None) -> None:
        from av_grounding.synthetic import espeak_worker
        from av_grounding.synthetic.speech import VOICES

        own = tuple(voice.identifier for voice in VOICES["test"])
        self.voices = own if voice is None else (voice,)
        self._process = subprocess.Popen(
            [sys.executable, "-E", espeak_worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is for the caller alone.
            start_new_session=True,
        )

    def speak(self, text: str, voice: str) -> Spoken:
        from av_grounding.synthetic.speech import INSTALL_REMEDY

        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"text": text, "voice": voice, "rate_wpm": RATE_WPM, "pitch": PITCH}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        header = json.loads(line) if line else {"missing": True}
        if header.get("missing"):
            raise RuntimeError(f"no speech synthesiser on this machine: {INSTALL_REMEDY}")
        if "error" in header:
            raise RuntimeError(header["error"])
        waveform = np.frombuffer(process.stdout.read(header["num_bytes"]), "<i2")
        rate_hz = header["sample_rate_hz"]
        starts = sorted({sample for _, sample in header["words"]})
        ends = [*starts, *header["pauses"], len(waveform)]
        words = []
        for position, start in header["words"]:
            end = min(end for end in ends if end > start or end == len(waveform))
            word = text[position:].split(maxsplit=1)[0]
            words.append(Word(word, start / rate_hz, end / rate_hz))
        return Spoken(waveform, rate_hz, tuple(words), (words[0].start_s, words[-1].end_s))

    def close(self) -> None:
        self._process.kill()
        with self._process:
            pass


class Gtts:
    """Google's text-to-speech, which the paper used; needs a network. `voice` is a language."""

    name = "gtts"

    def __init__(self, voice: str | None = None) -> None:
        try:
            import gtts  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "gTTS is not installed: pip install gTTS (it needs a network), or take another "
                "engine with --tts espeak"
            ) from error
        self.voices = (voice or "en",)

    def speak(self, text: str, voice: str) -> Spoken:
        import gtts

        from av_grounding.sources.media_file import MediaFile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.mp3"
            try:
                gtts.gTTS(text, lang=voice).save(str(path))
            except (gtts.gTTSError, OSError) as error:
                raise RuntimeError(
                    f"gTTS got no answer for {text!r} ({error}): it needs a network; go on later "
                    "with the same command, or take another engine with --tts espeak"
                ) from error
            samples, rate_hz = MediaFile(path).read_audio()
        return measured(np.round(samples.mean(axis=1).clip(-1, 1) * 32767), rate_hz)

    def close(self) -> None:
        """Nothing is held."""


class Piper:
    """Piper, a neural voice that runs locally; `voice` is the path of its .onnx file."""

    name = "piper"

    def __init__(self, voice: str | None = None) -> None:
        if voice is None:
            raise ValueError(
                "got no voice for piper, expected --voice FILE.onnx; python -m "
                "piper.download_voices en_US-lessac-medium fetches one"
            )
        try:
            from piper import PiperVoice
        except ImportError as error:
            raise ImportError(
                "piper is not installed: pip install piper-tts, or take another engine with "
                "--tts espeak"
            ) from error
        if not Path(voice).is_file():
            raise FileNotFoundError(f"{voice}: no such voice file")
        self.voices = (voice,)
        self._voice = PiperVoice.load(voice)

    def speak(self, text: str, voice: str) -> Spoken:
        with tempfile.TemporaryFile() as file:
            with wave.open(file, "wb") as target:
                self._voice.synthesize_wav(text, target)
            file.seek(0)
            with wave.open(file) as source:
                rate_hz = source.getframerate()
                samples = np.frombuffer(source.readframes(source.getnframes()), "<i2")
        return measured(samples, rate_hz)

    def close(self) -> None:
        """Nothing is held."""


def measured(samples: np.ndarray, rate_hz: int) -> Spoken:
    """An utterance without reported times: it is said where the sound is."""
    level = np.abs(samples.astype(np.float64))
    loud = np.flatnonzero(level > level.max(initial=0.0) * 10 ** (SPEECH_FLOOR_DB / 20))
    if not len(loud):
        raise RuntimeError("the speech engine answered with silence")
    span_s = float(loud[0]) / rate_hz, float(loud[-1] + 1) / rate_hz
    return Spoken(samples.astype(np.int16), rate_hz, (), span_s)


@dataclass(frozen=True)
class SpokenName:
    """Says a class name, for benchmarks that ask a speech head which class a pixel is."""

    voice: int = 0
    seed: int = 0

    def __call__(self, class_name: str) -> AudioClip:
        from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
        from av_grounding.synthetic.speech import VOICES, synthesize_utterance

        noun = class_name.replace("-", " ")
        voices = VOICES["test"]
        voice = voices[self.voice % len(voices)]
        utterance = synthesize_utterance(noun, "{noun}", voice, self.seed)
        return AudioClip(utterance.waveform, SAMPLE_RATE_HZ)
