"""What watching costs the pipeline: p99 latency and CPU with clients, over those without.

python -m tests.helpers.measure_load [--seconds S] [--rounds N] [--without-model]

The demo runs in real time on the shipped bundle; in short blocks, again and again in turn, nobody
watches, one client, ten, one that reads nothing, and one whose process is frozen like a closed
laptop. All blocks are of one run, so that what else the machine does meets all alike. The CPU is
that of the viewer's own threads. Without the model, frames are handed to the viewer alone, 15 a
second: its CPU and the time that a `write` takes then mean something on a busy machine, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np

CONDITIONS = {"nobody": 0, "one": 1, "ten": 10, "stalled": 1, "closed laptop": 1}
SETTLE_S = 1.0
"""After a change of the clients, so long nothing counts."""


async def watch(port: int, num_clients: int, reads: bool) -> None:
    """Clients that look at no more of a packet than they must."""
    import aiohttp

    from av_grounding.viewer.messages import PROTOCOL

    async def one(session: aiohttp.ClientSession) -> None:
        address = f"ws://127.0.0.1:{port}/live"
        async with session.ws_connect(address, max_msg_size=0, autoping=reads) as socket:
            await socket.send_json({"type": "hello", "protocol": PROTOCOL})
            await socket.receive()
            while not reads:
                await asyncio.sleep(1.0)
            async for _ in socket:
                await socket.send_str('{"type":"ack"}')

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session) for _ in range(num_clients)))


class Ages:
    """A Sink that files every answer's age under what goes on."""

    def __init__(self) -> None:
        self.condition: str | None = None
        self.ages_ms: dict[str, list[float]] = {name: [] for name in CONDITIONS}

    def write(self, frame, heatmaps) -> None:
        if self.condition is not None:
            self.ages_ms[self.condition].append((time.time_ns() - frame.stamp_ns) / 1e6)

    def close(self) -> None:
        pass


def start_clients(port: int, condition: str) -> subprocess.Popen | None:
    if CONDITIONS[condition] == 0:
        return None
    command = [sys.executable, __file__, "--watch", str(port), condition]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def viewer_cpu_s() -> float:
    """CPU seconds of the viewer's threads so far."""
    clocks = [
        time.pthread_getcpuclockid(thread.ident)
        for thread in threading.enumerate()
        if thread.name.startswith("av-viewer")
    ]
    return sum(map(time.clock_gettime, clocks))


def measure_alone(args: argparse.Namespace) -> dict:
    """What the viewer takes by itself, fed with the demo's frames and the maps of a real grid."""
    from av_grounding.synthetic.demo_scene import DemoScene
    from av_grounding.types import Frame, Grounding
    from tests.helpers.answers import answer as head_answer
    from tests.helpers.live_client import open_viewer

    scene, rng = DemoScene(), np.random.default_rng(0)
    stills = [scene.frame(time_s).image for time_s in np.arange(0.0, 8.0, 0.5)]
    maps = rng.random((2, 10, 14), np.float32)
    writes, viewer, stopped = Ages(), open_viewer(clock_ns=time.time_ns), threading.Event()
    cpu_s: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    threading.Thread(
        target=direct, args=(viewer, writes, args, cpu_s, stopped.set), daemon=True
    ).start()
    number = 0
    while not stopped.wait(1 / 15):
        number += 1
        stamp_ns = time.time_ns()
        frame = Frame(stills[number // 8 % len(stills)], stamp_ns)
        began_ns = time.thread_time_ns()
        heads = {"sound": head_answer(maps[0]), "speech": head_answer(maps[1])}
        viewer.write(frame, Grounding(heads, stamp_ns))
        taken_ms = (time.thread_time_ns() - began_ns) / 1e6
        if writes.condition is not None:
            writes.ages_ms[writes.condition].append(taken_ms)
    viewer.close()
    return report(writes.ages_ms, cpu_s)


def direct(viewer, ages, args, cpu_s, stop) -> None:
    """Change the clients block by block and note the CPU of each."""
    names = list(CONDITIONS)
    for number in range(args.rounds):
        # Each round begins elsewhere, so that no condition always follows the same one.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            process = start_clients(viewer.address.port, name)
            while viewer.num_clients < CONDITIONS[name]:
                time.sleep(0.02)
            time.sleep(SETTLE_S)
            if name == "closed laptop":
                process.send_signal(signal.SIGSTOP)
            ages.condition, began_s, began = name, time.monotonic(), viewer_cpu_s()
            time.sleep(args.seconds)
            ages.condition = None
            cpu_s[name].append((viewer_cpu_s() - began) / (time.monotonic() - began_s))
            if process is not None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
            while viewer.num_clients:
                time.sleep(0.02)
    stop()


def measure(args: argparse.Namespace) -> dict:
    from av_grounding.config import drawn_world_bundle
    from av_grounding.grounder import Grounder
    from av_grounding.sources.demo import DemoAudio, DemoVideo
    from av_grounding.sources.playback import PlaybackClock
    from av_grounding.streaming.runner import Runner
    from av_grounding.synthetic.demo_scene import DURATION_S, DemoScene
    from tests.helpers.live_client import open_viewer

    scene = DemoScene()
    stills = [scene.frame(time_s).image for time_s in np.arange(0.0, DURATION_S, 0.5)]
    stream = Grounder.load(drawn_world_bundle()).stream()
    clock = PlaybackClock(realtime=True)
    ages, viewer = Ages(), open_viewer(clock_ns=time.time_ns)
    runner = Runner(
        stream,
        DemoVideo(lambda time_s: stills[int(time_s % DURATION_S / 0.5)], clock, 1e6),
        DemoAudio(scene.waveform, clock, 1e6),
        [ages, viewer],
        max_image_age_s=60.0,
    )
    stream.on_voice, viewer.stats = viewer.write_voice, lambda: runner.counters
    cpu_s: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    director = threading.Thread(
        target=direct, args=(viewer, ages, args, cpu_s, runner.stop), daemon=True
    )
    director.start()
    runner.run()
    return report(ages.ages_ms, cpu_s)


def report(ages_ms: dict[str, list[float]], cpu_s: dict[str, list[float]]) -> dict:
    """Percentiles and ratios, with the spread that resampling the frames gives."""
    rng = np.random.default_rng(0)
    base = np.array(ages_ms["nobody"])
    result = {"load": os.getloadavg()[0], "num_cores": len(os.sched_getaffinity(0))}
    for name, values in ages_ms.items():
        ages = np.array(values)
        ratios = [
            np.percentile(rng.choice(ages, ages.size), 99)
            / np.percentile(rng.choice(base, base.size), 99)
            for _ in range(500)
        ]
        result[name] = {
            "num_frames": ages.size,
            "p50_ms": round(float(np.percentile(ages, 50)), 3),
            "p99_ms": round(float(np.percentile(ages, 99)), 3),
            "p99_ratio": round(float(np.percentile(ages, 99) / np.percentile(base, 99)), 3),
            "p99_ratio_90%": [round(float(q), 3) for q in np.percentile(ratios, (5, 95))],
            "viewer_cpu_percent": round(100 * float(np.mean(cpu_s[name])), 2),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a block")
    parser.add_argument("--rounds", type=int, default=6, help="blocks of each kind")
    parser.add_argument("--without-model", action="store_true", help="the viewer by itself")
    parser.add_argument("--watch", nargs=2, metavar=("PORT", "CONDITION"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.watch:
        port, condition = args.watch
        asyncio.run(watch(int(port), CONDITIONS[condition], reads=condition != "stalled"))
    else:
        measured = measure_alone(args) if args.without_model else measure(args)
        print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
