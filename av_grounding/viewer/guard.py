"""What keeps strangers' pages away: names, origins, and what a browser may do with the page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from av_grounding.viewer.address import Address, may_be_named

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
    """Checks every request to the server at `address` and marks every answer."""

    def __init__(self, address: Address) -> None:
        self._address = address

    @web.middleware
    async def check_host(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """421 under a name that is not this machine's, as after DNS rebinding."""
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or not may_be_named(self._address, hosts[0]):
            raise web.HTTPMisdirectedRequest(
                text="This server is not known by that name: use the address it printed.\n"
            )
        return await handler(request)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        host = request.headers.get("Host", "")
        # Older Safari does not take 'self' for a WebSocket of the same origin.
        live = f" ws://{host}" if may_be_named(self._address, host) else ""
        response.headers["Content-Security-Policy"] = POLICY.format(live=live)
        response.headers.update(HEADERS)


def check_origin(request: web.Request) -> None:
    """403 for a page of another origin; `null` and nonsense are others too."""
    origin = request.headers.get("Origin")
    # A browser always tells; other programs are not led here by somebody's page.
    if origin is not None and not _is_same_host(origin, request.host):
        raise web.HTTPForbidden(text="Only the page that this server serves may connect.\n")


def _is_same_host(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
