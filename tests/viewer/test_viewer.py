"""The live page over real sockets: what clients are sent, slow ones too, and its end."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time

import aiohttp
import cv2
import numpy as np
import pytest

from av_grounding.types import Sink
from av_grounding.viewer import screen, server
from av_grounding.viewer.messages import PROTOCOL
from tests.helpers.live_client import (
    PATIENT_S,
    answer,
    connect,
    marks,
    open_viewer,
    run,
    until,
)


def test_it_is_a_sink(viewer):
    assert isinstance(viewer, Sink)


def test_a_packet_holds_the_frame_its_answer_and_what_was_heard():
    clock_ns = [0]
    viewer = open_viewer(clock_ns=lambda: clock_ns[0], facts={"source": "demo"})

    async def look():
        async with connect(viewer) as client:
            assert client.hello["facts"] == {"source": "demo"}
            heads = client.hello["heads"]
            assert [(head["name"], head["threshold"]) for head in heads] == [
                ("sound", 0.5), ("speech", 0.5),
            ]  # fmt: skip
            frame, heatmaps = answer(3)
            clock_ns[0] = frame.stamp_ns + 21_500_000
            viewer.write_voice(marks(0.1, [-20.0], [True]))
            viewer.write(frame, heatmaps)
            header, blobs = await client.frame()
            described = header["frame"]
            assert (described["width"], described["height"]) == (64, 48)
            told, size = described["heads"], described["jpeg_bytes"]
            decoded = cv2.imdecode(np.frombuffer(blobs[:size], np.uint8), cv2.IMREAD_COLOR)
            assert np.abs(decoded[..., ::-1].astype(int) - frame.image).max() < 6
            grids = np.frombuffer(blobs[size:], np.uint8).reshape(2, 5, 7)
            np.testing.assert_array_equal(grids[0], np.rint(255 * heatmaps.sound))
            np.testing.assert_array_equal(grids[1], np.rint(255 * heatmaps.speech))
            assert told["speech"]["score"] == 0.75
            peak = [round(4.5 / 7, 5), 0.3]
            assert told["speech"]["maps"] == [{"label": None, "peak": peak, "value": 0.75}]
            row, column = np.unravel_index(np.argmax(heatmaps.sound), (5, 7))
            expected = [round((column + 0.5) / 7, 5), round((row + 0.5) / 5, 5)]
            assert told["sound"]["maps"][0]["peak"] == expected
            ((_, latency_ms, sound_score, speech_score),) = header["points"]
            assert (sound_score, speech_score) == (round(heatmaps.score("sound"), 4), 0.75)
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
            assert [p[2] for p in points] == [
                round(answer(number)[1].score("sound"), 4) for number in range(30)
            ]

    run(look())


def test_a_frame_is_encoded_once_for_all_and_only_while_somebody_watches(viewer, monkeypatch):
    encoded = []
    encode = screen.encode

    def watched(shot):
        encoded.append((shot.number, threading.current_thread().name))
        return encode(shot)

    monkeypatch.setattr(screen, "encode", watched)

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
    viewer = open_viewer(max_rate_hz=2.0)

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
    viewer = open_viewer()
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
    again = open_viewer(str(port))
    again.close()


def test_faulty_settings_are_said_in_one_line(viewer):
    with pytest.raises(OSError, match="another program has this port"):
        open_viewer(str(viewer.address.port))
    with pytest.raises(ValueError, match="at least 16"):
        open_viewer(token="short")
    with pytest.raises(ValueError, match="more than 0"):
        open_viewer(max_rate_hz=0.0)
    with pytest.raises(ValueError, match="0 to 65535"):
        open_viewer("localhost:99999")
