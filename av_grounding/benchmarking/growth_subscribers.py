"""What subscribers cost the publisher: heatmaps and overlays over DDS on this machine.

The subscribers live in another process (`python -m av_grounding.benchmarking.growth_subscribers
NUM`), so that only the publisher's CPU time counts here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from av_grounding.sources.demo import FRAME_RATE_HZ
from av_grounding.types import Frame, Grounding, HeadAnswer

HEADS = ("sound", "speech")
TOPICS = ("sound/heatmap", "speech/heatmap", "sound/overlay")
NAMESPACE, TYPE_NAME = "/growth", "sensor_msgs/msg/Image"
DOMAIN_ID = 101
SECONDS, PATIENCE_S = 6.0, 30.0


def measure_subscribers(numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The curve; nothing without the DDS packages, or where subscribers do not come in time."""
    try:
        from av_grounding.transports.dds.bus import Bus
        from av_grounding.transports.dds.node import DdsPublisher
        from av_grounding.transports.dds.settings import DdsSettings
    except ImportError:
        return
    points = []
    for num in numbers:
        publisher = DdsPublisher(Bus(DdsSettings(DOMAIN_ID), namespace=NAMESPACE), HEADS)
        module = "av_grounding.benchmarking.growth_subscribers"
        peers = subprocess.Popen([sys.executable, "-m", module, str(num)], stdin=subprocess.PIPE)
        try:
            deadline_s = time.monotonic() + PATIENCE_S
            while any(publisher.num_subscribers[topic] < num for topic in TOPICS):
                if time.monotonic() > deadline_s:
                    return
                time.sleep(0.05)
            points.append({"x": num, "cpu_ms": _cpu_ms_a_second(publisher)})
        finally:
            assert peers.stdin is not None
            peers.stdin.close()
            peers.wait()
            publisher.close()
    yield {"curve": "subscribers of two heatmaps and an overlay, DDS", "points": points}


def _cpu_ms_a_second(publisher: Any) -> float:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (480, 640, 3), np.uint8)
    logits = rng.standard_normal((1, 10, 13)).astype(np.float32)
    began_s, cpu_s = time.monotonic(), time.process_time()
    for number in range(round(SECONDS * FRAME_RATE_HZ)):
        time.sleep(max(0.0, began_s + number / FRAME_RATE_HZ - time.monotonic()))
        stamp_ns = time.time_ns()
        heads = {head: HeadAnswer(logits) for head in HEADS}
        publisher.write(Frame(image, stamp_ns), Grounding(heads, stamp_ns, image_size=(480, 640)))
    return 1e3 * (time.process_time() - cpu_s) / (time.monotonic() - began_s)


def subscribe(num: int) -> None:
    """As many participants that take every topic, until stdin ends."""
    from av_grounding.transports.dds.bus import Bus
    from av_grounding.transports.dds.settings import DdsSettings

    buses = [Bus(DdsSettings(DOMAIN_ID), f"peer{i}", NAMESPACE) for i in range(num)]
    for bus in buses:
        for topic in TOPICS:
            bus.reader(topic, TYPE_NAME, lambda cdr, received_ns: None)
    sys.stdin.read()
    for bus in buses:
        bus.close()


if __name__ == "__main__":
    subscribe(int(sys.argv[1]))
