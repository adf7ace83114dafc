"""Where the page is served, to whom, and under which addresses it is reached."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from av_grounding.files import brief

DEFAULT_PORT = 8642
LOOPBACK = "127.0.0.1"
MIN_TOKEN_LENGTH = 16
BACKLOG = 64


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name or IP literal, without brackets) and a port; port 0 takes a free one."""

    host: str = LOOPBACK
    port: int = DEFAULT_PORT

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @property
    def is_wildcard(self) -> bool:
        ip = _ip(self.host)
        return ip is not None and ip.is_unspecified

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """`HOST:PORT`, `HOST` or `PORT`, IPv6 in brackets; without a host it is the loopback.

    >>> parse_address("0.0.0.0:9000")
    Address(host='0.0.0.0', port=9000)
    """
    text = text.strip()
    if text.isdigit():
        host, port = "", text
    elif text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or _ip(host) is None or (port and not port.startswith(":")):
            raise ValueError(
                f"got the address {brief(text)}, expected an IPv6 one like [::1]:8642"
            )
        port = port[1:]
    elif text.count(":") > 1:
        if _ip(text) is None:
            raise ValueError(
                f"got the address {brief(text)}, expected HOST:PORT like 0.0.0.0:8642"
            )
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    is_port = port.isascii() and port.isdigit() and len(port) < 10 and int(port) <= 65535
    if port and not is_port:
        raise ValueError(
            f"got port {brief(port)} in {brief(text)}, expected 0 to 65535 (0: any free one)"
        )
    if host and not _is_host(host):
        raise ValueError(f"got host {brief(host)}, expected a name or an IP address like 0.0.0.0")
    return Address(host or LOOPBACK, int(port) if port else DEFAULT_PORT)


def listen(address: Address) -> socket.socket:
    """A listening socket; OSError or ValueError in one line with what to do."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(
            f"got host {address.host!r}, which does not resolve ({error.strerror or error}): use "
            "an address of this machine, such as 0.0.0.0 for all of them"
        ) from error
    family, kind, protocol, _, place = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, _why_not(address, error)) from error
    listener.setblocking(False)
    return listener


def _why_not(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"the live page cannot use {address}: another program has this port; take another "
            f"one, such as {Address(address.host, (address.port + 1) % 65536 or 1024)}"
        )
    if error.errno == errno.EACCES:
        return f"the live page may not use {address}: take a port from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"the live page cannot use {address}: this machine does not have that address; "
            "0.0.0.0 serves on all it has"
        )
    return f"the live page cannot use {address}: {error.strerror or error}"


def is_loopback(host: str) -> bool:
    """Whether a host name or IP literal means this machine itself."""
    ip = _ip(host)
    return _compared(host) == "localhost" if ip is None else ip.is_loopback


def check_token(token: str | None) -> None:
    """ValueError unless the token is long enough and survives in a URL unchanged."""
    if token is None:
        return
    if len(token) < MIN_TOKEN_LENGTH or not all(
        c.isascii() and (c.isalnum() or c in "-_") for c in token
    ):
        raise ValueError(
            f"got a token of {len(token)} characters, expected at least {MIN_TOKEN_LENGTH} "
            "letters, digits, - or _: leave it out to get a random one"
        )


class Place(NamedTuple):
    """What a browser calls a server: a host as it is compared (lower case, no final dot, IP
    literals in their short form without brackets), and the port where one is said."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def parse_name(text: str) -> Place:
    """`NAME` or `NAME:PORT` as a browser shows it, IPv6 in brackets or alone."""
    place = parse_place(f"[{text}]" if ":" in text and _ip(text) is not None else text)
    if place is None:
        raise ValueError(
            f"got the name {brief(text)}, expected a host as the browser shows it, with its port "
            "if there is one: robot.example.org or robot.example.org:8443"
        )
    return place


def parse_place(text: str) -> Place | None:
    """What stands in a Host header; None where it is malformed."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        is_right = bool(bracket) and _ip(host) is not None and port[:1] in ("", ":")
        port = port[1:]
    else:
        host, _, port = text.partition(":")
        is_right = _is_host(host)
    is_port = port.isascii() and port.isdigit() and len(port) < 6 and int(port) <= 65535
    if not is_right or (port and not is_port):
        return None
    return Place(_compared(host), int(port) if port else None)


def parse_origin(origin: str) -> tuple[Place, int] | None:
    """Where a page is from and its scheme's port; None for `null` and whatever is no origin."""
    scheme, _, host = origin.partition("://")
    place = parse_place(host)
    port = {"http": 80, "https": 443}.get(scheme)
    return None if place is None or port is None else (place, port)


def may_be_named(address: Address, host_header: str, names: Iterable[Place] = ()) -> bool:
    """Whether a request's Host may name this server.

    A page from elsewhere that rebinds its own name to this machine's address sends that name
    here. IP literals cannot be rebound; names are accepted only if they are this machine's, or
    among `names`. The port is free, so that a forwarded one works.
    """
    place = parse_place(host_header)
    if place is None:
        return False
    if is_loopback(place.host) or place.host in {name.host for name in names}:
        return True
    if address.is_loopback:
        return False
    own = socket.gethostname().lower()
    known = {address.host, own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}
    return _ip(place.host) is not None or place.host in map(_compared, known)


def may_connect(origin: str, host_header: str, names: Iterable[Place] = ()) -> bool:
    """Whether a page of `origin` is this server's own: what Host says, or exactly one of `names`.

    A proxy may have put its own words into Host; what a browser says in Origin stays.
    """
    found = parse_origin(origin)
    if found is None:
        return False
    place, usual_port = found
    own = (parse_place(host_header), *names)
    return _whole(place, usual_port) in [_whole(p, usual_port) for p in own if p is not None]


def _whole(place: Place, usual_port: int) -> tuple[str, int]:
    return place.host, usual_port if place.port is None else place.port


def _compared(host: str) -> str:
    ip = _ip(host)
    return host.lower().removesuffix(".") if ip is None else str(ip)


def page_urls(address: Address, token: str | None, names: Iterable[Place] = ()) -> list[str]:
    """URLs of the page, the most useful first. The token is in the fragment: it is never sent
    with a request, so it reaches no log and no Referer header."""
    hosts = [address.host]
    if address.is_wildcard:
        hosts = [*_outward_ip(address.host), LOOPBACK if ":" not in address.host else "::1"]
    fragment = "" if token is None else f"#{token}"
    places = [f"http://{Address(host, address.port)}" for host in hosts]
    for name in names:
        # Only a proxy reaches a page on loopback, and most speak TLS; others come straight here.
        is_direct = not address.is_loopback and name.port is None
        place = Place(name.host, address.port) if is_direct else name
        places.append(f"{'https' if address.is_loopback else 'http'}://{place}")
    return [f"{place}/{fragment}" for place in places]


def _outward_ip(wildcard: str) -> list[str]:
    """The address from which this machine would speak to others; none without a network."""
    family = socket.AF_INET6 if ":" in wildcard else socket.AF_INET
    # Documentation addresses; connecting a datagram socket sends nothing.
    target = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, 9))
            found = probe.getsockname()[0]
        except OSError:
            return []
    return [] if is_loopback(found) else [found]


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_host(text: str) -> bool:
    if _ip(text) is not None:
        return True
    labels = text.rstrip(".").split(".")
    return len(text) <= 253 and all(
        label.isascii() and label.replace("-", "").replace("_", "").isalnum() and len(label) < 64
        for label in labels
    )


def token_from_environment() -> str | None:
    """A token that stays the same over restarts, where the environment names one."""
    return os.environ.get("AV_GROUNDING_VIEW_TOKEN") or None
