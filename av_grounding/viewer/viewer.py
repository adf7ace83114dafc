"""The live page as a Sink: heatmaps, scores, sound and counters in any browser."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from av_grounding.drawing.styles import styles_of
from av_grounding.types import AudioChunk, Frame, Grounding, VoiceMarks
from av_grounding.viewer.address import (
    Address,
    check_token,
    listen,
    page_urls,
    parse_address,
    parse_name,
)
from av_grounding.viewer.ear import Ear
from av_grounding.viewer.feed import Feed
from av_grounding.viewer.messages import PROTOCOL, plain

LOGGER = logging.getLogger(__name__)
START_WITHIN_S = 10.0
CLOSE_WITHIN_S = 1.0


class Viewer:
    """A Sink that serves a page with every answer until it is closed.

    Everything costly happens in the viewer's own threads and only while somebody watches; `write`
    and `write_voice` leave what they get and return. They may be called from any thread.

    Only this machine can connect unless `address` names another host; then clients must know
    `token` (a random one where none is given), which `urls` contain.
    """

    def __init__(
        self,
        address: Address | str = "",
        *,
        thresholds: Mapping[str, float],
        token: str | None = None,
        hosts: Iterable[str] = (),
        stats: Callable[[], Mapping[str, Any] | None] | None = None,
        facts: Mapping[str, Any] | None = None,
        clock_ns: Callable[[], int] | None = None,
        max_rate_hz: float = 20.0,
        sound_rate_hz: int | None = None,
    ) -> None:
        """`thresholds` names the heads that are shown, and from which value on each claims
        something. `hosts` are names (`NAME` or `NAME:PORT`) under which browsers reach the page
        beside its own, as behind a proxy. `stats` is asked twice a second for counters, from the
        viewer's thread; it may be set later. `facts` (text by name) describe the run. `clock_ns`
        is the clock that stamps frames; without one no latency is shown. Clients get at most
        `max_rate_hz` frames a second. With `sound_rate_hz` they may ask for the sound of a
        place: somebody reads `place` and gives its sound, at that rate, to `write_sound`.

        ImportError without aiohttp, ValueError for an address, a name or a token that cannot be,
        OSError where the port is taken: each in one line with what to do.
        """
        if max_rate_hz <= 0.0:
            raise ValueError(f"max_rate_hz {max_rate_hz}: expected more than 0")
        address = parse_address(address) if isinstance(address, str) else address
        names = tuple(parse_name(host) for host in hosts)
        check_token(token)
        # Who gives a page on loopback another name does so for others: a proxy passes them on.
        if token is None and (names or not address.is_loopback):
            token = secrets.token_urlsafe(16)
        try:
            from av_grounding.viewer.server import LiveServer
        except ImportError as error:
            raise ImportError(
                f"the live page needs aiohttp ({error}): pip install 'av_grounding[view]'"
            ) from error
        self.token = token
        self._names = names
        self.stats = stats
        self._clock_ns = clock_ns
        self._feed = Feed(thresholds)
        self._ear = None if sound_rate_hz is None else Ear()
        self._is_closed = threading.Event()
        listener = listen(address)
        self.address = Address(address.host, listener.getsockname()[1])
        """Where it listens, with the true port."""
        self._server = LiveServer(
            self._feed,
            self._ear,
            self.address,
            token=token,
            names=names,
            hello={
                "protocol": PROTOCOL,
                "facts": plain(facts or {}),
                "heads": describe_heads(thresholds),
                "sound_rate_hz": sound_rate_hz,
            },
            counters=lambda: None if self.stats is None else self.stats(),
            max_rate_hz=max_rate_hz,
        )
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._server.run, args=(listener, ready.set), name="av-viewer", daemon=True
        )
        self._thread.start()
        if not ready.wait(START_WITHIN_S):
            raise RuntimeError(f"the live page did not start within {START_WITHIN_S:.0f} s")
        self._log = _WarningTap(self._feed)
        logging.getLogger("av_grounding").addHandler(self._log)

    @property
    def urls(self) -> list[str]:
        """URLs of the page, token included, the one for other machines first."""
        return page_urls(self.address, self.token, self._names)

    @property
    def num_clients(self) -> int:
        """Browsers that are connected."""
        return self._server.num_clients

    def write(self, frame: Frame, grounding: Grounding) -> None:
        """Show an answer; returns at once, whatever the clients do."""
        if self._is_closed.is_set():
            return
        latency_ms = None
        if self._clock_ns is not None:
            latency_ms = (self._clock_ns() - frame.stamp_ns) / 1e6
        self._server.offer(self._feed.add_answer(frame, grounding, latency_ms))

    def write_voice(self, marks: VoiceMarks) -> None:
        """Show what was heard: to be given to `GroundingStream.on_voice`."""
        if not self._is_closed.is_set():
            self._feed.add_voice(marks)

    def place(self, size: tuple[int, int]) -> Literal["peak"] | tuple[float, float] | None:
        """What clients listen to, a point in the pixels of an (H, W) picture; None: nothing."""
        spot = None if self._ear is None else self._ear.spot
        if spot is None or spot == "peak":
            return spot
        height, width = size
        return spot[0] * width, spot[1] * height

    def write_sound(self, chunk: AudioChunk) -> None:
        """Let those hear it who listen."""
        if self._ear is not None and self._ear.spot is not None:
            self._ear.add(chunk)

    def warn(self, text: str) -> None:
        """Show a warning. Those that this package logs are shown without it."""
        self._feed.add_warning(text)

    def close(self) -> None:
        """Close every connection and the port, within a second."""
        if self._is_closed.is_set():
            return
        self._is_closed.set()
        logging.getLogger("av_grounding").removeHandler(self._log)
        self._server.stop()
        self._thread.join(CLOSE_WITHIN_S)
        if self._thread.is_alive():
            LOGGER.warning("the live page did not end in time and is left behind")


def describe_heads(thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """What the page must know of each head, in the order of their panels."""
    return [
        {"name": head, "threshold": thresholds[head], **dataclasses.asdict(style)}
        for head, style in styles_of(thresholds).items()
    ]


class _WarningTap(logging.Handler):
    """Shows what the package warns of."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(logging.WARNING)
        self._feed = feed

    def emit(self, record: logging.LogRecord) -> None:
        # A message whose arguments do not fit is the other handlers' to complain about.
        with contextlib.suppress(TypeError, ValueError):
            self._feed.add_warning(record.getMessage())
