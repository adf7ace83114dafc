"""A click on the page in a headless Chromium: what its loudspeaker is given."""

import asyncio
import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from av_grounding.types import AudioChunk, Frame
from tests.helpers.chromium import find_chromium, open_page
from tests.helpers.live_client import answer, open_viewer

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        find_chromium() is None, reason="Chromium is not installed: apt-get install chromium"
    ),
]
RATE_HZ = 16_000
PIECE = 1600
TEXT = "document.getElementById('listening').textContent"
# Everything that is scheduled: [when in samples, the samples].
LISTEN_IN = """
window.played = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  window.played.push([Math.round(when * 16000), Array.from(this.buffer.getChannelData(0))]);
  window.contextRate = this.context.sampleRate;
  return start.call(this, when);
};
"""


class Ramps:
    """A run that gives a tenth of a second of a slow ramp after every frame, if wanted."""

    def __init__(self):
        self.viewer = open_viewer(sound_rate_hz=RATE_HZ, clock_ns=time.time_ns)
        self.places, self.given, self.is_silent = [], 0, False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stopped.wait(0.1):
            frame, grounding = answer(height=480, width=640)
            now_ns = time.time_ns()
            self.viewer.write(Frame(frame.image, now_ns), grounding)
            place = self.viewer.place((480, 640))
            if not self.places or place != self.places[-1]:
                self.places.append(place)
            if place is not None:
                ramp = (self.given + np.arange(PIECE)) % 30_000 + 1
                self.given += PIECE
                samples = (0.0 if self.is_silent else 1.0) * ramp / 32767.0
                self.viewer.write_sound(AudioChunk(samples.astype(np.float32), now_ns, RATE_HZ))

    def close(self):
        self._stopped.set()
        self._thread.join()
        self.viewer.close()


async def click(page, u, v):
    """On shares of the picture, as a finger does; where that lies on the screen."""
    x, y, w, h = await page.run(
        "(() => { const b = document.getElementById('stage').getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height]; })()"
    )
    scale = min(w / 640, h / 480)
    x, y = x + w / 2 + (u - 0.5) * 640 * scale, y + h / 2 + (v - 0.5) * 480 * scale
    for kind in ("mousePressed", "mouseReleased"):
        await page.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
        )
    return round(x), round(y)


def test_a_click_is_heard_without_seams_until_the_button_silences_it(tmp_path):
    ramps = Ramps()

    async def look():
        async with open_page(tmp_path / "chromium") as page:
            await page.resize(1280, 900)
            await page.open(f"http://127.0.0.1:{ramps.viewer.address.port}/")
            await page.run(LISTEN_IN)
            await page.until("document.getElementById('state').dataset.state === 'live'")
            assert await page.run(TEXT) == "Click a thing to hear it"
            await asyncio.sleep(0.5)
            assert await page.run("window.played.length") == 0
            before = await page.screenshot()
            x, y = await click(page, 0.25, 0.75)
            await page.until("window.played.length >= 12")
            # However slow this machine is: sound was there within the last moment.
            await page.until(f"{TEXT}.startsWith('Hearing 160, 360: sound')")
            after = await page.screenshot(tmp_path / "clicked.png")
            ring = np.s_[y - 20 : y + 21, x - 20 : x + 21]
            changed = np.abs(after[ring].astype(int) - before[ring]).max(axis=2) > 60
            assert 200 < changed.sum() < 1500
            assert changed[2, 2] == changed[-2, -2] == 0
            played = await page.run("window.played")
            assert await page.run("window.contextRate") == RATE_HZ
            ramps.is_silent = True
            await page.until(f"{TEXT} === 'Hearing 160, 360: silence'")
            ramps.is_silent = False
            await click(page, 0.6, 0.2)
            await page.until(f"{TEXT}.startsWith('Hearing 384, 96')")
            # A click on the mark silences it, as the button does.
            await click(page, 0.605, 0.2)
            await page.until(f"{TEXT} === 'Click a thing to hear it'")
            await page.run("document.getElementById('listen').click()")
            await page.until(f"{TEXT}.startsWith('Hearing the loudest place')")
            await page.run("document.getElementById('listen').click()")
            await page.until(f"{TEXT} === 'Click a thing to hear it'")
            num = await page.run("window.played.length")
            await asyncio.sleep(0.5)
            assert await page.run("window.played.length") == num
            assert page.complaints() == []
            return played

    try:
        played = asyncio.run(look())
    finally:
        ramps.close()
    points = [place for place in ramps.places if place is not None]
    assert points[0] == pytest.approx((160, 360), abs=1)
    assert points[1] == pytest.approx((384, 96), abs=1)
    assert points[2] == "peak"
    # What is scheduled back to back continues the ramp by single steps.
    seams = 0
    for (at, one), (next_at, other) in pairwise(played):
        assert next_at >= at + len(one)
        if next_at == at + len(one):
            step = round((other[0] - one[-1]) * 32767)
            assert step in (1, -29_999)
            seams += 1
    assert seams >= 6
    first = np.array(played[0][1])
    assert first[0] == 0.0  # faded in
    assert np.rint(first[-1] * 32767) == len(first)
