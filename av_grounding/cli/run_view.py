"""`av-grounding run --view`: the live page beside a run."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from av_grounding.cli.run_addition import Addition
from av_grounding.cli.run_separate import can_separate

if TYPE_CHECKING:
    from av_grounding.config import GroundingConfig
    from av_grounding.grounder import Grounder
    from av_grounding.streaming.runner import Runner
    from av_grounding.streaming.tapping import TappedStream
    from av_grounding.viewer.viewer import Viewer


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--view",
        nargs="?",
        const="",
        type=_address,
        metavar="HOST:PORT",
        help="serve a live page; default 127.0.0.1:8642, this machine only. 0.0.0.0 lets others "
        "in who know its token. The demo then repeats until Ctrl-C",
    )
    parser.add_argument(
        "--view-host",
        action="append",
        default=[],
        type=_name,
        metavar="NAME[:PORT]",
        help="with --view: a name under which browsers reach the page, as behind a proxy; may be "
        "given again",
    )


class View(Addition):
    """The page hears the stream, reads the counters, and says what is to be separated."""

    sink: Viewer

    def connect(self, stream: TappedStream, runner: Runner | None) -> None:
        stream.tap(self.sink.place, lambda chunk, frame: self.sink.write_sound(chunk))
        stream.on_voice = self.sink.write_voice
        self.sink.stats = lambda: {"stream": stream.stats} if runner is None else runner.counters


def open_page(
    args: argparse.Namespace, settings: GroundingConfig, grounder: Grounder
) -> list[View]:
    """The page, already reachable, with its address on stderr; empty without --view."""
    if args.view is None:
        if args.view_host:
            raise ValueError("got --view-host without --view, expected both: add --view")
        return []
    from av_grounding.cli import options
    from av_grounding.config import read_vocabulary
    from av_grounding.viewer.address import token_from_environment
    from av_grounding.viewer.viewer import Viewer

    backend, bundle = grounder.backend.describe(), options.bundle_path(args, settings)
    known = read_vocabulary(bundle)
    numbers = ", ".join(f"{len(words)} things by {head}" for head, words in known.items())
    # --separate has chosen what is separated already.
    can_listen = args.separate is None and can_separate(grounder)
    viewer = Viewer(
        args.view,
        token=token_from_environment(),
        hosts=args.view_host,
        facts={
            "source": args.source,
            "model": bundle.name,
            **({"knows": numbers} if known else {}),
            "backend": " ".join(
                str(backend[name]) for name in ("backend", "device") if name in backend
            ),
        },
        thresholds=settings.thresholds(grounder.spec.head_names),
        # Without pacing stamps are times inside the recording, and no clock runs with them.
        clock_ns=None if args.as_fast_as_possible else time.time_ns,
        sound_rate_hz=grounder.spec.sample_rate_hz if can_listen else None,
    )
    _announce(args, viewer)
    return [View(viewer)]


def is_endless(args: argparse.Namespace) -> bool:
    """Whether a demo repeats: somebody watches it, and nothing depends on its end."""
    from av_grounding.sources.open import DEMOS

    return (
        args.view is not None
        and args.source in DEMOS
        and args.audio is None
        and args.out is None
        and getattr(args, "record", None) is None
        and args.duration is None
        and not args.as_fast_as_possible
    )


def _address(text: str) -> str:
    from av_grounding.viewer.address import parse_address

    try:
        parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _name(text: str) -> str:
    from av_grounding.viewer.address import parse_name

    try:
        parse_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _announce(args: argparse.Namespace, viewer: Viewer) -> None:
    """The URL on stderr, also under --quiet: its token is told nowhere else."""
    for number, url in enumerate(viewer.urls):
        print(f"{'Live page: ' if number == 0 else '       or: '}{url}", file=sys.stderr)
    if viewer.address.is_loopback or args.quiet or args.json or not sys.stderr.isatty():
        return
    try:
        import segno
    except ImportError:
        return
    segno.make(viewer.urls[0], error="l").terminal(out=sys.stderr, border=2, compact=True)
