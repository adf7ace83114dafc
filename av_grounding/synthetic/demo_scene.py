"""The demo: four objects drift through a room while sounds and sentences overlap on a timeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float32

from av_grounding.synthetic.acoustics import mix, reverberate
from av_grounding.synthetic.scene import (
    Scene,
    SceneSpec,
    instance_seed,
    render_scene,
    sample_scene,
)
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ, synthesize_sound
from av_grounding.synthetic.speech import VOICES, synthesize_utterance

DURATION_S = 26.0
SPEECH_OVER_SOUND_DB = 2.0
DRIFT = 0.05
"""How far an object wanders from its place, as a fraction of the image's sides."""


@dataclass(frozen=True)
class Event:
    """Something that is heard: `kind` is "sound" or "speech", `slot` the object's number."""

    kind: str
    slot: int
    start_s: float
    duration_s: float
    carrier: str = ""


TIMELINE = (
    Event("sound", 0, 1.5, 3.5),
    Event("speech", 1, 6.0, 2.5, "look at the {noun}"),
    Event("sound", 2, 9.5, 6.5),
    Event("speech", 0, 10.3, 2.5, "where is the {noun}"),
    Event("speech", 3, 13.2, 2.5, "a picture of {article_noun}"),
    Event("sound", 1, 17.5, 6.0),
    Event("speech", 2, 18.2, 2.5, "can you see the {noun}"),
    Event("speech", 0, 21.0, 2.5, "look at the {noun}"),
)


def soundtrack(
    timeline: Sequence[Event],
    seeds: Sequence[int],
    duration_s: float,
    clip_of: Callable[[int, Event, int], Float32[np.ndarray, " _"]],
) -> Float32[np.ndarray, " s"]:
    """Sounds and speech of a timeline in a room, 16 kHz mono; `clip_of(number, event, seed)`."""
    num_samples = round(duration_s * SAMPLE_RATE_HZ)
    tracks = {kind: np.zeros(num_samples, np.float32) for kind in ("sound", "speech")}
    for number, (event, seed) in enumerate(zip(timeline, seeds, strict=True)):
        clip = reverberate(clip_of(number, event, seed), seed)
        start = round(event.start_s * SAMPLE_RATE_HZ)
        stop = min(start + len(clip), num_samples)
        tracks[event.kind][start:stop] += clip[: stop - start]
    return mix(tracks["sound"], tracks["speech"], -SPEECH_OVER_SOUND_DB).mixture


class DemoScene:
    """Frames and sound of the demo, with the truth about both; individuals of the test split."""

    duration_s = DURATION_S

    def __init__(
        self,
        class_names: tuple[str, str, str, str] = ("dog", "clock", "phone", "guitar"),
        *,
        seed: int = 8,
        height_px: int = 480,
        width_px: int = 640,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.class_names = class_names
        self.height_px, self.width_px = height_px, width_px
        spec = sample_scene(rng, class_names, "test", aspect=width_px / height_px)
        order = {placed.instance.class_name: placed for placed in spec.objects}
        self.spec: SceneSpec = replace(spec, objects=tuple(order[name] for name in class_names))
        self.seeds = [instance_seed(rng, "test") for _ in TIMELINE]
        self.voices = [VOICES["test"][i % len(VOICES["test"])] for i in range(len(TIMELINE))]
        self.phases = rng.uniform(0, 2 * math.pi, (len(class_names), 2))

    def frame(self, time_s: float) -> Scene:
        """The scene at a time: objects wander around their places on slow ellipses."""
        moved = []
        for number, placed in enumerate(self.spec.objects):
            x_phase, y_phase = self.phases[number]
            x = placed.center[0] + DRIFT * math.sin(0.5 * time_s + x_phase)
            y = placed.center[1] + DRIFT * math.cos(0.4 * time_s + y_phase)
            half = 0.45 * placed.size
            x_margin = half * min(self.height_px, self.width_px) / self.width_px
            y_margin = half * min(self.height_px, self.width_px) / self.height_px
            center = (
                float(np.clip(x, x_margin, 1 - x_margin)),
                float(np.clip(y, y_margin, 1 - y_margin)),
            )
            moved.append(replace(placed, center=center))
        return render_scene(
            replace(self.spec, objects=tuple(moved)), self.height_px, self.width_px
        )

    @cached_property
    def waveform(self) -> Float32[np.ndarray, " s"]:
        """The whole soundtrack, 16 kHz mono."""
        return soundtrack(TIMELINE, self.seeds, DURATION_S, self._clip)

    def _clip(self, number: int, event: Event, seed: int) -> Float32[np.ndarray, " s"]:
        name = self.class_names[event.slot]
        if event.kind == "sound":
            return synthesize_sound(name, seed, event.duration_s)
        return synthesize_utterance(name, event.carrier, self.voices[number], seed).waveform

    def sounding(self, time_s: float) -> str | None:
        """The class of the object that sounds at a time, if any."""
        for event in TIMELINE:
            if (
                event.kind == "sound"
                and event.start_s <= time_s < event.start_s + event.duration_s
            ):
                return self.class_names[event.slot]
        return None
