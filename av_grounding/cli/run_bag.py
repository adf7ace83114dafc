"""`av-grounding run bag:PATH` and `av-grounding run … --record PATH`"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_grounding.cli.run_addition import Addition

if TYPE_CHECKING:
    from av_grounding.config import GroundingConfig
    from av_grounding.grounder import Grounder
    from av_grounding.transports.bag.recorder import BagRecorder
    from av_grounding.types import AudioChunk, EncodedFrame, Frame, Source, Stream

PREFIX = "bag:"


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--record",
        type=Path,
        metavar="PATH",
        help="keep what goes in and what comes out as a rosbag2: FILE.mcap, or a folder",
    )


def is_bag(args: argparse.Namespace) -> bool:
    return args.source.startswith(PREFIX)


def open_bag(args: argparse.Namespace, settings: GroundingConfig) -> tuple[Source, Source | None]:
    """Pictures and sound of the bag; where the order is kept, the first source gives both."""
    from av_grounding.transports.bag.source import open_bag

    if args.audio is not None and args.audio != "none" and not args.audio.startswith("/"):
        raise ValueError(
            f"got --audio {args.audio} with {args.source}, expected a topic of the bag such as "
            "--audio /audio, or none: the sound of a bag is in it"
        )
    path = Path(args.source.removeprefix(PREFIX))
    realtime = not args.as_fast_as_possible
    video, audio, _ = open_bag(
        path, args.image, args.audio, realtime=realtime, settings=settings.audio
    )
    return video, audio


def tap_sound(
    video: Source, audio: Source | None, listener: Callable[[AudioChunk], None]
) -> tuple[Source, Source | None]:
    """The same sources, whose sound `listener` hears, whichever of them gives it."""
    from av_grounding.sources.adapters import Tee
    from av_grounding.types import AudioChunk

    if audio is not None:
        return video, Tee(audio, listener)

    def hear(item: Frame | EncodedFrame | AudioChunk) -> None:
        if isinstance(item, AudioChunk):
            listener(item)

    return Tee(video, hear), None


def has_sound(video: Source, audio: Source | None) -> bool:
    return audio is not None or getattr(video, "holds_sound", False)


class BagRecording(Addition):
    sink: BagRecorder

    def describe(self) -> dict[str, Any]:
        return {"bag": self.sink.describe()}

    def readable(self) -> list[str]:
        bag = self.sink.describe()
        dropped = bag["num_frames_dropped"] + bag["num_audio_chunks_dropped"]
        lost = f"; {dropped} messages dropped, the disk was too slow" if dropped else ""
        megabytes = bag["num_bytes"] / 1e6
        return [f"{bag['path']}: {bag['num_frames']} frames, {megabytes:.1f} MB{lost}"]


def open_stream(
    args: argparse.Namespace,
    settings: GroundingConfig,
    grounder: Grounder,
    facts: dict[str, Any],
    frame_rate_hz: float,
) -> tuple[Stream, list[BagRecording]]:
    """The stream to run, and the recording of what it takes and gives, if one is asked for."""
    if args.record is None:
        return grounder.stream(), []
    from av_grounding.transports.bag.recorder import BagRecorder

    recorder = BagRecorder(
        args.record,
        facts,
        is_live=not args.as_fast_as_possible,
        frame_rate_hz=frame_rate_hz,
        thresholds=settings.thresholds(grounder.spec.head_names),
    )
    return recorder.wrap(grounder.stream()), [BagRecording(recorder)]
