"""Publish to receive over DDS between two processes on this machine: latency, losses, CPU.

    python -m tests.helpers.bench_dds [--seconds 20] [--out bench_dds.json]

Run it on a machine that does nothing else; the target is a p99 of 15 ms for heatmaps.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from av_grounding.transports.dds.node import DdsPublisher
from av_grounding.transports.topics.table import topics_of
from tests.helpers.dds_helpers import HEADS, Peer, open_bus, scene, wait_until

RATE_HZ = 30
HEATMAPS = ("sound/heatmap", "speech/heatmap")
CASES = {
    "heatmaps on a grid of 14x18": ((14, 18), HEATMAPS),
    "heatmaps of 224x224": ((224, 224), HEATMAPS),
    "heatmaps of 224x224, overlays of 128x96": ((224, 224), (*HEATMAPS, "sound/overlay")),
}


def measure(shape, names, seconds, reliability):
    publisher = DdsPublisher(open_bus(), HEADS)
    peer = Peer(
        "subscribe",
        *(f"{reliability}:/a/{name}={topics_of(HEADS)[name].type_name}" for name in names),
    )
    peer.wait_for("ready")
    wait_until(lambda: all(publisher.num_subscribers[name] for name in names))
    started_s, cpu_s = time.monotonic(), time.process_time()
    for index in range(RATE_HZ * seconds):
        time.sleep(max(0.0, started_s + index / RATE_HZ - time.monotonic()))
        publisher.write(*scene(index, shape))
    wait_until(lambda: publisher.num_waiting == 0)
    cpu_pct = 100 * (time.process_time() - cpu_s) / (time.monotonic() - started_s)
    lines = [line for line in peer.finish() if line.get("topic", "").endswith("/sound/heatmap")]
    dropped = publisher.num_dropped
    publisher.close()
    ages_ms = [(line["received_ns"] - line["stamp_ns"]) / 1e6 for line in lines]
    p50, p90, p99 = np.percentile(ages_ms, [50, 90, 99])
    return {
        "sent": RATE_HZ * seconds,
        "received": len(lines),
        "dropped": dropped,
        "p50_ms": round(float(p50), 2),
        "p90_ms": round(float(p90), 2),
        "p99_ms": round(float(p99), 2),
        "publisher_cpu_pct": round(cpu_pct, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results = {"load_at_start": os.getloadavg()[0], "num_cpus": os.cpu_count()}
    for name, (shape, names) in CASES.items():
        for reliability in ("reliable", "best_effort"):
            result = measure(shape, names, args.seconds, reliability)
            results[f"{name}, {reliability}"] = result
            print(f"{name}, {reliability}: {result}")
    if args.out is not None:
        args.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
