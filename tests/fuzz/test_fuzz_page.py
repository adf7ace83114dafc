"""The live page's server against clients that speak no HTTP, or speak it to do harm."""

import logging
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("aiohttp")

from av_grounding.viewer.messages import PROTOCOL
from tests.fuzz.fuzz_strategies import damaged
from tests.helpers.live_client import open_viewer

ANSWER_WITHIN_S = 10.0
GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
UPGRADE = (
    b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """A masked WebSocket frame; the mask is zero."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


HELLO = frame(b'{"type":"hello","protocol":%d,"token":""}' % PROTOCOL)
LISTEN = frame(b'{"type":"listen","x":0.25,"y":0.5}')
SEEDS = [
    GET,
    UPGRADE + HELLO + frame(b'{"type":"pause"}') + frame(b"", 8),
    UPGRADE + HELLO,
    UPGRADE + HELLO + LISTEN + frame(b'{"type":"mute"}'),
]


@pytest.fixture(scope="module")
def viewer():
    with_page = open_viewer("127.0.0.1:0", sound_rate_hz=16_000)
    yield with_page
    with_page.close()


def exchange(viewer, data: bytes, until: bytes | None = None) -> bytes:
    """What comes back for these bytes until it holds `until`; None: and no more bytes follow."""
    with socket.create_connection(("127.0.0.1", viewer.address.port), ANSWER_WITHIN_S) as client:
        found = b""
        try:
            client.sendall(data)
            if until is None:
                client.shutdown(socket.SHUT_WR)
            while (until is None or until not in found) and (block := client.recv(1 << 16)):
                found += block
        except ConnectionError:  # the server had enough
            return found
        return found


def test_whatever_a_client_sends_the_page_goes_on(viewer, caplog):
    caplog.set_level(logging.WARNING)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(damaged(SEEDS) | st.binary(max_size=300))
    def survives(data):
        exchange(viewer, data)

    survives()
    assert exchange(viewer, GET, b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
    # A handler that raised would be a traceback in the robot's log for every such request.
    assert [r.getMessage() for r in caplog.records if r.exc_info or r.levelno >= 40] == []
    deadline_s = time.monotonic() + ANSWER_WITHIN_S
    while viewer.num_clients and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert viewer.num_clients == 0
    assert viewer.place((4, 4)) is None  # whoever left listens no more


@pytest.mark.parametrize(
    "origin", ["http://[", "http://[::1", "null", "http://127.0.0.1:1@evil", "http://[x]/"]
)
def test_an_origin_that_is_no_address_is_forbidden(viewer, origin, caplog):
    request = UPGRADE.replace(b"http://127.0.0.1", origin.encode())
    assert exchange(viewer, request, b"\r\n\r\n").split()[1] == b"403"
    assert not [record for record in caplog.records if record.exc_info]


def test_a_long_header_or_message_is_refused(viewer):
    long = GET.replace(b"Host", b"Cookie: " + b"a" * 9_000 + b"\r\nHost")
    assert exchange(viewer, long, b"\r\n\r\n").split()[1] == b"400"
    too_big = (1009).to_bytes(2, "big")
    assert too_big in exchange(viewer, UPGRADE + frame(b"[" * 600), too_big)
