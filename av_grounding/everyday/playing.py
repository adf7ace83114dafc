"""Phrases as they sound: MIDI rendered by fluidsynth with a sampled sound font."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from av_grounding.everyday.media import decode_sound
from av_grounding.everyday.music import PHRASE_S, PROGRAMS, UNSEEN_PROGRAMS, phrases_midi
from av_grounding.synthetic.acoustics import SAMPLE_RATE_HZ

SOUNDFONT_FILE = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
REMEDY = "sudo apt-get install -y --no-install-recommends fluidsynth fluid-soundfont-gm"
RENDERED_HZ = 44_100
"""The sound font's own rate. fluidsynth folds whatever lies above half of the rate it renders at:
at 16 kHz the seventh partial of a harmonica comes back at 6.2 kHz, 27 dB below the loudest."""
NUM_SAMPLES = round(PHRASE_S * SAMPLE_RATE_HZ)
GAIN = "0.6"


def missing(soundfont: Path = SOUNDFONT_FILE) -> str:
    """What `play` needs and is not there; empty where it is."""
    if shutil.which("fluidsynth") is None:
        return "fluidsynth"
    return "" if soundfont.is_file() else str(soundfont)


def play(
    noun: str, program: int, num: int, split: str = "", soundfont: Path = SOUNDFONT_FILE
) -> Iterator[Float32[np.ndarray, " s"]]:
    """`num` phrases (see `phrases_midi`), 4 s each at 16 kHz; of the last, what it has.

    FileNotFoundError with the line that installs fluidsynth and its sound font where either is
    missing; ValueError where nothing sounds.
    """
    if absent := missing(soundfont):
        raise FileNotFoundError(f"{absent} is not installed: {REMEDY}")
    with tempfile.TemporaryDirectory() as scratch:
        midi, wave = Path(scratch, "phrases.mid"), Path(scratch, "phrases.wav")
        midi.write_bytes(phrases_midi(noun, program, num, split))
        command = ["fluidsynth", "-ni", "-q", "-g", GAIN, "-r", str(RENDERED_HZ)]
        subprocess.run(
            [*command, "-F", str(wave), str(soundfont), str(midi)], check=True, capture_output=True
        )
        sound = decode_sound(wave.read_bytes(), f"{noun} {program}")
    for start in range(0, num * NUM_SAMPLES, NUM_SAMPLES):
        yield sound[start : start + NUM_SAMPLES]


def play_split(noun: str, split: str, num: int) -> Float32[np.ndarray, "n s"]:
    """`num` whole phrases of an instrument, its programs in turn: for "test" those that no
    training hears, where the sound font has any."""
    programs = PROGRAMS[noun][0]
    if split == "test":
        programs = UNSEEN_PROGRAMS.get(noun, programs)
    found = []
    for place, program in enumerate(programs):
        for phrase in play(noun, program, len(range(place, num, len(programs))), split):
            whole = np.zeros(NUM_SAMPLES, np.float32)
            whole[: len(phrase)] = phrase
            found.append(whole)
    return np.stack(found)
