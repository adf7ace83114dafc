"""Speech engines behind one interface: espeak-ng, flite, festival and Piper say the same text.

Networks that learned words from one engine do not know them from another: what helps is more
engines, not more voices of one. All that is said is cached on disk.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import soxr
from jaxtyping import Float32

from av_grounding.everyday import engines
from av_grounding.everyday.engines import SpokenWord
from av_grounding.files import atomic_write
from av_grounding.synthetic.speech import VOICES as ESPEAK_VOICES

SAMPLE_RATE_HZ = 16_000
RATE_RANGE = (0.5, 2.0)
PITCH_RANGE = (0.7, 1.4)

ENGINES: dict[str, engines.VoiceEngine] = {
    "espeak": engines.EspeakVoices(),
    "flite": engines.FliteVoices(),
    "festival": engines.FestivalVoices(),
    "piper": engines.PiperVoices(),
}


@dataclass(frozen=True, slots=True)
class SpokenText:
    """What a voice said: mono at 16 kHz, and when it said each word of the text, in seconds."""

    waveform: Float32[np.ndarray, " s"]
    words: tuple[SpokenWord, ...]

    def span_s(self, first: int, num_words: int) -> tuple[float, float]:
        """From the start of word number `first` to the end of the last of `num_words`."""
        return self.words[first].start_s, self.words[first + num_words - 1].end_s


def list_voices(engine: str | None = None) -> tuple[str, ...]:
    """Identifiers "engine:voice" of the engines that are installed, or of the one named.

    espeak-ng's are those that train and validate; its variants kept for testing are left out.
    Raises RuntimeError, with what installs it, for a named engine that is missing.
    """
    if engine is not None:
        _engine(engine).require()
    names = ENGINES if engine is None else (engine,)
    return tuple(
        f"{name}:{voice}"
        for name in names
        if not ENGINES[name].missing()
        for voice in ENGINES[name].voices()
    )


def speak(text: str, voice: str, rate: float = 1.0, pitch: float = 1.0) -> SpokenText:
    """`text` (plain words) said by `voice`, "engine:voice" as `list_voices` names it.

    `rate` is the speed as a multiple of the voice's own. `pitch` scales all frequencies, those of
    the throat too, as a larger or smaller speaker's would be, without a change of speed. Raises
    ValueError for what no voice can do and RuntimeError for an engine that is not installed.
    """
    engine, voice_name = _checked(text, voice, rate, pitch)
    path = _cache_path(f"{engine.version()}|{voice}|{rate:.3f}|{pitch:.3f}|{text}")
    spoken = _read(path)
    if spoken is None:
        spoken = _say(engine, text, voice_name, rate, pitch)
        _write(path, spoken)
    return spoken


def speak_uncached(text: str, voice: str, rate: float = 1.0, pitch: float = 1.0) -> SpokenText:
    """`speak` for what is kept elsewhere, as a corpus is."""
    engine, voice_name = _checked(text, voice, rate, pitch)
    return _say(engine, text, voice_name, rate, pitch)


def _checked(text: str, voice: str, rate: float, pitch: float) -> tuple[engines.VoiceEngine, str]:
    for name, value, (low, high) in (("rate", rate, RATE_RANGE), ("pitch", pitch, PITCH_RANGE)):
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; expected {low} to {high}")
    words = text.split()
    if not words or not all(re.fullmatch(r"[A-Za-z']+,?", word) for word in words):
        raise ValueError(
            f"text is {text!r}; expected English words without digits and marks other than commas"
        )
    engine_name, _, voice_name = voice.partition(":")
    engine = _engine(engine_name)
    engine.require()
    if voice_name not in engine.voices() and voice_name not in _espeak_test(engine_name):
        raise ValueError(
            f"voice is {voice!r}; expected one of {', '.join(list_voices(engine_name)[:8])} …"
        )
    return engine, voice_name


def _say(
    engine: engines.VoiceEngine, text: str, voice: str, rate: float, pitch: float
) -> SpokenText:
    saying = engine.say(text, voice, rate / pitch)
    # Samples played `pitch` times as fast raise all frequencies by that factor.
    waveform = soxr.resample(saying.waveform, saying.rate_hz * pitch, SAMPLE_RATE_HZ, quality="HQ")
    if not waveform.any():
        raise RuntimeError(f"{engine.name}:{voice} said nothing for {text!r}")
    words = tuple(SpokenWord(w.text, w.start_s / pitch, w.end_s / pitch) for w in saying.words)
    return SpokenText(np.clip(waveform, -1, 1).astype(np.float32), words)


def _engine(name: str) -> engines.VoiceEngine:
    if name not in ENGINES:
        raise ValueError(f"speech engine {name!r}; expected one of {', '.join(ENGINES)}")
    return ENGINES[name]


@functools.cache
def _espeak_test(engine: str) -> frozenset[str]:
    return frozenset(v.identifier for v in ESPEAK_VOICES["test"] if engine == "espeak")


def cache_folder() -> Path:
    """Where what was said is kept: AV_GROUNDING_VOICES, else below the user's cache folder."""
    chosen = os.environ.get("AV_GROUNDING_VOICES")
    return Path(chosen) if chosen else platformdirs.user_cache_path("av_grounding") / "voices"


def _cache_path(key: str) -> Path:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return cache_folder() / digest[:2] / f"{digest[2:34]}.npz"


def _read(path: Path) -> SpokenText | None:
    try:
        with np.load(path, allow_pickle=False) as values:
            waveform = values["waveform"].astype(np.float32) / 32767.0
            words = zip(values["words"], *values["spans_s"].T, strict=True)
            return SpokenText(
                waveform, tuple(SpokenWord(str(w), float(a), float(b)) for w, a, b in words)
            )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError):
        # A damaged file of the cache is written anew.
        return None


def _write(path: Path, spoken: SpokenText) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        waveform=np.round(spoken.waveform * 32767).astype(np.int16),
        words=np.array([word.text for word in spoken.words]),
        spans_s=np.array([(word.start_s, word.end_s) for word in spoken.words]),
    )
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
