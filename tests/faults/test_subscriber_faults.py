"""Those who watch come and go a thousand times, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from av_grounding.types import Frame, Grounding
from tests.helpers.answers import answer

RATE_HZ = 15.0
MAX_GROWTH_MB = 6.0
"""Over a thousand cycles: a leak of a connection's buffers would be tens."""
WARM = 10
PATIENT_S = 60.0
NUM = [50, pytest.param(1000, marks=pytest.mark.slow)]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="descriptors are read from /proc"
)


class Publishing:
    """Writes a heatmap 15 times a second, each with its number in it, until it is closed."""

    def __init__(self, sink) -> None:
        self.num = 0
        self._sink = sink
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        image = np.zeros((48, 64, 3), np.uint8)
        while not self._closed.wait(1 / RATE_HZ):
            self.num += 1
            stamp_ns = time.time_ns()
            heads = {"sound": answer(np.full((5, 7), self.num % 100 / 100))}
            grounding = Grounding(heads, stamp_ns, image_size=image.shape[:2])
            self._sink.write(Frame(image, stamp_ns), grounding)

    def close(self) -> None:
        self._closed.set()
        self._thread.join(PATIENT_S)
        self._sink.close()


def holdings() -> tuple[float, int, int]:
    """(resident MB, descriptors, threads) of this process."""
    from av_grounding.benchmarking.speed import resident_mb

    gc.collect()
    return resident_mb(), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def check_nothing_is_left(before, num: int) -> None:
    """What every visit left would be `num`; the process that runs all tests has a life beside."""
    deadline_s = time.monotonic() + PATIENT_S
    after = holdings()
    while max(np.subtract(after, before)[1:]) > num // 5:
        assert time.monotonic() < deadline_s, (before, after)
        time.sleep(0.1)
        after = holdings()
    if num >= 1000:
        assert after[0] - before[0] < MAX_GROWTH_MB


@pytest.mark.parametrize("num", NUM)
def test_clients_of_the_page_come_and_go(num):
    aiohttp = pytest.importorskip("aiohttp")
    from av_grounding.viewer.messages import PROTOCOL, unpack
    from tests.helpers.live_client import open_viewer

    viewer = open_viewer(thresholds={"sound": 0.5})
    publishing = Publishing(viewer)
    address = f"ws://127.0.0.1:{viewer.address.port}/live"

    async def visit(session, number) -> None:
        async with session.ws_connect(address, max_msg_size=0) as socket:
            await socket.send_json({"type": "hello", "protocol": PROTOCOL})
            await socket.receive_bytes(timeout=PATIENT_S)
            header = unpack(await socket.receive_bytes(timeout=PATIENT_S))[0]
            if "frame" in header:
                assert publishing.num - header["frame"]["number"] < 3 * RATE_HZ, "an old frame"
            # Some leave in the middle of everything, without a word.
            if number % 3 == 0:
                socket._response.connection.transport.abort()

    async def visit_often(times) -> None:
        async with aiohttp.ClientSession() as session:
            for number in range(times):
                await asyncio.wait_for(visit(session, number), PATIENT_S)

    try:
        asyncio.run(visit_often(WARM))
        before, num_before = holdings(), publishing.num
        asyncio.run(visit_often(num))
        check_nothing_is_left(before, num)
        assert publishing.num > num_before
        deadline_s = time.monotonic() + PATIENT_S
        while viewer.num_clients:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
    finally:
        publishing.close()


@pytest.mark.parametrize("num", NUM)
def test_subscribers_on_dds_come_and_go(num):
    """A steady subscriber misses nothing while nodes appear, subscribe and leave."""
    pytest.importorskip("cyclonedds")
    pytest.importorskip("rosbags")
    from av_grounding.transports.dds.bus import Bus
    from av_grounding.transports.dds.node import DdsPublisher
    from av_grounding.transports.dds.settings import DdsSettings

    settings = DdsSettings(domain_id=40 + os.getpid() % 60, discovery="localhost")
    publisher = DdsPublisher(Bus(settings, namespace="/churn"), ["sound"])
    steady = Bus(settings, "steady", "/steady")
    heard: list[float] = []

    def hear(cdr: bytes, _: int) -> None:
        heard.append(float(np.frombuffer(cdr, np.float32, 1, len(cdr) - 4)[0]))

    topic = ("/churn/sound/heatmap", "sensor_msgs/msg/Image")
    steady.reader(*topic, hear, depth=100, is_reliable=True)

    def visit_often(times) -> None:
        for _ in range(times):
            bus = Bus(settings, "visitor", "/visitor")
            bus.reader(*topic, lambda cdr, now_ns: None)
            time.sleep(0.01)
            bus.close()

    publishing = Publishing(publisher)
    try:
        deadline_s = time.monotonic() + PATIENT_S
        while not heard:
            assert time.monotonic() < deadline_s, "nothing is heard"
            time.sleep(0.05)
        visit_often(WARM)
        before = holdings()
        visit_often(num)
        check_nothing_is_left(before, num)
        time.sleep(0.5)
    finally:
        publishing.close()
        steady.close()
    steps = np.diff(np.round(np.array(heard) * 100)).astype(int) % 100
    assert set(steps.tolist()) == {1}, "a message was lost or came twice"
    assert publisher.num_dropped == publisher.num_refused == 0
    assert len(heard) >= publisher.num_published - 2 * RATE_HZ
