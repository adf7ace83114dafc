"""Records until it is stopped from outside: the child process of the recorder's tests.

Arguments: path, seconds between two steps, optional limit on the size of a file in bytes. Prints
the number of each frame whose answer is there, and in the end what the recorder says.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time

from av_grounding.types import AudioChunk, Frame
from tests.helpers import bags


def main(path: str, pause: str, limit: str = "") -> int:
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    recorder = bags.BagRecorder(path, pictures="raw")
    stream = recorder.wrap(bags.GroundingStream(bags.TinyBackend()))
    chunks = bags.sounds(2.0)
    try:
        for index in itertools.count():
            stamp_ns = bags.START_NS + index * 100_000_000
            for part in range(5):
                chunk = chunks[(5 * index + part) % len(chunks)]
                chunk = AudioChunk(chunk.samples, stamp_ns + part * 20_000_000, bags.RATE_HZ)
                stream.push_audio(chunk.samples, chunk.stamp_ns, chunk.sample_rate_hz)
            frame = Frame(bags.picture(index % 50), stamp_ns)
            stream.push_frame(frame.image, frame.stamp_ns)
            print(index, time.time_ns(), flush=True)
            time.sleep(float(pause))
            if recorder.describe()["error"] is not None:
                break
        recorder.close()
    except OSError as error:
        print(json.dumps({"error": str(error), "errno": error.errno}), flush=True)
        # The stream goes on, recorder or not.
        stream.push_frame(bags.picture(0), stamp_ns + 10**9)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
