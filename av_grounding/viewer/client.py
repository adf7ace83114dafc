"""One browser at the other end of a WebSocket: what it has, and whether it can take more."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from av_grounding.viewer.ear import EarCursor
from av_grounding.viewer.feed import Cursor
from av_grounding.viewer.messages import ClientMessage

if TYPE_CHECKING:
    from aiohttp import web

MAX_ON_THE_WAY = 2
"""Packets sent ahead of their acknowledgement: one is shown while the next one travels."""
MAX_MESSAGES_PER_S = 200


class Client:
    """Belongs to the server's event loop."""

    def __init__(
        self, socket: web.WebSocketResponse, transport: asyncio.BaseTransport | None
    ) -> None:
        self.socket = socket
        self.cursor = Cursor()
        self.shown = 0
        """Number of the newest frame it was sent."""
        self.sent_s = 0.0
        self._transport = transport
        self._num_on_the_way = 0
        self._is_paused = False
        self._changed = asyncio.Event()
        self._second = 0
        self._num_messages = 0

    def take(self, message: ClientMessage) -> None:
        """Obey a message; ValueError where it breaks the protocol."""
        second = int(time.monotonic())
        self._num_messages = self._num_messages + 1 if second == self._second else 1
        self._second = second
        if self._num_messages > MAX_MESSAGES_PER_S:
            raise ValueError(f"over {MAX_MESSAGES_PER_S} messages a second")
        if message.type == "hello":
            raise ValueError("hello came twice")
        if message.type == "ack":
            if self._num_on_the_way == 0:
                raise ValueError("ack without a packet")
            self._num_on_the_way -= 1
        elif message.type in ("pause", "resume"):
            self._is_paused = message.type == "pause"
        self.wake()

    @property
    def listens(self) -> bool:
        """Whether it is sent the sound of the spot."""
        return self.cursor.ear.sound is not None

    def hears(self, cursor: EarCursor) -> None:
        """Sound is sent from here on, or no more."""
        self.cursor = replace(self.cursor, ear=cursor)

    def wake(self) -> None:
        """Something has changed that it may have been waiting for."""
        self._changed.set()

    def has_sent(self, cursor: Cursor, shown: int) -> None:
        """A packet goes out: the client will have read this far."""
        self.cursor, self.shown = cursor, shown
        self.sent_s = time.monotonic()
        self._num_on_the_way += 1

    async def until_it_may_get_more(self) -> None:
        """Wait while it is paused or has not acknowledged what is on the way."""
        while self._is_paused or self._num_on_the_way >= MAX_ON_THE_WAY:
            await self._changed.wait()
            self._changed.clear()

    async def until_changed(self, at_most_s: float) -> None:
        """Wait for a change or until the time is over."""
        # Not wait_for: before Python 3.12 it loses a cancellation that comes with the change.
        timer = asyncio.get_running_loop().call_later(at_most_s, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
        self._changed.clear()

    def sending_ended(self, task: asyncio.Task[None]) -> None:
        """Nothing more can be sent, so that waiting for its messages makes no sense either."""
        if not task.cancelled() and task.exception() is not None:
            self.abort()

    def abort(self) -> None:
        """Drop the connection with whatever is still unsent."""
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()

    def abort_if_stuck(self) -> None:
        """Drop the connection if the other side does not take what was sent."""
        transport = self._transport
        if isinstance(transport, asyncio.WriteTransport) and transport.get_write_buffer_size():
            transport.abort()
