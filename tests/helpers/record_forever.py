"""Records until it is stopped from outside: the child process of the recorder's tests.

Arguments: directory, optional limit on the size of a file in bytes. Prints "READY" after some
frames. Exit code 130 after Ctrl-C, 3 after an error of the disk.
"""

from __future__ import annotations

import itertools
import resource
import signal
import sys
import time

import numpy as np

from av_grounding.recording.recorder import Recorder
from av_grounding.types import AudioChunk, Frame, Grounding
from tests.helpers.answers import answer as head_answer


def main(directory: str, limit: str = "") -> int:
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    recorder = Recorder(directory, frame_rate_hint_hz=25)
    rng = np.random.default_rng(0)
    try:
        for index in itertools.count():
            stamp_ns = index * 40_000_000
            image = rng.integers(0, 256, (120, 160, 3)).astype(np.uint8)
            heatmap = np.full((24, 32), index % 100 / 100, np.float32)
            answer = Grounding(
                {"sound": head_answer(heatmap), "speech": head_answer(heatmap / 2)}, stamp_ns
            )
            tone = np.sin(np.arange(640) * 0.2).astype(np.float32)
            recorder.write_audio(AudioChunk(tone, stamp_ns, 16_000))
            recorder.write(Frame(image, stamp_ns), answer)
            if index == 60:
                print("READY", flush=True)
            if limit == "":
                time.sleep(0.002)
    except KeyboardInterrupt:
        recorder.finish({"why": "interrupted"})
        return 130
    except OSError as error:
        print(error, flush=True)
        recorder.finish({"why": "disk"})
        return 3
    return 0


if __name__ == "__main__":
    try:
        code = main(*sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    # As the command line does: a Ctrl-C during the interpreter's own shutdown changes nothing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)
