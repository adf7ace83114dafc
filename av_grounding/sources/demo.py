"""The demo scene as a live source: frames and sound, paced by the clock or as fast as asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from av_grounding.synthetic.demo_scene import DURATION_S, DemoScene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.types import AudioChunk, Frame

FRAME_RATE_HZ = 15.0
CHUNK_S = 0.02


class Pace:
    """Turns media time into stamps; in real time it also waits until that moment has come."""

    def __init__(self, realtime: bool) -> None:
        self.realtime = realtime
        self.closed = threading.Event()
        self.start_ns = time.time_ns() if realtime else 0

    def stamp_ns(self, time_s: float) -> int:
        return self.start_ns + round(time_s * 1e9)

    def wait_until(self, time_s: float) -> bool:
        """Wait for media time; False once closed."""
        if self.realtime:
            remaining_s = (self.stamp_ns(time_s) - time.time_ns()) / 1e9
            return not self.closed.wait(max(remaining_s, 0.0))
        return not self.closed.is_set()


class DemoVideo:
    def __init__(self, scene: DemoScene, pace: Pace, duration_s: float) -> None:
        self.scene, self.pace, self.duration_s = scene, pace, duration_s

    def __iter__(self) -> Iterator[Frame]:
        for number in range(round(self.duration_s * FRAME_RATE_HZ)):
            time_s = number / FRAME_RATE_HZ
            image = self.scene.frame(time_s).image
            if not self.pace.wait_until(time_s):
                return
            yield Frame(image, self.pace.stamp_ns(time_s), "demo")

    def close(self) -> None:
        self.pace.closed.set()


class DemoAudio:
    def __init__(self, scene: DemoScene, pace: Pace, duration_s: float) -> None:
        self.waveform = scene.waveform[: round(duration_s * SAMPLE_RATE_HZ)]
        self.pace = pace

    def __iter__(self) -> Iterator[AudioChunk]:
        size = round(CHUNK_S * SAMPLE_RATE_HZ)
        for start in range(0, len(self.waveform), size):
            chunk = self.waveform[start : start + size]
            # A driver delivers a chunk when its last sample has been captured.
            if not self.pace.wait_until((start + len(chunk)) / SAMPLE_RATE_HZ):
                return
            yield AudioChunk(chunk, self.pace.stamp_ns(start / SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)

    def close(self) -> None:
        self.pace.closed.set()


def open_demo(
    realtime: bool = True, duration_s: float | None = None, scene: DemoScene | None = None
) -> tuple[DemoVideo, DemoAudio]:
    """The demo's frames and its sound; `duration_s` cuts it short."""
    if duration_s is not None and duration_s <= 0:
        raise ValueError(f"duration is {duration_s} s; expected more than 0")
    duration_s = min(duration_s or DURATION_S, DURATION_S)
    scene = scene or DemoScene()
    _ = scene.waveform  # spoken before the clock starts
    pace = Pace(realtime)
    return DemoVideo(scene, pace, duration_s), DemoAudio(scene, pace, duration_s)
