"""`av-grounding run`"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_grounding.cli import console, options, run_bag, run_dds, run_separate, run_view
from av_grounding.cli.run_addition import Addition

if TYPE_CHECKING:
    from av_grounding.config import GroundingConfig
    from av_grounding.grounder import Grounder
    from av_grounding.recording.recorder import Recorder
    from av_grounding.streaming.report import RunReport
    from av_grounding.streaming.tapping import TappedStream
    from av_grounding.types import Frame, Grounding, Sink, Source

LIVE = ("camera", "http", "rtsp", "mic")


def add_parser(subparsers: argparse._SubParsersAction, parents: list) -> None:
    parser = subparsers.add_parser(
        "run",
        parents=parents,
        help="ground a demo, a camera or a media file",
        description="DIR gets heatmaps.npz, overlay.mp4 (with the sound) and report.json.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="demo | everyday | camera[:INDEX] | http://, rtsp://… | a media file | bag:PATH | "
        "dds",
    )
    parser.add_argument(
        "--audio",
        metavar="AUDIO",
        help="mic[:NAME] | a media file | a topic of SOURCE (/…) | none; default: the file's own "
        "sound, mic for a camera",
    )
    parser.add_argument(
        "--image", metavar="TOPIC", help="which topic of SOURCE is the picture; default: the only"
    )
    options.add_model(parser)
    options.add_sources(parser)
    options.add_regions(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="record into this directory")
    parser.add_argument(
        "--duration", type=options.seconds, metavar="S", help="stop after this many seconds"
    )
    parser.add_argument(
        "--as-fast-as-possible",
        action="store_true",
        help="files and the demo: every frame, in order, not paced as live",
    )
    run_bag.add_option(parser)
    run_separate.add_option(parser)
    run_view.add_option(parser)
    run_dds.add_options(parser)
    parser.set_defaults(execute=execute)


class Present:
    """A Sink that counts the frames on which a head claims something, and shows the values."""

    def __init__(self, thresholds: dict[str, float], show: Callable[[str], None]) -> None:
        self.counts = dict.fromkeys(thresholds, 0)
        self._thresholds = thresholds
        self._show = show

    def write(self, frame: Frame, grounding: Grounding) -> None:
        values = {head: grounding.score(head) for head in self._thresholds}
        for head, threshold in self._thresholds.items():
            is_first = grounding.heard_ns is None
            self.counts[head] += is_first and values[head] >= threshold
        self._show("  ".join(f"{head} {value:.2f}" for head, value in values.items()))

    def close(self) -> None:
        pass


def execute(args: argparse.Namespace) -> int:
    is_live = any((text or "").startswith(LIVE) for text in (args.source, args.audio))
    is_live |= run_dds.is_dds(args)
    is_paced = not args.as_fast_as_possible
    if is_live and not is_paced:
        raise ValueError(
            f"got --as-fast-as-possible with the live source {args.source}, expected a file or "
            "demo: leave the option out"
        )
    from av_grounding.recording.recorder import Recorder
    from av_grounding.sources.adapters import OneChannel, RateLimiter
    from av_grounding.sources.open import open_source
    from av_grounding.streaming.tapping import TappedStream

    settings = options.load_settings(args)
    grounder = options.load_grounder(args, settings)
    dds = run_dds.Dds(args)
    with console.busy(args, f"Opening {args.source}"):
        if run_bag.is_bag(args):
            video, audio = run_bag.open_bag(args, settings)
        elif run_dds.is_dds(args):
            video, audio = dds.open_inputs(settings)
        elif run_view.is_endless(args):
            from av_grounding.sources.demo import open_endless_demo

            video, audio = open_endless_demo(args.source)
        else:
            video, audio = open_source(
                args.source,
                args.audio,
                realtime=is_paced,
                duration_s=args.duration,
                settings=settings.audio,
            )
    total_s = args.duration or getattr(video, "duration_s", None)
    rate_hz = getattr(video, "frame_rate_hz", 0.0) or 30.0
    has_sound = run_bag.has_sound(video, audio)
    if settings.audio.channel >= 0 and not run_dds.is_dds(args):  # there it is done
        video, audio = (
            None if source is None else OneChannel(source, settings.audio.channel)
            for source in (video, audio)
        )
    if settings.max_rate:
        video = RateLimiter(video, settings.max_rate)
    recorder = None
    if args.out is not None:
        recorder = Recorder(
            args.out,
            rate_hz,
            audio=has_sound,
            alpha=settings.overlay.alpha,
            heads=grounder.spec.head_names,
        )
        video, audio = run_bag.tap_sound(video, audio, recorder.write_audio)
    report = _facts(args, settings, grounder)
    pages = run_view.open_page(args, settings, grounder)
    publishers = dds.open_publisher(settings, grounder)
    stream, bags = run_bag.open_stream(args, settings, grounder, dict(report), rate_hz)
    # Who stands first chooses what is separated.
    additions = [*run_separate.open_file(args, settings, grounder), *pages, *publishers, *bags]
    stream = TappedStream(stream, lookahead_s=settings.separation.lookahead_s)

    def start(sinks: list[Sink], on_progress: Callable[[float], None]) -> RunReport:
        inputs = (video, audio, stream, sinks)
        if args.as_fast_as_possible:
            return _offline(*inputs, args.duration, on_progress, additions)
        return _live(*inputs, args.duration, on_progress, additions, settings, dds.watches_sound)

    _run(args, settings, start, stream, recorder, report, total_s, additions)
    lines = [line for addition in additions for line in addition.readable()]
    console.show(args, report, *_readable(report, args.out), *lines)
    return 0


def _run(
    args: argparse.Namespace,
    settings: GroundingConfig,
    start: Callable[[list[Sink], Callable[[float], None]], RunReport],
    stream: TappedStream,
    recorder: Recorder | None,
    report: dict[str, Any],
    total_s: float | None,
    additions: list[Addition],
) -> None:
    """Run to the end and complete report and recording, also when something goes wrong."""
    with console.progress(args, "Grounding", total_s, "s") as advance:
        thresholds = settings.thresholds(stream.backend.spec.head_names)
        done_s = 0.0

        def on_progress(seconds: float) -> None:
            nonlocal done_s
            done_s = seconds

        present = Present(thresholds, lambda text: advance(done_s, description=text))
        sinks: list[Sink] = [present, *([] if recorder is None else [recorder])]
        sinks += [addition.sink for addition in additions]
        try:
            run_report = start(sinks, on_progress)
        except BaseException as error:
            report |= {"stopped_by": type(error).__name__, "stream": stream.stats}
            if recorder is not None:
                with contextlib.suppress(OSError):
                    recorder.finish(report)
            raise
        report |= {**run_report.as_dict(), "num_frames_present": present.counts}
        for addition in additions:
            report |= addition.describe()
        if recorder is not None:
            recorder.finish(report)
            report["recording"] = recorder.describe()


def _live(
    video: Source,
    audio: Source | None,
    stream: TappedStream,
    sinks: list[Sink],
    duration_s: float | None,
    on_progress: Callable[[float], None],
    additions: list[Addition],
    settings: GroundingConfig,
    is_sound_watched: bool,
) -> RunReport:
    from av_grounding.streaming.runner import Runner

    runner = Runner(
        stream,
        video,
        audio,
        sinks,
        max_image_age_s=settings.max_image_age_ms / 1e3,
        duration_s=duration_s,
        is_sound_watched=is_sound_watched,
        on_progress=on_progress,
        answers_again=settings.answer_again,
        takes_last_sound=_takes_last_sound(additions, duration_s),
    )
    for addition in additions:
        addition.connect(stream, runner)
    return runner.run()


def _offline(
    video: Source,
    audio: Source | None,
    stream: TappedStream,
    sinks: list[Sink],
    duration_s: float | None,
    on_progress: Callable[[float], None],
    additions: list[Addition],
) -> RunReport:
    from av_grounding.streaming.replay import run_offline

    for addition in additions:
        addition.connect(stream, None)
    return run_offline(
        video,
        audio,
        stream,
        sinks,
        duration_s=duration_s,
        on_progress=on_progress,
        takes_last_sound=_takes_last_sound(additions, duration_s),
    )


def _takes_last_sound(additions: list[Addition], duration_s: float | None) -> bool:
    return duration_s is None and any(one.takes_last_sound for one in additions)


def _facts(
    args: argparse.Namespace, settings: GroundingConfig, grounder: Grounder
) -> dict[str, Any]:
    """What ran, for report.json."""
    import platform

    from av_grounding import __version__

    packages = ("numpy", "torch", "openvino", "opencv-python", "av", "soxr")
    installed = {name: _version_of(name) for name in packages}
    return {
        "source": args.source,
        "audio": args.audio,
        "pace": "as fast as possible" if args.as_fast_as_possible else "live",
        "model": {
            "bundle": str(options.bundle_path(args, settings)),
            **grounder.backend.describe(),
        },
        "config": settings.as_mapping(),
        "versions": {
            "av_grounding": __version__,
            "python": platform.python_version(),
            **{name: version for name, version in installed.items() if version},
        },
    }


def _version_of(package: str) -> str | None:
    """Of what is installed, without loading it."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _readable(report: dict[str, Any], out: Path | None) -> list[str]:
    dropped = report["num_frames_replaced"] + report["num_frames_too_old"]
    latency = report["latency_ms"]
    timing = (
        ""
        if latency["p50"] is None
        else (f", p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms")
    )
    found = ", ".join(
        f"{head} found on {number}" for head, number in report["num_frames_present"].items()
    )
    lines = [
        f"{report['num_frames_published']} frames at {report['frame_rate_hz']:.1f} Hz{timing}; "
        f"{dropped} dropped; {found}",
    ]
    stream = report["stream"]
    if stream["hop_widened"] > 1.0:
        lines.append(
            f"sound was encoded every {stream['hop_s']:.1f} s in the end: this machine is too "
            "slow for the hop that was set; no sound was lost"
        )
    if out is None:
        return lines
    lines.append(f"{out}/overlay.mp4, heatmaps.npz, report.json")
    recording = report["recording"]
    frames, chunks = recording["num_implausible_frames"], recording["num_implausible_chunks"]
    if frames or chunks:
        lines.append(
            f"overlay.mp4 lacks {frames} frames and {chunks} chunks of sound, stamped implausibly"
        )
    return lines
