"""What all clients are shown: one frame at a time, encoded once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from dataclasses import replace

from av_grounding.viewer.client import Client
from av_grounding.viewer.ear import Ear, EarCursor, Spot
from av_grounding.viewer.feed import Cursor, Feed, Shot
from av_grounding.viewer.messages import pack
from av_grounding.viewer.picture import Picture, encode

MAX_CACHED_PACKETS = 8


class Screen:
    """The newest frame, not more often than `max_rate_hz`, and the clients that look at it.

    Belongs to the event loop; `leave` and reading the number of clients may be done anywhere.
    """

    def __init__(
        self, feed: Feed, ear: Ear, loop: asyncio.AbstractEventLoop, max_rate_hz: float
    ) -> None:
        self.clients: set[Client] = set()
        self.shot: Shot | None = None
        """The frame to show."""
        self._feed, self._ear, self._loop = feed, ear, loop
        self._min_interval_s = 1.0 / max_rate_hz
        self._newest: Shot | None = None
        self._is_due = False
        self._changed_s = 0.0
        self._encoded: tuple[int, asyncio.Future[Picture]] | None = None
        self._packets: dict[tuple[Cursor, int], tuple[bytes, Cursor]] = {}
        self._encoder = concurrent.futures.ThreadPoolExecutor(1, "av-viewer-jpeg")

    def leave(self, shot: Shot) -> bool:
        """Leave a frame to be shown; whether somebody must call `change` in the event loop."""
        self._newest = shot
        if self._is_due or not self.clients:
            return False
        self._is_due = True
        return True

    def change(self) -> None:
        """Show the newest frame, now or as soon as the rate allows it."""
        self._is_due = False
        if self._newest is None or self._newest is self.shot:
            return
        wait_s = self._changed_s + self._min_interval_s - time.monotonic()
        if wait_s > 0.0:
            self._is_due = True
            self._loop.call_later(wait_s, self.change)
            return
        self._changed_s = time.monotonic()
        self.shot = self._newest
        self._wake()

    async def picture(self, shot: Shot) -> Picture:
        """The frame's picture, encoded once for all clients, in a thread of its own."""
        if self._encoded is None or self._encoded[0] != shot.number:
            future = self._loop.run_in_executor(self._encoder, encode, shot)
            self._encoded = (shot.number, future)
        return await asyncio.shield(self._encoded[1])

    def packet(self, cursor: Cursor, picture: Picture | None) -> tuple[bytes, Cursor]:
        """What is new since `cursor`, with a picture or without, and how far it reads.

        Clients that keep up read from the same place: their packets are made once.
        """
        if picture is None:
            return self._pack(cursor)
        key = (cursor, picture.number)
        if key not in self._packets:
            while len(self._packets) >= MAX_CACHED_PACKETS:
                del self._packets[next(iter(self._packets))]
            self._packets[key] = self._pack(cursor, picture)
        return self._packets[key]

    def listen(self, client: Client, spot: Spot) -> None:
        """Send a client the sound of a spot, to which all who listen turn."""
        client.hears(self._ear.turn(spot))
        self._wake()

    def mute(self, client: Client) -> None:
        """Send a client no sound; the last one to go takes the spot along."""
        client.hears(EarCursor(client.cursor.ear.spot))
        if not any(other.listens for other in self.clients):
            self._ear.turn(None)
        self._wake()

    def _wake(self) -> None:
        for client in self.clients:
            client.wake()

    def _pack(self, cursor: Cursor, picture: Picture | None = None) -> tuple[bytes, Cursor]:
        news, after = self._feed.news(cursor)
        heard, sound, ear = self._ear.news(cursor.ear)
        shown = {} if picture is None else {"frame": picture.header}
        blobs = () if picture is None else picture.blobs
        return pack({**news, **heard, **shown}, (*blobs, sound)), replace(after, ear=ear)

    def close(self) -> None:
        self._encoder.shutdown(wait=False, cancel_futures=True)
