"""Records in a process of its own, whose ALSA settings stand before PortAudio starts.

Arguments: device name ("" for the default), seconds of sound to collect, file for the result.
Prints one line per event, so that the test can act while it records.
"""

from __future__ import annotations

import logging
import sys
import threading

import numpy as np

from av_grounding.sources.microphone import Microphone


def main(name: str, seconds: str, path: str) -> None:
    logging.basicConfig(stream=sys.stdout, format="LOG %(message)s")
    microphone = Microphone(name or None)
    print("OPEN", microphone.device_name, microphone.sample_rate_hz, flush=True)
    # A recording that gets nothing must still end and say so.
    deadline = threading.Timer(60.0, microphone.close)
    deadline.daemon = True
    deadline.start()
    chunks = []
    num_reopens, num_wanted = 0, None
    for chunk in microphone:
        if not chunks:
            print("HEARD", flush=True)
        if microphone.num_reopens > num_reopens:
            num_reopens = microphone.num_reopens
            print("AGAIN", flush=True)
        chunks.append(chunk)
        num_wanted = float(seconds) * chunk.sample_rate_hz / len(chunk.samples)
        # With 0 seconds: until one reopened stream has given a second of sound.
        if float(seconds) == 0 and num_reopens == 0:
            kept = len(chunks)
            continue
        if len(chunks) >= (num_wanted or kept + 50):
            microphone.close()
    np.savez(
        path,
        samples=np.concatenate([chunk.samples for chunk in chunks] or [np.zeros((0, 1))]),
        stamps_ns=[chunk.stamp_ns for chunk in chunks],
        sizes=[len(chunk.samples) for chunk in chunks],
        rate_hz=microphone.sample_rate_hz,
        num_reopens=microphone.num_reopens,
        num_overruns=microphone.num_overruns,
    )
    print("DONE", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
