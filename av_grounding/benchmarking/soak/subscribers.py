"""Clients of the live page and subscribers on DDS that come and go while a soak runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable

LOGGER = logging.getLogger(__name__)
DOMAIN_ID = 40 + os.getpid() % 60
"""Apart from a robot's, which are low as a rule, and from another soak's."""
NUM_PACKETS = 3
PATIENT_S = 30.0
STAY_S = 0.3


class Churn:
    """Calls `come_and_go` in a thread of its own, `every_s`, until it is closed.

    Who is turned away because the run `is_over` does not count as a failure.
    """

    def __init__(
        self,
        name: str,
        come_and_go: Callable[[], None],
        every_s: float,
        is_over: Callable[[], bool],
    ) -> None:
        self.num_cycles = 0
        self.num_failures = 0
        self._come_and_go, self._every_s, self._is_over = come_and_go, every_s, is_over
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(self._every_s):
            try:
                self._come_and_go()
            except Exception as error:
                if self._is_over():
                    return
                self.num_failures += 1
                LOGGER.warning("%s: %s: %s", self._thread.name, type(error).__name__, error)
            self.num_cycles += 1

    def close(self) -> None:
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENT_S)


def visit_page(port: int) -> None:
    """A browser that opens the live page, looks at a few packets and leaves."""
    import aiohttp

    from av_grounding.viewer.messages import PROTOCOL

    async def visit() -> None:
        address = f"ws://127.0.0.1:{port}/live"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=0) as socket,
        ):
            await socket.send_json({"type": "hello", "protocol": PROTOCOL})
            await socket.receive_bytes()
            for _ in range(NUM_PACKETS):
                await socket.receive_bytes()
                await socket.send_json({"type": "ack"})

    asyncio.run(asyncio.wait_for(visit(), PATIENT_S))


def visit_bus() -> None:
    """A ROS node that subscribes to a heatmap, listens for a moment and leaves."""
    from av_grounding.transports.dds.bus import Bus

    bus = Bus(dds_settings(), "watcher", "/soak_watcher")
    with contextlib.closing(bus):
        bus.reader("/soak/sound/heatmap", "sensor_msgs/msg/Image", lambda cdr, received_ns: None)
        time.sleep(STAY_S)


def dds_settings():
    """This machine only, in a domain of its own."""
    from av_grounding.transports.dds.settings import DdsSettings

    return DdsSettings(domain_id=DOMAIN_ID, discovery="localhost")
