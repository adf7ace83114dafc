"""A client of the live page in Python, and answers to show it."""

from __future__ import annotations

import asyncio
import contextlib
import time

import aiohttp
import numpy as np

from av_grounding.types import Frame, Grounding, VoiceMarks
from av_grounding.viewer.messages import PROTOCOL, unpack
from av_grounding.viewer.viewer import Viewer
from tests.helpers.answers import answer as head_answer

START_NS = 1_700_000_000_000_000_000
PATIENT_S = 60.0
THRESHOLDS = {"sound": 0.5, "speech": 0.5}


def open_viewer(address="0", **options):
    """A page for the heads of `answer`; on a free port of this machine."""
    return Viewer(address, **{"thresholds": THRESHOLDS, **options})


def answer(number=0, *, height=48, width=64, start_ns=START_NS):
    """A frame with a picture and heatmaps of its own, 15 a second."""
    rng = np.random.default_rng(number)
    image = np.full((height, width, 3), (40 + 5 * (number % 30), 90, 160), np.uint8)
    sound = rng.random((5, 7), np.float32)
    speech = np.zeros((5, 7), np.float32)
    speech[1, 4] = 0.75
    heatmaps = Grounding(
        {"sound": head_answer(sound), "speech": head_answer(speech)},
        stamp_ns=start_ns + round(number / 15 * 1e9),
        image_size=(height, width),
    )
    return Frame(image, heatmaps.stamp_ns), heatmaps


def marks(start_s, levels, voiced, utterances=()):
    stamp = [tuple(START_NS + round(1e9 * end) for end in span) for span in utterances]
    return VoiceMarks(
        START_NS + round(1e9 * start_s),
        0.02,
        np.array(levels, np.float32),
        np.array(voiced, bool),
        tuple(stamp),
    )


def url(viewer, path="/", scheme="http"):
    return f"{scheme}://127.0.0.1:{viewer.address.port}{path}"


class Client:
    def __init__(self, socket):
        self.socket = socket
        self.hello = None

    async def packet(self):
        """The next packet as (header, blobs), not acknowledged."""
        return unpack(await self.socket.receive_bytes(timeout=PATIENT_S))

    async def next(self):
        header, blobs = await self.packet()
        await self.ack()
        return header, blobs

    async def frame(self):
        """The next packet that has a frame."""
        while True:
            header, blobs = await self.next()
            if "frame" in header:
                return header, blobs

    async def ack(self):
        await self.socket.send_json({"type": "ack"})

    async def end(self):
        """(code, reason) with which the server closes, whatever it sends before."""
        while True:
            message = await self.socket.receive(timeout=PATIENT_S)
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                return self.socket.close_code, message.extra


@contextlib.asynccontextmanager
async def connect(viewer, *, token="", headers=None, greets=True):
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url(viewer, "/live", "ws"), headers=headers, max_msg_size=0) as socket,
    ):
        client = Client(socket)
        if greets:
            await socket.send_json({"type": "hello", "protocol": PROTOCOL, "token": token})
            if token == (viewer.token or ""):
                client.hello = (await client.packet())[0]["hello"]
        yield client


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 2 * PATIENT_S))


async def until(condition):
    deadline = time.monotonic() + PATIENT_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
