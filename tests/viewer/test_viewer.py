"""The live page over real sockets: protocol, slow clients, tokens, headers, bad clients."""

import asyncio
import contextlib
import json
import logging
import re
import socket
import threading
import time

import aiohttp
import cv2
import numpy as np
import pytest
from live_client import PATIENT_S, answer, connect, marks, run, url

from av_grounding.types import Sink
from av_grounding.viewer import server
from av_grounding.viewer.messages import PROTOCOL
from av_grounding.viewer.viewer import Viewer

TOKEN = "a-token-of-some-length"
PATHS = ("/", "/style.css", "/page.js", "/icon.svg")


@pytest.fixture
def viewer():
    viewer = Viewer("0", max_rate_hz=1000.0)
    yield viewer
    viewer.close()


async def until(condition):
    deadline = time.monotonic() + PATIENT_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_it_is_a_sink(viewer):
    assert isinstance(viewer, Sink)


def test_a_packet_holds_the_frame_its_answer_and_what_was_heard():
    clock_ns = [0]
    viewer = Viewer("0", clock_ns=lambda: clock_ns[0], facts={"source": "demo"})

    async def look():
        async with connect(viewer) as client:
            assert client.hello["facts"] == {"source": "demo"}
            assert client.hello["thresholds"] == {"sound": 0.5, "speech": 0.5}
            frame, heatmaps = answer(3)
            clock_ns[0] = frame.stamp_ns + 21_500_000
            viewer.write_voice(marks(0.1, [-20.0], [True]))
            viewer.write(frame, heatmaps)
            header, blobs = await client.frame()
            described = header["frame"]
            assert (described["width"], described["height"]) == (64, 48)
            size = described["jpeg_bytes"]
            decoded = cv2.imdecode(np.frombuffer(blobs[:size], np.uint8), cv2.IMREAD_COLOR)
            assert np.abs(decoded[..., ::-1].astype(int) - frame.image).max() < 6
            grids = np.frombuffer(blobs[size:], np.uint8).reshape(2, 5, 7)
            np.testing.assert_array_equal(grids[0], np.rint(255 * heatmaps.sound))
            np.testing.assert_array_equal(grids[1], np.rint(255 * heatmaps.speech))
            assert described["speech"]["score"] == described["speech"]["value"] == 0.75
            assert described["speech"]["peak"] == [round(4.5 / 7, 5), 0.3]
            row, column = np.unravel_index(np.argmax(heatmaps.sound), (5, 7))
            expected = [round((column + 0.5) / 7, 5), round((row + 0.5) / 5, 5)]
            assert described["sound"]["peak"] == expected
            ((_, sound_score, speech_score, latency_ms),) = header["points"]
            assert (sound_score, speech_score) == (round(heatmaps.sound_score, 4), 0.75)
            assert latency_ms == 21.5
            assert header["voice"][0]["level_dbfs"] == [-20]

    try:
        run(look())
    finally:
        viewer.close()


def test_a_slow_client_skips_frames_and_misses_no_score(viewer):
    async def look():
        async with connect(viewer) as client:
            viewer.write(*answer(0))
            numbers = []
            header, _ = await client.packet()
            for number in range(1, 30):
                viewer.write(*answer(number))
                await asyncio.sleep(0.01)
            # One more packet was on the way; after that, nothing until it acknowledges.
            packets = [header, (await client.packet())[0]]
            with pytest.raises(asyncio.TimeoutError):
                await client.socket.receive(0.8)
            await client.ack()
            await client.ack()
            while not numbers or numbers[-1] < 30:
                packets.append((await client.next())[0])
                numbers = [p["frame"]["number"] for p in packets if "frame" in p]
            points = [point for p in packets for point in p.get("points", [])]
            assert len(numbers) <= 4
            assert numbers == sorted(set(numbers))
            assert [p[1] for p in points] == [
                round(answer(number)[1].sound_score, 4) for number in range(30)
            ]

    run(look())


def test_a_frame_is_encoded_once_for_all_and_only_while_somebody_watches(viewer, monkeypatch):
    encoded = []
    encode = server.encode

    def watched(shot):
        encoded.append((shot.number, threading.current_thread().name))
        return encode(shot)

    monkeypatch.setattr(server, "encode", watched)

    async def follow(client, last):
        numbers = []
        while not numbers or numbers[-1] < last:
            numbers.append((await client.frame())[0]["frame"]["number"])
        return numbers

    async def look():
        for number in range(5):
            viewer.write(*answer(number))
        await asyncio.sleep(0.3)
        assert encoded == []
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(viewer)) for _ in range(10)]
            assert viewer.num_clients == 10
            following = [asyncio.create_task(follow(client, 15)) for client in clients]
            for number in range(5, 15):
                viewer.write(*answer(number))
                await asyncio.sleep(0.05)
            seen = await asyncio.gather(*following)
        assert all(numbers[-1] == 15 for numbers in seen)
        numbers = [number for number, _ in encoded]
        assert numbers == sorted(set(numbers))
        assert {name.startswith("av-viewer-jpeg") for _, name in encoded} == {True}

    run(look())


def test_a_paused_client_gets_nothing_and_then_what_it_missed(viewer):
    async def look():
        async with connect(viewer) as client:
            viewer.write(*answer(0))
            await client.frame()
            await client.socket.send_json({"type": "pause"})
            await asyncio.sleep(0.2)
            with contextlib.suppress(asyncio.TimeoutError):
                for _ in range(2):  # at most what was on the way
                    await client.socket.receive(0.8)
                    await client.ack()
            with pytest.raises(asyncio.TimeoutError):
                await client.socket.receive(0.8)
            for number in range(1, 5):
                viewer.write(*answer(number))
            await client.socket.send_json({"type": "resume"})
            header, _ = await client.frame()
            assert header["frame"]["number"] == 5
            assert len(header["points"]) == 4

    run(look())


def test_a_client_that_reads_nothing_holds_up_nobody(viewer):
    """A closed laptop: the connection stands, and nothing is read from it ever again."""
    big, heatmaps = answer(0, height=720, width=1280)
    noise = np.random.default_rng(0).integers(0, 255, big.image.shape, dtype=np.uint8)
    request = (
        "GET /live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    hello = json.dumps({"type": "hello", "protocol": PROTOCOL, "token": ""}).encode()
    with socket.create_connection(("127.0.0.1", viewer.address.port)) as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.sendall(request.encode())
        # A masked text frame with a mask of zeros.
        stalled.sendall(bytes([0x81, 0x80 | len(hello)]) + bytes(4) + hello)

        async def look():
            await until(lambda: viewer.num_clients == 1)
            async with connect(viewer) as client:
                for number in range(20):
                    frame, _ = answer(number)
                    object.__setattr__(frame, "image", noise)
                    viewer.write(frame, heatmaps)
                    header, _ = await client.frame()
                    assert header["frame"]["number"] == number + 1

        run(look())
        viewer.close()
        assert not viewer._thread.is_alive()


def test_beyond_loopback_a_token_is_demanded():
    viewer = Viewer("0.0.0.0:0")
    assert len(viewer.token) >= 16
    assert all(page.endswith(f"#{viewer.token}") for page in viewer.urls)
    viewer.write(*answer(0))

    async def refused(token):
        async with connect(viewer, token=token) as client:
            message = await client.socket.receive(PATIENT_S)
            assert message.type is aiohttp.WSMsgType.CLOSE  # and nothing was told before
            assert client.socket.close_code == server.WRONG_TOKEN
            assert "token" in message.extra

    async def look():
        for token in (
            "wrong",
            viewer.token[:-1],
            viewer.token + "x",
            viewer.token.swapcase(),
            "é",
        ):
            await refused(token)
        async with connect(viewer, greets=False) as client:
            await client.socket.send_json({"type": "hello", "protocol": PROTOCOL})
            assert (await client.end())[0] == server.WRONG_TOKEN
        async with connect(viewer, token=viewer.token) as client:
            assert (await client.frame())[0]["frame"]["number"] == 1

    try:
        run(look())
        other = Viewer("0.0.0.0:0")
        other.close()
        assert other.token != viewer.token
    finally:
        viewer.close()


def test_a_token_may_be_chosen_and_counts_on_loopback_too():
    viewer = Viewer("0", token=TOKEN)

    async def look():
        async with connect(viewer, token="other") as client:
            assert (await client.end())[0] == server.WRONG_TOKEN
        async with connect(viewer, token=TOKEN) as client:
            assert client.hello["protocol"] == PROTOCOL

    try:
        run(look())
    finally:
        viewer.close()


def test_every_answer_carries_the_policy(viewer):
    async def look():
        async with aiohttp.ClientSession() as session:
            for path, status in [
                *((path, 200) for path in PATHS),
                ("/../secret", 404),
                ("/x", 404),
            ]:
                async with session.get(url(viewer, path)) as reply:
                    assert reply.status == status
                    check(reply.headers)
            async with session.get(url(viewer), headers={"Host": "evil.example"}) as reply:
                assert reply.status == 421
                check(reply.headers)
            async with session.post(url(viewer)) as reply:
                assert reply.status == 405
                check(reply.headers)

    def check(headers):
        policy = dict(
            part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; ")
        )
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        for word in ("unsafe", "*", "http:", "https:", "data:", "evil"):
            assert word not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "av_grounding"

    run(look())


def test_the_page_is_whole_and_asks_nobody_else(viewer):
    async def look():
        async with aiohttp.ClientSession() as session:
            pages = {}
            for path in PATHS:
                async with session.get(url(viewer, path)) as reply:
                    pages[path] = await reply.text()
                    assert len(pages[path]) > 200
        return pages

    pages = run(look())
    html = pages["/"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    linked = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert linked
    assert all(f"/{name}" in PATHS for name in linked)
    names = ("http://www.w3.org/2000/svg",)
    for text in pages.values():
        found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", re.sub(r"^\s*//.*", "", text))
        assert [name for name in found if name not in names] == []
    assert "@import" not in pages["/style.css"]
    assert "url(" not in pages["/style.css"]
    for evil in ("innerHTML", "eval(", "document.write"):
        assert evil not in pages["/page.js"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:80", "Origin": "http://evil.example:80"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
    ],
)
def test_pages_from_elsewhere_cannot_connect(viewer, headers, status):
    async def look():
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with connect(viewer, headers=headers):
                pass
        assert caught.value.status == status
        own = {"Origin": f"http://127.0.0.1:{viewer.address.port}"}
        async with connect(viewer, headers=own) as client:
            assert client.hello

    run(look())


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("nonsense", "not JSON"),
        ("[" * 400, "not JSON"),
        ('{"type":"ack","x":1}', "unknown field"),
        ('{"type":"hello","protocol":1}', "twice"),
        ('{"type":"reboot"}', "not one of"),
        (b"\x00\x01", "expected text"),
    ],
)
def test_a_client_that_talks_nonsense_is_closed_with_a_reason_and_harms_nobody(
    viewer, sent, reason
):
    async def look():
        async with connect(viewer) as good, connect(viewer) as bad:
            send = bad.socket.send_bytes if isinstance(sent, bytes) else bad.socket.send_str
            await send(sent)
            code, said = await bad.end()
            assert code == aiohttp.WSCloseCode.POLICY_VIOLATION
            assert reason in said
            viewer.write(*answer(0))
            assert (await good.frame())[0]["frame"]["number"] == 1
            await until(lambda: viewer.num_clients == 1)

    run(look())


def test_messages_that_are_too_long_or_too_many_end_the_connection(viewer):
    async def look():
        async with connect(viewer) as client:
            await client.socket.send_str('{"type":"' + "a" * 5000 + '"}')
            assert (await client.end())[0] == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        async with connect(viewer) as client:
            for _ in range(10):
                await client.ack()
            assert "ack without a packet" in (await client.end())[1]
        async with connect(viewer) as client:
            for _ in range(2000):
                await client.socket.send_json({"type": "resume"})
            code, said = await client.end()
            assert (code, "a second" in said) == (aiohttp.WSCloseCode.POLICY_VIOLATION, True)

    run(look())


def test_who_does_not_greet_is_not_kept(viewer, monkeypatch):
    monkeypatch.setattr(server, "HELLO_WITHIN_S", 0.2)

    async def look():
        for first in (None, '{"type":"ack"}', "x", b"x"):
            async with connect(viewer, greets=False) as client:
                if isinstance(first, str):
                    await client.socket.send_str(first)
                elif first is not None:
                    await client.socket.send_bytes(first)
                assert (await client.end())[0] == aiohttp.WSCloseCode.POLICY_VIOLATION
        async with connect(viewer, greets=False) as client:
            await client.socket.send_json({"type": "hello", "protocol": PROTOCOL + 1})
            assert (await client.end())[0] == server.WRONG_PROTOCOL

    run(look())


def test_one_client_too_many_is_told_so(viewer, monkeypatch):
    monkeypatch.setattr(server, "MAX_CLIENTS", 2)

    async def look():
        async with connect(viewer), connect(viewer), connect(viewer, greets=False) as third:
            code, said = await third.end()
            assert code == aiohttp.WSCloseCode.TRY_AGAIN_LATER
            assert "2 clients" in said

    run(look())


def test_counters_and_warnings_are_told(viewer, monkeypatch):
    monkeypatch.setattr(server, "COUNTERS_S", 0.05)
    viewer.stats = lambda: {"num_frames_published": np.int64(7), "queued_audio_s": np.nan}

    async def look():
        async with connect(viewer) as client:
            logging.getLogger("av_grounding.streaming").warning("%d samples are missing", 12)
            logging.getLogger("av_grounding.streaming").info("not this")
            logging.getLogger("elsewhere").warning("nor this")
            viewer.warn("<b>text</b>")
            counters = warnings = None
            while counters is None or warnings is None or len(warnings) < 2:
                header, _ = await client.next()
                counters = header.get("counters", counters)
                warnings = header.get("warnings", warnings)
            assert counters == {"num_frames_published": 7, "queued_audio_s": None}
            assert [w["text"] for w in warnings] == ["12 samples are missing", "<b>text</b>"]

    run(look())


def test_counters_that_fail_do_not_take_the_page_away(viewer, monkeypatch, caplog):
    monkeypatch.setattr(server, "COUNTERS_S", 0.01)
    calls = []

    def fail():
        calls.append(1)
        raise RuntimeError("no counters today")

    viewer.stats = fail

    async def look():
        async with connect(viewer) as client:
            await until(lambda: calls)
            viewer.write(*answer(0))
            header = {}
            while "warnings" not in header:
                header, _ = await client.next()
            assert "no counters today" in header["warnings"][0]["text"]

    run(look())
    assert len(calls) == 1


def test_the_rate_is_bounded():
    viewer = Viewer("0", max_rate_hz=2.0)

    async def look():
        async with connect(viewer) as client:
            for number in range(40):
                viewer.write(*answer(number))
                await asyncio.sleep(0.02)
            numbers = []
            while not numbers or numbers[-1] < 40:
                numbers.append((await client.frame())[0]["frame"]["number"])
            return numbers

    began = time.monotonic()
    try:
        numbers = run(look())
    finally:
        viewer.close()
    assert len(numbers) <= 2.0 * (time.monotonic() - began) + 2


def test_closing_says_goodbye_frees_the_port_and_leaves_no_thread():
    viewer = Viewer("0")
    port = viewer.address.port

    async def look():
        async with connect(viewer) as client:
            viewer.write(*answer(0))
            await client.frame()
            ending = asyncio.create_task(client.end())
            await asyncio.to_thread(viewer.close)
            code, said = await ending
            assert (code, "ended" in said) == (aiohttp.WSCloseCode.GOING_AWAY, True)

    run(look())
    viewer._thread.join(PATIENT_S)
    assert not viewer._thread.is_alive()
    viewer.close()
    viewer.write(*answer(1))
    viewer.write_voice(marks(0.0, [-20.0], [True]))
    again = Viewer(str(port))
    again.close()


def test_faulty_settings_are_said_in_one_line(viewer):
    with pytest.raises(OSError, match="another program has this port"):
        Viewer(str(viewer.address.port))
    with pytest.raises(ValueError, match="at least 16"):
        Viewer("0", token="short")
    with pytest.raises(ValueError, match="more than 0"):
        Viewer("0", max_rate_hz=0.0)
    with pytest.raises(ValueError, match="0 to 65535"):
        Viewer("localhost:99999")
