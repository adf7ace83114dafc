"""A headless Chromium, driven by the DevTools protocol over a WebSocket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
from pathlib import Path

import aiohttp
import cv2
import numpy as np

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_WITHIN_S = 60.0
REPLY_WITHIN_S = 60.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """One tab: `events` holds what the network, the console and the scripts reported."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future] = {}
        self.events: list[tuple[str, dict]] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            data = json.loads(message.data)
            if "id" in data:
                self._replies.pop(data["id"]).set_result(data)
            else:
                self.events.append((data["method"], data["params"]))

    async def call(self, method: str, **params) -> dict:
        number = next(self._numbers)
        self._replies[number] = asyncio.get_running_loop().create_future()
        reply = self._replies[number]
        await self._socket.send_json({"id": number, "method": method, "params": params})
        data = await asyncio.wait_for(reply, REPLY_WITHIN_S)
        assert "error" not in data, f"{method}: {data['error']}"
        return data["result"]

    async def open(self, url: str) -> None:
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def run(self, script: str):
        """The value of an expression, awaited where it is a promise."""
        result = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, f"{script}: {result['exceptionDetails']}"
        return result["result"].get("value")

    async def until(self, script: str, within_s: float = 60.0):
        """Wait until an expression is true; its value."""
        deadline = asyncio.get_running_loop().time() + within_s
        while not (value := await self.run(script)):
            assert asyncio.get_running_loop().time() < deadline, f"never became true: {script}"
            await asyncio.sleep(0.1)
        return value

    async def resize(self, width: int, height: int, *, scale: float = 1.0, is_phone=False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=is_phone,
        )

    async def prefer(self, scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.call("Emulation.setEmulatedMedia", features=[feature])

    async def screenshot(self, path: Path | None = None, *, is_whole: bool = False) -> np.ndarray:
        """The page as (H, W, 3) RGB; the whole of it beyond the window where asked."""
        reply = await self.call("Page.captureScreenshot", captureBeyondViewport=is_whole)
        png = base64.b64decode(reply["data"])
        if path is not None:
            path.write_bytes(png)
        return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]

    def urls(self) -> list[str]:
        """Everything that was asked of any network."""
        requests = [
            p["request"]["url"] for m, p in self.events if m == "Network.requestWillBeSent"
        ]
        return requests + [p["url"] for m, p in self.events if m == "Network.webSocketCreated"]

    def complaints(self) -> list[str]:
        """Uncaught exceptions, errors on the console, and what the policy blocked."""
        found = [str(p) for m, p in self.events if m == "Runtime.exceptionThrown"]
        found += [
            str(p["args"])
            for m, p in self.events
            if m == "Runtime.consoleAPICalled" and p["type"] in ("error", "assert")
        ]
        return found + [
            p["entry"]["text"]
            for m, p in self.events
            if m == "Log.entryAdded" and p["entry"]["level"] == "error"
        ]


@contextlib.asynccontextmanager
async def open_page(directory: Path, *flags: str):
    """A tab in a Chromium of its own, which is ended with the block."""
    command = [find_chromium(), *FLAGS, *flags, f"--user-data-dir={directory}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file = directory / "DevToolsActivePort"
        for _ in range(round(START_WITHIN_S / 0.1)):
            if port_file.exists() and port_file.read_text().count("\n"):
                break
            assert process.poll() is None, "Chromium ended at once"
            await asyncio.sleep(0.1)
        port = port_file.read_text().split("\n")[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                (tab, *_) = [t for t in await reply.json() if t["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
