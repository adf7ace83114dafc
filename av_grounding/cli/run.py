"""`av-grounding run`"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_grounding.cli import console, options

if TYPE_CHECKING:
    from av_grounding.config import GroundingConfig
    from av_grounding.grounder import Grounder
    from av_grounding.recorder import Recorder
    from av_grounding.streaming.pipeline import GroundingStream
    from av_grounding.streaming.report import RunReport
    from av_grounding.types import Frame, Heatmaps, Sink, Source

LIVE = ("camera", "http", "rtsp", "mic")


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "run",
        parents=parents,
        help="ground a demo scene, a camera or a media file",
        description="DIR gets heatmaps.npz, overlay.mp4 (with the sound) and report.json.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="demo | camera[:INDEX] | http://, rtsp://… | a media file"
    )
    parser.add_argument(
        "--audio",
        metavar="AUDIO",
        help="mic[:NAME] | a media file | none; default: the file's own sound, mic for a camera",
    )
    options.add_model(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="record into this directory")
    parser.add_argument(
        "--duration", type=options.seconds, metavar="S", help="stop after this many seconds"
    )
    parser.add_argument(
        "--as-fast-as-possible",
        action="store_true",
        help="files and the demo: every frame, in order, not paced as live",
    )
    parser.set_defaults(execute=execute)


class Present:
    """A Sink that counts the frames on which a head claims something, and shows the values."""

    def __init__(self, thresholds: dict[str, float], show: Callable[[str], None]) -> None:
        self.counts = dict.fromkeys(thresholds, 0)
        self._thresholds = thresholds
        self._show = show

    def write(self, frame: Frame, heatmaps: Heatmaps) -> None:
        values = {head: float(getattr(heatmaps, head).max()) for head in self._thresholds}
        for head, threshold in self._thresholds.items():
            self.counts[head] += values[head] >= threshold
        self._show("  ".join(f"{head} {value:.2f}" for head, value in values.items()))

    def close(self) -> None:
        pass


def execute(args: argparse.Namespace) -> int:
    is_live = any((text or "").startswith(LIVE) for text in (args.source, args.audio))
    is_paced = not args.as_fast_as_possible
    if is_live and not is_paced:
        raise ValueError(
            f"got --as-fast-as-possible with the live source {args.source}, expected a file or "
            "demo: leave the option out"
        )
    from av_grounding.recorder import Recorder
    from av_grounding.sources.adapters import Tapped, Thinned
    from av_grounding.sources.open import open_source

    settings = options.load_settings(args)
    grounder = options.load_grounder(args, settings)
    with console.busy(args, f"Opening {args.source}"):
        video, audio = open_source(
            args.source, args.audio, realtime=is_paced, duration_s=args.duration
        )
    if video is None:
        raise ValueError(
            f"{args.source} has no picture, expected one: heatmaps lie over a picture; for one "
            "picture and one clip see av-grounding ground --help"
        )
    total_s = args.duration or getattr(video, "duration_s", None)
    rate_hz = getattr(video, "frame_rate_hz", 0.0) or 30.0
    if settings.max_rate:
        video = Thinned(video, settings.max_rate)
    recorder = None
    if args.out is not None:
        recorder = Recorder(
            args.out, rate_hz, audio=audio is not None, alpha=settings.overlay.alpha
        )
        if audio is not None:
            audio = Tapped(audio, recorder.write_audio)
    report = _run(args, settings, grounder, video, audio, recorder, total_s)
    console.show(args, report, *_readable(report, args.out))
    return 0


def _run(
    args: argparse.Namespace,
    settings: GroundingConfig,
    grounder: Grounder,
    video: Source,
    audio: Source | None,
    recorder: Recorder | None,
    total_s: float | None,
) -> dict[str, Any]:
    """Run to the end and complete the recording, also when something goes wrong."""
    with console.progress(args, "Grounding", total_s, "s") as advance:
        thresholds = {head: getattr(settings, head).threshold for head in ("sound", "speech")}
        done_s = 0.0

        def on_progress(seconds: float) -> None:
            nonlocal done_s
            done_s = seconds

        present = Present(thresholds, lambda text: advance(done_s, description=text))
        sinks: list[Sink] = [present, *([] if recorder is None else [recorder])]
        stream = grounder.stream()
        report = _facts(args, settings, grounder)
        start = _offline if args.as_fast_as_possible else _live
        try:
            run_report = start(args, settings, stream, video, audio, sinks, on_progress)
        except BaseException as error:
            report |= {"stopped_by": type(error).__name__, "stream": stream.stats}
            if recorder is not None:
                with contextlib.suppress(OSError):
                    recorder.finish(report)
            raise
        report |= {**run_report.as_dict(), "num_frames_present": present.counts}
        if recorder is not None:
            recorder.finish(report)
            report["recording"] = recorder.describe()
    return report


def _live(
    args: argparse.Namespace,
    settings: GroundingConfig,
    stream: GroundingStream,
    video: Source,
    audio: Source | None,
    sinks: list[Sink],
    on_progress: Callable[[float], None],
) -> RunReport:
    from av_grounding.streaming.runner import Runner

    runner = Runner(
        stream,
        video,
        audio,
        sinks,
        max_image_age_s=settings.max_image_age_ms / 1e3,
        duration_s=args.duration,
        clock_ns=time.time_ns,  # the clock of every live and paced source
        on_progress=on_progress,
    )
    return runner.run()


def _offline(
    args: argparse.Namespace,
    settings: GroundingConfig,
    stream: GroundingStream,
    video: Source,
    audio: Source | None,
    sinks: list[Sink],
    on_progress: Callable[[float], None],
) -> RunReport:
    from av_grounding.streaming.replay import run_offline

    return run_offline(
        video, audio, stream, sinks, duration_s=args.duration, on_progress=on_progress
    )


def _facts(
    args: argparse.Namespace, settings: GroundingConfig, grounder: Grounder
) -> dict[str, Any]:
    """What ran, for report.json."""
    import importlib.metadata
    import platform

    from av_grounding import __version__

    packages = ("numpy", "torch", "opencv-python", "av", "soxr")
    return {
        "source": args.source,
        "audio": args.audio,
        "pace": "as fast as possible" if args.as_fast_as_possible else "live",
        "model": {
            "bundle": str(options.bundle_path(args, settings)),
            **grounder.backend.describe(),
        },
        "config": asdict(settings),
        "versions": {
            "av_grounding": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def _readable(report: dict[str, Any], out: Path | None) -> list[str]:
    dropped = report["num_frames_replaced"] + report["num_frames_too_old"]
    latency = report["latency_ms"]
    timing = (
        ""
        if latency["p50"] is None
        else (f", p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms")
    )
    present = report["num_frames_present"]
    lines = [
        f"{report['num_frames_published']} frames at {report['frame_rate_hz']:.1f} Hz{timing}; "
        f"{dropped} dropped; sound located on {present['sound']}, a name on {present['speech']}",
    ]
    return lines if out is None else [*lines, f"{out}/overlay.mp4, heatmaps.npz, report.json"]
