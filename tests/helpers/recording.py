"""What the tests of the recorder share: inputs of known content, and ways to read the output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np

from av_grounding.types import AudioChunk, Frame, Grounding
from tests.helpers.answers import answer as head_answer

START_NS = 1_700_000_000_123_456_789
REPOSITORY = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


def answer(stamp_ns: int, grid=(6, 8), value: float | None = None) -> Grounding:
    """Random maps, or a constant sound map and an empty speech map."""
    if value is None:
        sound, speech = RNG.random(grid, np.float32), RNG.random(grid, np.float32)
    else:
        sound, speech = np.full(grid, value, np.float32), np.zeros(grid, np.float32)
    return Grounding({"sound": head_answer(sound), "speech": head_answer(speech)}, stamp_ns)


def frame(time_s: float, image: np.ndarray | None = None) -> Frame:
    image = np.full((96, 128, 3), 60, np.uint8) if image is None else image
    return Frame(image, START_NS + round(time_s * 1e9))


def pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def sound_track(path: Path) -> np.ndarray:
    """The left channel from time zero of the file on, 48 kHz."""
    with av.open(str(path)) as container:
        blocks, end = [np.zeros(0, np.float32)], 0
        for block in container.decode(audio=0):
            assert abs(round(block.time * 48_000) - end) <= 1
            blocks.append(block.to_ndarray()[0].copy())
            end += block.samples
    return np.concatenate(blocks)


def onset_s(track: np.ndarray, level: float = 0.15) -> float:
    return float(np.flatnonzero(np.abs(track) > level)[0] / 48_000)


def beep_chunk(first: int, count: int, rate_hz: int, beep_s: float, offset_s=0.0, channels=1):
    """Samples [first, first + count) of 1 kHz that starts at `beep_s` and lasts 0.2 s."""
    seconds = np.arange(first, first + count) / rate_hz + offset_s
    tone = 0.5 * np.sin(2 * np.pi * 1000 * seconds)
    tone *= (seconds >= beep_s) & (seconds < beep_s + 0.2)
    samples = tone.astype(np.float32)
    if channels > 1:
        samples = np.stack([samples] * channels, axis=1)
    return AudioChunk(samples, START_NS + round((first / rate_hz + offset_s) * 1e9), rate_hz)


def start_child(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            str(REPOSITORY / "tests" / "helpers" / "record_forever.py"),
            str(directory),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
