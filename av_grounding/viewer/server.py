"""The page's HTTP and WebSocket server, in one event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import importlib.resources
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError

from av_grounding.viewer.address import Address, Place
from av_grounding.viewer.client import Client
from av_grounding.viewer.ear import Ear
from av_grounding.viewer.feed import Feed, Shot
from av_grounding.viewer.guard import Guard
from av_grounding.viewer.messages import (
    MAX_CLIENT_MESSAGE_BYTES,
    PROTOCOL,
    ClientMessage,
    pack,
    parse_client_message,
    plain,
)
from av_grounding.viewer.screen import Screen

LOGGER = logging.getLogger(__name__)
HTTP_LOGGER = logging.getLogger(f"{__name__}.http")

MAX_CLIENTS = 32
HELLO_WITHIN_S = 5.0
HEARTBEAT_S = 10.0
"""A client that answers no ping for half of this is given up: a laptop that was closed."""
NEWS_S = 0.25
"""Without a new frame, everything else is told this often."""
COUNTERS_S = 0.5
CLOSE_WITHIN_S = 0.3
WRONG_TOKEN = 4401
WRONG_PROTOCOL = 4400
SCRIPTS = (
    *("page", "state", "connection", "heads", "heatmaps", "stage", "timeline", "panels"),
    "listening",
)
PAGE = {
    "": ("index.html", "text/html"),
    "style.css": ("style.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"{name}.js": (f"{name}.js", "text/javascript") for name in SCRIPTS},
}


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Not what anybody on the network can cause, with a traceback for each request."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (HttpProcessingError, ConnectionError))


HTTP_LOGGER.addFilter(_is_worth_a_line)


class LiveServer:
    """Serves the page and sends every client what it can take; nothing here waits for a client.

    A client has at most two packets on the way and acknowledges each, so one that is slow skips
    frames and one that is stalled gets nothing. `offer` and `num_clients` may be used from any
    thread, all else belongs to the event loop. `ear` is None where nothing can be listened to.
    """

    def __init__(
        self,
        feed: Feed,
        ear: Ear | None,
        address: Address,
        *,
        token: str | None,
        names: Sequence[Place],
        hello: Mapping[str, Any],
        counters: Callable[[], Mapping[str, Any] | None],
        max_rate_hz: float,
    ) -> None:
        self._feed = feed
        self._guard = Guard(address, names)
        self._token = token
        self._hello = hello
        self._counters = counters
        self._files = {
            name: (_read_page(file), content_type) for name, (file, content_type) in PAGE.items()
        }
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._can_listen = ear is not None
        self._screen = Screen(feed, ear or Ear(), self._loop, max_rate_hz)

    @property
    def num_clients(self) -> int:
        """Browsers that are being served."""
        return len(self._screen.clients)

    def offer(self, shot: Shot) -> None:
        """Show this frame next, to whoever can take it; returns at once."""
        if self._screen.leave(shot):
            self._call(self._screen.change)

    def stop(self) -> None:
        """Close every connection and end `run`."""
        self._call(self._stopped.set)

    def run(self, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        """Serve until `stop`; to be called in the server's own thread."""
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(listener, on_ready))
        finally:
            self._screen.close()
            self._loop.close()

    def _call(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(function)

    async def _serve(self, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        app = web.Application(client_max_size=1024, middlewares=[self._guard.check_host])
        app.on_response_prepare.append(self._guard.add_headers)
        # Below any path: some proxies leave their own in front.
        app.router.add_get("/{path:(?:.*/)?}live", self._live)
        app.router.add_post("/{path:(?:.*/)?}live", self._why)
        app.router.add_get("/{path:(?:.*/)?}{name:[^/]*}", self._page)
        runner = web.AppRunner(
            app, access_log=None, logger=HTTP_LOGGER, shutdown_timeout=CLOSE_WITHIN_S
        )
        await runner.setup()
        await web.SockSite(runner, listener).start()
        poll = asyncio.create_task(self._poll_counters())
        on_ready()
        try:
            await self._stopped.wait()
        finally:
            poll.cancel()
            await asyncio.gather(*(self._dismiss(client) for client in self._screen.clients))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(runner.cleanup(), CLOSE_WITHIN_S)

    async def _dismiss(self, client: Client) -> None:
        """Say goodbye to a client that listens; cut off one that does not."""
        with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
            goodbye = client.socket.close(
                code=WSCloseCode.GOING_AWAY, message=b"the program has ended"
            )
            await asyncio.wait_for(goodbye, CLOSE_WITHIN_S)
        client.abort()

    async def _page(self, request: web.Request) -> web.Response:
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound(text="Not here: the address of the page ends with a slash.\n")
        body, content_type = found
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    async def _why(self, request: web.Request) -> web.Response:
        """What the page, which is not told, can show of why its socket was refused."""
        self._guard.check_origin(request)
        return web.Response(status=204)

    async def _live(self, request: web.Request) -> web.WebSocketResponse:
        self._guard.check_origin(request)
        websocket = web.WebSocketResponse(
            max_msg_size=MAX_CLIENT_MESSAGE_BYTES, heartbeat=HEARTBEAT_S, compress=False
        )
        await websocket.prepare(request)
        if len(self._screen.clients) >= MAX_CLIENTS:
            reason = f"{MAX_CLIENTS} clients are being served already"
            await _close(websocket, WSCloseCode.TRY_AGAIN_LATER, reason)
            return websocket
        client = Client(websocket, request.transport)
        self._screen.clients.add(client)
        try:
            await self._serve_client(client)
        except ValueError as error:
            await _close(websocket, WSCloseCode.POLICY_VIOLATION, str(error))
        except ConnectionError:
            LOGGER.debug("a client of the live page left in the middle of a packet")
        finally:
            self._screen.mute(client)
            self._screen.clients.discard(client)
            client.abort_if_stuck()
        return websocket

    async def _serve_client(self, client: Client) -> None:
        """Greet, then send in one task and listen in this one; ValueError: it broke a rule."""
        if not await self._greet(client):
            return
        sending = asyncio.create_task(self._send(client))
        sending.add_done_callback(client.sending_ended)
        try:
            async for message in client.socket:
                if message.type is not WSMsgType.TEXT:
                    raise ValueError("expected text")
                self._obey(client, parse_client_message(message.data))
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sending

    def _obey(self, client: Client, message: ClientMessage) -> None:
        client.take(message)
        if message.type == "mute":
            self._screen.mute(client)
        elif message.type == "listen":
            if not self._can_listen:
                raise ValueError("this run separates no sound to listen to")
            spot = "peak" if message.x is None else (message.x, message.y)
            self._screen.listen(client, spot)

    async def _greet(self, client: Client) -> bool:
        """Read the token; nothing about the robot is told before."""
        try:
            message = await client.socket.receive(HELLO_WITHIN_S)
        except asyncio.TimeoutError:
            raise ValueError("expected hello first") from None
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
            return False
        if message.type is not WSMsgType.TEXT:
            raise ValueError("expected hello first, as text")
        hello = parse_client_message(message.data)
        if hello.type != "hello":
            raise ValueError("expected hello first")
        if hello.protocol != PROTOCOL:
            await _close(client.socket, WRONG_PROTOCOL, "another version: load the page again")
            return False
        given = hello.token.encode("utf-8", "surrogatepass")
        if self._token is not None and not hmac.compare_digest(self._token.encode(), given):
            await _close(client.socket, WRONG_TOKEN, "the token is missing or wrong")
            return False
        await client.socket.send_bytes(pack({"hello": self._hello}))
        self._screen.change()
        return True

    async def _send(self, client: Client) -> None:
        while True:
            await client.until_it_may_get_more()
            picture = None
            shot = self._screen.shot
            if shot is not None and shot.number > client.shown:
                picture = await self._screen.picture(shot)
            elif (wait_s := client.sent_s + NEWS_S - time.monotonic()) > 0.0:
                await client.until_changed(wait_s)
                continue
            packet, cursor = self._screen.packet(client.cursor, picture)
            client.has_sent(cursor, client.shown if picture is None else picture.number)
            await client.socket.send_bytes(packet)

    async def _poll_counters(self) -> None:
        while True:
            await asyncio.sleep(COUNTERS_S)
            if not self._screen.clients:
                continue
            try:
                counters = self._counters()
            except Exception as error:
                # Whatever is wrong with a bystander's numbers must not take the page away.
                LOGGER.warning("the live page shows no counters: %s", error)
                return
            if counters is not None:
                self._feed.set_counters(plain(counters))


async def _close(websocket: web.WebSocketResponse, code: int, reason: str) -> None:
    """Close with a reason (a close frame holds 123 bytes of it); wait only a moment."""
    with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
        await asyncio.wait_for(
            websocket.close(code=code, message=reason.encode()[:123]), CLOSE_WITHIN_S
        )


def _read_page(name: str) -> bytes:
    return (importlib.resources.files("av_grounding.viewer") / "page" / name).read_bytes()
