"""Nouns as they are spoken to a scene: by the person of the stamps, or by a synthesizer."""

from __future__ import annotations

import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from av_grounding.everyday.media import decode_sound
from av_grounding.everyday.parts import Part
from av_grounding.everyday.things import spoken_name

VOICES = ("slt", "rms", "awb", "kal")
"""flite's: another engine than the ones that most of the training speech comes from."""


def say(part: Part, noun: str, rng: np.random.Generator) -> Float32[np.ndarray, " s"]:
    """Somebody says a noun; who and how is drawn."""
    if part.spoken:
        names = part.spoken[noun]
        return spoken_name(names[int(rng.integers(len(names)))])
    return speak(noun, VOICES[int(rng.integers(len(VOICES)))])


@lru_cache(maxsize=1024)
def speak(text: str, voice: str) -> Float32[np.ndarray, " s"]:
    """English words by one of flite's `VOICES`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        try:
            subprocess.run(
                ["flite", "-voice", voice, "-t", text, "-o", str(path)],
                check=True,
                capture_output=True,
            )
        except FileNotFoundError:
            raise FileNotFoundError(
                "flite is not installed: sudo apt-get install -y flite"
            ) from None
        return decode_sound(path.read_bytes(), f"flite, {text!r}")
