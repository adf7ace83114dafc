"""What keeps strangers' pages away: names, origins, and what a browser may do with the page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from av_grounding.viewer.address import (
    Address,
    Place,
    may_be_named,
    may_connect,
    parse_origin,
    parse_place,
)

logger = logging.getLogger(__name__)

MAX_SAID = 8
"""So many different refusals are logged: whoever reaches the port can cause them."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'{live}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Server": "av_grounding",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Checks every request to the server at `address` and marks every answer.

    It believes Host and Origin alone, which a page from elsewhere cannot choose; X-Forwarded-Host
    and alike it could.
    """

    def __init__(self, address: Address, names: Sequence[Place] = ()) -> None:
        self._address, self._names = address, names
        self._said: set[str] = set()

    @web.middleware
    async def check_host(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """421 under a name that is neither this machine's nor allowed, as after DNS rebinding."""
        hosts = request.headers.getall("Host", [])
        place = parse_place(hosts[0]) if len(hosts) == 1 else None
        if place is None:
            raise web.HTTPMisdirectedRequest(text="Expected one Host: use the printed address.\n")
        if not may_be_named(self._address, hosts[0], self._names):
            refusal = self._refuse(f"The page was asked for as {place}", Place(place.host))
            raise web.HTTPMisdirectedRequest(text=refusal)
        return await handler(request)

    def check_origin(self, request: web.Request) -> None:
        """403 for a page of another origin; `null` and nonsense are others too."""
        origin = request.headers.get("Origin")
        # A browser always tells; other programs are not led here by somebody's page.
        if origin is None or may_connect(origin, request.host, self._names):
            return
        found = parse_origin(origin)
        if found is None:
            raise web.HTTPForbidden(text="Only the page that this server serves may connect.\n")
        place, usual_port = found
        place = Place(place.host) if place.port == usual_port else place
        raise web.HTTPForbidden(text=self._refuse(f"A page of {place} wanted to connect", place))

    def _refuse(self, what: str, name: Place) -> str:
        """What was refused and what would allow it, said once in the log."""
        text = (
            f"{what}, which is refused: if that is your own proxy or name, start with --view-host "
            f"{name} (the node: view_host)"
        )
        if text not in self._said and len(self._said) < MAX_SAID:
            self._said.add(text)
            logger.warning("%s", text)
        return f"{text}\n"

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        host = request.headers.get("Host", "")
        # Older Safari does not take 'self' for a WebSocket of the same origin.
        live = f" ws://{host}" if may_be_named(self._address, host, self._names) else ""
        live += "".join(f" ws://{name} wss://{name}" for name in self._names)
        response.headers["Content-Security-Policy"] = POLICY.format(live=live)
        response.headers.update(HEADERS)
