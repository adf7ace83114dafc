"""A run as the command line composes it, that says what it publishes: one JSON line a frame.

Arguments: SOURCE, AUDIO and the bundle, as of `av-grounding run`. Ends with Ctrl-C, and then says
{"report": …}.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time

from av_grounding.grounder import Grounder
from av_grounding.sources.open import open_source
from av_grounding.streaming.runner import Runner
from av_grounding.types import Frame, Grounding, Source
from tests.helpers.mjpeg_camera import read_time


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


class Teller:
    """A Sink that tells of every answer."""

    def __init__(self) -> None:
        self.counters = dict

    def write(self, frame: Frame, heatmaps: Grounding) -> None:
        counters = self.counters()
        say(
            stamp_ns=heatmaps.stamp_ns,
            now_ns=time.time_ns(),
            taken_ns=read_time(frame.image) * 1_000_000,
            size=frame.image.shape[:2],
            grid=heatmaps.sound.shape,
            sound=float(heatmaps.sound.max()),
            speech=float(heatmaps.speech.max()),
            counters=counters,
        )

    def close(self) -> None:
        pass


def counters_of(source: Source) -> dict[str, int]:
    return {name: value for name, value in vars(source).items() if name.startswith("num_")}


def main(source: str, audio: str, bundle: str) -> int:
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    stream = Grounder.load(bundle).stream()
    video, sound = open_source(source, audio)
    teller = Teller()
    runner = Runner(stream, video, sound, [teller], max_image_age_s=0.5)
    teller.counters = lambda: runner.counters
    say(ready=True)
    with contextlib.suppress(KeyboardInterrupt):
        runner.run()
    say(
        report=runner.report.as_dict(),
        camera=counters_of(video),
        microphone={} if sound is None else counters_of(sound),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
