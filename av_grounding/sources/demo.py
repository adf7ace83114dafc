"""The demo scenes as a live source: frames and sound, paced as live or as fast as asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import samples_to_ns
from av_grounding.sources.playback import PlaybackClock
from av_grounding.synthetic.demo_scene import DemoScene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.types import AudioChunk, Frame

FRAME_RATE_HZ = 15.0
CHUNK_S = 0.02
ENDLESS_S = 1e7


@runtime_checkable
class Playable(Protocol):
    """A scene with its sound; `frame(time_s).image` is what is seen."""

    duration_s: float
    waveform: Float32[np.ndarray, " s"]

    def frame(self, time_s: float) -> Any: ...


def scene_of(name: str) -> Playable:
    """The scene of "demo" or "everyday"; FileNotFoundError says what installs what it lacks."""
    if name == "everyday":
        from av_grounding.everyday.demo_scene import EverydayDemo

        return EverydayDemo()
    return DemoScene()


class DemoVideo:
    """Frames at 15 Hz; `draw` gives the picture of a moment in seconds."""

    frame_rate_hz = FRAME_RATE_HZ

    def __init__(
        self,
        draw: Callable[[float], UInt8[np.ndarray, "H W 3"]],
        clock: PlaybackClock,
        duration_s: float,
    ) -> None:
        self.duration_s = duration_s
        self._draw, self._clock = draw, clock
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        for number in range(round(self.duration_s * FRAME_RATE_HZ)):
            image = self._draw(number / FRAME_RATE_HZ)
            media_ns = round(number * 1e9 / FRAME_RATE_HZ)
            if not self._clock.wait(media_ns, self._closed):
                return
            yield Frame(image, self._clock.stamp(media_ns), "demo")

    def close(self) -> None:
        self._closed.set()


class EndlessDemo:
    """The demo's frames without an end; like a camera, it leaves out those it is too late for."""

    frame_rate_hz = FRAME_RATE_HZ

    def __init__(self, scene: Playable, clock: PlaybackClock) -> None:
        self._scene, self._clock = scene, clock
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        period_ns, number = round(1e9 / FRAME_RATE_HZ), 0
        while not self._closed.is_set():
            late_ns = time.time_ns() - self._clock.stamp(number * period_ns)
            number += max(0, late_ns // period_ns)
            media_ns = number * period_ns
            image = self._scene.frame(media_ns / 1e9 % self._scene.duration_s).image
            if not self._clock.wait(media_ns, self._closed):
                return
            yield Frame(image, self._clock.stamp(media_ns), "demo")
            number += 1

    def close(self) -> None:
        self._closed.set()


class DemoAudio:
    """Sound in chunks of 20 ms, from the start again where the waveform ends."""

    def __init__(
        self, waveform: Float32[np.ndarray, " s"], clock: PlaybackClock, duration_s: float
    ) -> None:
        self.duration_s = duration_s
        self._waveform, self._clock = waveform, clock
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[AudioChunk]:
        size, total = round(CHUNK_S * SAMPLE_RATE_HZ), round(self.duration_s * SAMPLE_RATE_HZ)
        for start in range(0, total, size):
            stop = min(start + size, total)
            chunk = self._waveform.take(range(start, stop), mode="wrap")
            # A driver delivers a chunk when its last sample has been captured.
            if not self._clock.wait(samples_to_ns(stop, SAMPLE_RATE_HZ), self._closed):
                return
            stamp_ns = self._clock.stamp(samples_to_ns(start, SAMPLE_RATE_HZ))
            yield AudioChunk(chunk, stamp_ns, SAMPLE_RATE_HZ)

    def close(self) -> None:
        self._closed.set()


def open_demo(
    realtime: bool = True, duration_s: float | None = None, scene: Playable | None = None
) -> tuple[DemoVideo, DemoAudio]:
    """The demo's frames and its sound; `duration_s` cuts it short."""
    if duration_s is not None and duration_s <= 0:
        raise ValueError(f"duration is {duration_s} s; expected more than 0")
    scene = scene or DemoScene()
    duration_s = min(duration_s or scene.duration_s, scene.duration_s)
    clock = PlaybackClock(realtime)
    video = DemoVideo(lambda time_s: scene.frame(time_s).image, clock, duration_s)
    # The waveform is spoken here, before the clock starts.
    return video, DemoAudio(scene.waveform, clock, duration_s)


def open_endless_demo(name: str = "demo") -> tuple[EndlessDemo, DemoAudio]:
    """A demo from its start again, over and over, paced as live."""
    scene, clock = scene_of(name), PlaybackClock(realtime=True)
    audio = DemoAudio(scene.waveform, clock, ENDLESS_S)
    return EndlessDemo(scene, clock), audio
