"""Sources and sinks in memory."""

from __future__ import annotations

import threading
import time

from av_grounding.types import AudioChunk, Frame
from tests.helpers import signals

START_NS = 1_700_000_000_000_000_000


def frames(num, rate_hz=15.0, start_ns=START_NS):
    image = signals.picture()
    return [Frame(image, start_ns + round(i / rate_hz * 1e9)) for i in range(num)]


def chunks(waveform, size=320, rate_hz=16_000, start_ns=START_NS):
    return [
        AudioChunk(waveform[i : i + size], start_ns + round(i / rate_hz * 1e9), rate_hz)
        for i in range(0, len(waveform), size)
    ]


class ListSource:
    """Gives items one by one; optionally waits, and optionally fails in the end."""

    def __init__(self, items, *, interval_s=0.0, error=None, endless=False):
        self._items = items
        self._interval_s = interval_s
        self._error = error
        self._endless = endless
        self._closed = threading.Event()
        self.num_given = 0
        self.num_closed = 0

    def __iter__(self):
        for item in self._items:
            if self._interval_s and self._closed.wait(self._interval_s):
                return
            self.num_given += 1
            yield item
        if self._error is not None:
            raise self._error
        if self._endless:
            # A device without data: only closing it ends the read.
            self._closed.wait()

    def close(self):
        self.num_closed += 1
        self._closed.set()


class ListSink:
    """Keeps what it gets; optionally slow, optionally failing at one frame."""

    def __init__(self, *, delay_s=0.0, fail_at=None, error=None):
        self.results = []
        self.num_closed = 0
        self._delay_s = delay_s
        self._fail_at = fail_at
        self._error = error

    def write(self, frame, heatmaps):
        assert self.num_closed == 0, "written after it was closed"
        time.sleep(self._delay_s)
        if self._fail_at == len(self.results):
            raise self._error
        self.results.append((frame, heatmaps))

    def close(self):
        self.num_closed += 1

    @property
    def bytes(self):
        return [(m.stamp_ns, m.sound.tobytes(), m.speech.tobytes()) for _, m in self.results]
