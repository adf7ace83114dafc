"""`av-grounding run --separate`: the sound of a place into separated.wav."""

from __future__ import annotations

import argparse
import logging
import wave
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from av_grounding.audio import NS_PER_S
from av_grounding.cli.run_addition import Addition
from av_grounding.files import replacing
from av_grounding.streaming.separating import Place
from av_grounding.streaming.tapping import TappedStream, separation_latency_s
from av_grounding.types import AudioChunk, Frame, Grounding

if TYPE_CHECKING:
    from av_grounding.config import GroundingConfig
    from av_grounding.grounder import Grounder
    from av_grounding.streaming.runner import Runner


logger = logging.getLogger(__name__)
MAX_LEAD_S = 60.0
"""Frames that begin earlier than this before the sound have another clock."""


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--separate",
        type=_place,
        metavar="peak|X,Y",
        help="write the sound of a place in pixels, or of the peak, to DIR/separated.wav",
    )


def open_file(
    args: argparse.Namespace, settings: GroundingConfig, grounder: Grounder
) -> list[Separation]:
    """What writes the sound of a place; empty without --separate."""
    if args.separate is None:
        return []
    if args.out is None:
        raise ValueError("got --separate without --out DIR: expected a folder for separated.wav")
    latency_s = separation_latency_s(
        grounder.backend, grounder.config, settings.separation.lookahead_s
    )
    return [Separation(args.out, args.separate, grounder.spec.sample_rate_hz, latency_s)]


def can_separate(grounder: Grounder) -> bool:
    """Whether others may ask a run for the sound of a place; what could be mended is said."""
    if grounder.spec.separation is None:
        return False
    try:
        separation_latency_s(grounder.backend, grounder.config)
    except ValueError as error:
        logger.warning("no place can be listened to: %s", error)
        return False
    return True


class Separation(Addition):
    """A sink of which only the end matters: samples come from `TappedStream`.

    The file begins with the first frame or the first sound, whichever comes first, and ends with
    the sound: its time is that of the file that is run.
    """

    takes_last_sound = True

    def __init__(self, out: Path, place: Place, sample_rate_hz: int, latency_s: float) -> None:
        super().__init__(self)
        self._path, self._place = out / "separated.wav", place
        self._rate_hz, self._latency_s = sample_rate_hz, latency_s
        self._num_samples = self._num_filled = 0
        self._stream: TappedStream | None = None
        self._start_ns: int | None = None
        self._open = ExitStack()
        out.mkdir(parents=True, exist_ok=True)
        partial = self._open.enter_context(replacing(self._path))
        self._file = self._open.enter_context(wave.open(str(partial), "wb"))  # noqa: SIM115
        self._file.setnchannels(1)
        self._file.setsampwidth(2)
        self._file.setframerate(sample_rate_hz)

    def connect(self, stream: TappedStream, runner: Runner | None) -> None:
        self._stream = stream
        stream.tap(lambda size: self._place, lambda chunk, frame: self.take(chunk))
        stream.begin(self._place)

    def take(self, chunk: AudioChunk) -> None:
        """Write at its time: what is missing before it is silence."""
        is_first = self._start_ns is None
        if self._start_ns is None:
            first_ns = None if self._stream is None else self._stream.first_frame_ns
            has_lead = (
                first_ns is not None and 0 < chunk.stamp_ns - first_ns < MAX_LEAD_S * NS_PER_S
            )
            self._start_ns = first_ns if has_lead else chunk.stamp_ns
        due = round((chunk.stamp_ns - self._start_ns) * self._rate_hz / NS_PER_S)
        # Clocks drift by less than a frame of the STFT; only a real gap is filled.
        least = 0 if is_first else self._rate_hz // 10
        missing = due - self._num_samples if due - self._num_samples > least else 0
        samples = np.concatenate([np.zeros(missing, np.float32), chunk.samples])
        self._file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        self._num_samples += samples.size
        self._num_filled += missing

    def write(self, frame: Frame, grounding: Grounding) -> None:
        pass

    def close(self) -> None:
        self._open.close()

    def describe(self) -> dict[str, Any]:
        place = self._place if self._place == "peak" else list(self._place)
        return {
            "separated": {
                "path": str(self._path),
                "place": place,
                "start_stamp_ns": self._start_ns,
                "duration_s": round(self._num_samples / self._rate_hz, 3),
                "silence_filled_in_s": round(self._num_filled / self._rate_hz, 3),
                "latency_s": round(self._latency_s, 3),
            }
        }

    def readable(self) -> list[str]:
        one = self.describe()["separated"]
        return [f"{one['path']}: {one['duration_s']:.1f} s, {one['latency_s']:.2f} s behind"]


def _place(text: str) -> Place:
    if text == "peak":
        return "peak"
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected peak or X,Y") from None
    return x, y
