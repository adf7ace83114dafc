"""The demo scene in accelerated time, with faults: sources whose stamps run faster than clocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from av_grounding.audio import samples_to_ns
from av_grounding.benchmarking.soak.faults import (
    AUDIO_STEP_S,
    CAMERA_STEP_S,
    TOO_FAST,
    Fault,
    FaultSchedule,
)
from av_grounding.synthetic.demo_scene import DURATION_S, DemoScene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.types import AudioChunk, Frame

NS_PER_S = 1_000_000_000
CHUNK_S = 0.1
STILL_S = 2.0
"""A drawn picture is shown for this long: drawing would cost more than grounding."""
DRIFT_PPM = 50.0
"""By how much the microphone's crystal is slower than the clock that stamps."""
ORIGIN_NS = 1_700_000_000 * NS_PER_S
OTHER_RATE_HZ = 48_000
MAX_BACKLOG_S = 10.0
"""Of sound that waits; beyond it the machine cannot keep up, and time is held up."""


class FastClock:
    """`speed` seconds of the recording pass in a second; it starts with the first look.

    A machine that is too slow for this speed, or busy with something else, holds it up.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.held_up_s = 0.0
        """Real seconds for which it stood still."""
        self._lock = threading.Lock()
        self._started_s: float | None = None

    def hold_up(self, seconds: float, closed: threading.Event) -> None:
        """Stand still for so many real seconds."""
        began_s = time.monotonic()
        closed.wait(seconds)
        with self._lock:
            self.held_up_s += time.monotonic() - began_s

    def now_s(self) -> float:
        """Seconds of the recording."""
        with self._lock:
            if self._started_s is None:
                self._started_s = time.monotonic()
            return (time.monotonic() - self._started_s - self.held_up_s) * self.speed

    def wait(self, time_s: float, closed: threading.Event) -> bool:
        """Until that moment of the recording; False if `closed` was set before it."""
        closed.wait(max(0.0, (time_s - self.now_s()) / self.speed))
        return not closed.is_set()


class SoakVideo:
    """Frames of the demo at `rate_hz` of the recording's time, drawn beforehand."""

    def __init__(
        self,
        scene: DemoScene,
        clock: FastClock,
        faults: Sequence[Fault],
        *,
        duration_s: float,
        rate_hz: float,
    ) -> None:
        self._stills = [scene.frame(s).image for s in np.arange(0.0, DURATION_S, STILL_S)]
        self._clock, self._faults = clock, faults
        self._duration_s, self._rate_hz = duration_s, rate_hz
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        schedule = FaultSchedule(self._faults)
        for number in range(int(self._duration_s * self._rate_hz)):
            time_s = number / self._rate_hz
            if not self._clock.wait(time_s, self._closed):
                return
            fault = schedule.at(time_s)
            if fault == "camera stalls":
                continue
            image = self._stills[int(time_s % DURATION_S / STILL_S)]
            if fault == "other size":
                image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2))
            if fault == "camera clock back":
                time_s -= CAMERA_STEP_S
            yield Frame(image, ORIGIN_NS + round(time_s * NS_PER_S), "soak")

    def close(self) -> None:
        self._closed.set()


class SoakAudio:
    """Every sample of the demo's sound, over and over, in chunks of 100 ms."""

    def __init__(
        self, scene: DemoScene, clock: FastClock, faults: Sequence[Fault], *, duration_s: float
    ) -> None:
        self.backlog_s: Callable[[], float] = float
        """How much sound waits for the model; to be set before the start."""
        self._waveform, self._clock, self._faults = scene.waveform, clock, faults
        self._duration_s = duration_s
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[AudioChunk]:
        schedule = FaultSchedule(self._faults)
        size = round(CHUNK_S * SAMPLE_RATE_HZ)
        for number in range(int(self._duration_s / CHUNK_S)):
            time_s = number * CHUNK_S
            while self.backlog_s() > MAX_BACKLOG_S and not self._closed.is_set():
                self._clock.hold_up(0.05, self._closed)
            # A driver hands a chunk over once its last sample is in.
            if not self._clock.wait(time_s + CHUNK_S, self._closed):
                return
            stamp_ns = ORIGIN_NS + round(
                samples_to_ns(number * size, SAMPLE_RATE_HZ) * (1.0 + 1e-6 * DRIFT_PPM)
            )
            chunk = self._chunk(number * size, size, stamp_ns, schedule.at(time_s))
            if chunk is not None:
                yield chunk

    def _chunk(self, start: int, size: int, stamp_ns: int, fault: str | None) -> AudioChunk | None:
        if fault in ("sound missing", "microphone gone"):
            return None
        if fault == "audio too fast":
            size = round(TOO_FAST * size)
        # NumPy wraps by subtracting once for every turn, which after a day is thousands.
        start %= len(self._waveform)
        samples = self._waveform.take(range(start, start + size), mode="wrap")
        rate_hz = SAMPLE_RATE_HZ
        if fault == "audio clock back":
            stamp_ns -= round(AUDIO_STEP_S * NS_PER_S)
        if fault == "not a number":
            samples[::7] = np.nan
        if fault == "other sample rate":
            rate_hz = OTHER_RATE_HZ
            samples = np.repeat(samples, OTHER_RATE_HZ // SAMPLE_RATE_HZ)
        return AudioChunk(samples, stamp_ns, rate_hz)

    def close(self) -> None:
        self._closed.set()
