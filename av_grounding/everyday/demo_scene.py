"""The everyday demo: photographs of things drift before a place while they sound and are named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32

from av_grounding.everyday.packages import require
from av_grounding.everyday.parts import PACKAGES, VALIDATION
from av_grounding.everyday.places import place
from av_grounding.everyday.samples import filled
from av_grounding.everyday.scene import (
    HEIGHT_PX,
    WIDTH_PX,
    ComposedScene,
    PlacedCutOut,
    compose,
)
from av_grounding.everyday.spoken import speak
from av_grounding.everyday.things import cut_out, recording
from av_grounding.synthetic.acoustics import SAMPLE_RATE_HZ
from av_grounding.synthetic.demo_scene import Event, soundtrack

DURATION_S = 30.0
DRIFT_PX = 22.0
PLACE = 20
"""Hills, on which nothing of the vocabulary stands."""


@dataclass(frozen=True)
class Shown:
    """A thing of the demo: its noun, its longest side, its middle in [0, 1] of the picture."""

    noun: str
    size_px: float
    center: tuple[float, float]


THINGS = (
    Shown("dog", 225, (0.2, 0.68)),
    Shown("violin", 190, (0.5, 0.3)),
    Shown("teapot", 140, (0.52, 0.8)),
    Shown("cow", 225, (0.8, 0.62)),
)
TIMELINE = (
    Event("sound", 0, 1.5, 3.5),
    Event("speech", 2, 6.0, 2.5, "where is the teapot"),
    Event("sound", 1, 9.5, 5.5),
    Event("speech", 0, 10.8, 2.5, "look at the dog"),
    Event("sound", 3, 16.0, 4.0),
    Event("speech", 1, 16.8, 2.5, "can you see the violin"),
    Event("speech", 3, 21.5, 2.5, "where is the cow"),
    Event("sound", 0, 24.5, 4.0),
    Event("speech", 2, 25.3, 2.5, "look at the teapot"),
)
VOICES = ("slt", "rms", "awb")


class EverydayDemo:
    """Frames and sound of the demo, as `DemoScene` has them; nothing of the test is in it.

    Raises FileNotFoundError with the line that installs what is missing.
    """

    duration_s = DURATION_S

    def __init__(self, *, seed: int = 3) -> None:
        require(PACKAGES)
        rng = np.random.default_rng(seed)
        self.class_names = tuple(thing.noun for thing in THINGS)
        self._place = place("validation", PLACE, HEIGHT_PX, WIDTH_PX)
        self._things = [_at_rest(thing) for thing in THINGS]
        self._phases = rng.uniform(0, 2 * math.pi, (len(THINGS), 2))
        self._seeds = [int(rng.integers(2**31)) for _ in TIMELINE]

    def frame(self, time_s: float) -> ComposedScene:
        """The scene at a time: things wander around their places on slow ellipses."""
        return compose(
            self._place,
            [
                thing.at(
                    thing.left + DRIFT_PX * math.sin(0.5 * time_s + x_phase),
                    thing.top + DRIFT_PX * math.cos(0.4 * time_s + y_phase),
                )
                for thing, (x_phase, y_phase) in zip(self._things, self._phases, strict=True)
            ],
        )

    @cached_property
    def waveform(self) -> Float32[np.ndarray, " s"]:
        """The whole soundtrack, 16 kHz mono."""
        return soundtrack(TIMELINE, self._seeds, DURATION_S, self._clip)

    def _clip(self, number: int, event: Event, seed: int) -> Float32[np.ndarray, " s"]:
        if event.kind == "speech":
            return speak(event.carrier, VOICES[number % len(VOICES)])
        address = VALIDATION.recordings[self.class_names[event.slot]][0]
        size = round(event.duration_s * SAMPLE_RATE_HZ)
        return filled(recording(address), size, np.random.default_rng(seed))


def _at_rest(thing: Shown) -> PlacedCutOut:
    picture = cut_out(VALIDATION.pictures[thing.noun][0])
    placed = PlacedCutOut.scaled(picture, thing.size_px, is_flipped=False)
    height, width = placed.layers.shape[:2]
    x, y = thing.center
    return placed.at(x * WIDTH_PX - width / 2, y * HEIGHT_PX - height / 2)
