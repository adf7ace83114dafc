"""A day of the demo in an hour, with faults: `python -m av_grounding.benchmarking.soak`.

The demo plays in accelerated time through what a robot runs: the runner's threads, the stream,
the model, the live page and, where it is installed, DDS. Every sample of its sound is heard, so
that clocks, counters and indices reach the values of a real day. What costs most is thinned, or
no machine could be that fast: windows follow each other without overlap, and there is a frame
every two seconds. So code that runs once a frame or once a window runs less often than in a real
day, and memory that it lost would show so much smaller; `make bench` runs those at full rate.

Faults come all the time, from the plan in `faults.py`, and subscribers come and go. On a machine
that cannot keep up, time is held up and the run takes longer. Exit code 1 and the names of the
bounds where something is not flat.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from av_grounding.benchmarking.soak import verdict
from av_grounding.benchmarking.soak.demo import FastClock, SoakAudio, SoakVideo
from av_grounding.benchmarking.soak.faults import KINDS, expected_counters, plan
from av_grounding.benchmarking.soak.subscribers import Churn, dds_settings, visit_bus, visit_page
from av_grounding.benchmarking.soak.watch import Delivered, Sampler, SoakWatch
from av_grounding.config import default_bundle
from av_grounding.evaluation.report.content import finite
from av_grounding.files import write_json
from av_grounding.grounder import Grounder
from av_grounding.streaming.runner import Runner
from av_grounding.synthetic.demo_scene import DemoScene
from av_grounding.types import Sink
from av_grounding.viewer.viewer import Viewer

FRAME_RATE_HZ = 0.5
FAULT_EVERY_S = 120.0
NUM_SAMPLES = 120
VISIT_EVERY_S = 3.0
"""Real seconds. The visitors live in this process: each leaves some kilobytes of its own."""
MAX_AUDIO_QUEUE_S = 60.0
"""Of the recording's time: more never waits, since the clock is held up before."""


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if not Path("/proc/self/task").is_dir():
        print("soak: needs Linux: threads and descriptors are read from /proc", file=sys.stderr)
        return 2
    try:
        report = soak(args)
    except KeyboardInterrupt:
        print("soak: interrupted; nothing judged", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    missed = [name for name, row in report["bounds"].items() if not row["is_met"]]
    for name, row in report["bounds"].items():
        sign = "ok  " if row["is_met"] else "MISS"
        print(f"{sign} {name}: {row['value']:.4g} {row['unit']} (at most {row['bound']:g})")
    if report["held_up_s"] > 0.0:
        print(f"     the machine held time up for {report['held_up_s']:.0f} s")
    print(f"{args.out}/soak.json, soak.png")
    if missed:
        print(f"soak: not flat: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m av_grounding.benchmarking.soak", description=__doc__
    )
    parser.add_argument("--hours", type=float, default=24.0, help="of the demo; default 24")
    parser.add_argument("--minutes", type=float, default=60.0, help="that it takes; default 60")
    parser.add_argument("--model", type=Path, default=default_bundle(), metavar="BUNDLE")
    parser.add_argument("--out", type=Path, default=Path("out/soak"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the faults")
    parser.add_argument(
        "--max-slowdown",
        type=float,
        metavar="TIMES",
        help="of p99 and CPU from early to late; more where others use the machine as well",
    )
    parser.add_argument(
        "--max-growth-mb",
        type=float,
        default=verdict.BOUNDS["memory growth"][1],
        help="more for a run of a minute, in which caches still fill",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    args = parser.parse_args(argv)
    if not (args.hours > 0.0 and args.minutes > 0.0):
        parser.error(f"got --hours {args.hours} --minutes {args.minutes}, expected more than 0")
    return args


def soak(args: argparse.Namespace) -> dict[str, Any]:
    """Run, judge and write soak.json and soak.png; the report."""
    args.out.mkdir(parents=True, exist_ok=True)
    duration_s, real_s = 3600.0 * args.hours, 60.0 * args.minutes
    speed = duration_s / real_s
    # The end without faults, so that every counter can be told.
    faults = plan(duration_s - 2 * max(KINDS.values()), FAULT_EVERY_S, args.seed)
    grounder = Grounder.load(args.model)
    stream = grounder.stream(replace(grounder.config, hop_s=grounder.spec.window_s))
    scene, clock = DemoScene(), FastClock(speed)
    audio = SoakAudio(scene, clock, faults, duration_s=duration_s)
    pictures = SoakVideo(scene, clock, faults, duration_s=duration_s, rate_hz=FRAME_RATE_HZ)
    video = Delivered(pictures)
    watch = SoakWatch(video, faults)
    with contextlib.ExitStack() as stack:
        sinks, churns = open_outputs(stack, watch, grounder.spec.head_names)
        runner = Runner(
            stream,
            video,
            audio,
            sinks,
            # A frame is old by the time that passes here, as on a robot.
            max_image_age_s=1.0,
            max_audio_queue_s=MAX_AUDIO_QUEUE_S,
        )
        audio.backlog_s = lambda: runner.counters["queued_audio_s"]
        sampler = Sampler(
            watch,
            lambda: runner.counters,
            speed=speed,
            duration_s=real_s,
            num=NUM_SAMPLES,
            on_sample=lambda sample: None if args.quiet else show(sample, real_s),
        )
        stack.callback(sampler.close)
        for part in (sampler, *churns.values()):
            part.start()
        run = runner.run()
        sampler.close()
        for churn in churns.values():
            churn.close()
    counted = {
        name: (run.stream[name], number) for name, number in expected_counters(faults).items()
    }
    facts = {
        "audio overruns": run.num_audio_overruns,
        "old heatmaps shown as new": watch.num_old if watch.num_checked else math.nan,
        "frames unaccounted for": run.num_frames_unanswered,
        "counters off": sum(found != expected for found, expected in counted.values()),
        "subscribers that failed": sum(churn.num_failures for churn in churns.values()),
    }
    bounds = dict(verdict.BOUNDS)
    if args.max_slowdown is not None:
        bounds |= {name: ("times", args.max_slowdown) for name in verdict.SLOWDOWNS}
    bounds["memory growth"] = ("MB", args.max_growth_mb)
    report = {
        "hours": args.hours,
        "minutes": args.minutes,
        "speed": speed,
        "model": {"bundle": str(args.model), **grounder.backend.describe()},
        "held_up_s": clock.held_up_s,
        "load": os.getloadavg(),
        "num_faults": {kind: sum(fault.kind == kind for fault in faults) for kind in KINDS},
        "num_visits": {name: churn.num_cycles for name, churn in churns.items()},
        "num_checked_in_silence": watch.num_checked,
        "counters": {name: {"found": f, "expected": e} for name, (f, e) in counted.items()},
        "run": run.as_dict(),
        "bounds": verdict.judge(sampler.samples, facts, bounds),
        "samples": sampler.samples,
    }
    write_json(args.out / "soak.json", finite(report))
    title = (
        f"{args.hours:g} h of the demo in {args.minutes:g} min, {sum(1 for _ in faults)} faults"
    )
    verdict.draw(sampler.samples, args.out / "soak.png", title)
    return report


def open_outputs(
    stack: contextlib.ExitStack, watch: SoakWatch, heads: Sequence[str]
) -> tuple[list[Sink], dict[str, Churn]]:
    """The sinks, and those who come to see them and leave again."""
    viewer = Viewer("0", thresholds=dict.fromkeys(heads, 0.5))
    port = viewer.address.port
    sinks: list[Sink] = [watch, viewer]
    churns: dict[str, Churn] = {}

    def let_come(name: str, come_and_go: Callable[[], None]) -> None:
        churns[name] = Churn(f"soak-{name}", come_and_go, VISIT_EVERY_S, lambda: watch.is_over)

    let_come("page", lambda: visit_page(port))
    try:
        from av_grounding.transports.dds.bus import Bus
        from av_grounding.transports.dds.node import DdsPublisher
    except ImportError as error:
        print(f"soak: without DDS ({error})", file=sys.stderr)
    else:
        sinks.append(DdsPublisher(Bus(dds_settings(), "soak", "/soak"), heads))
        let_come("dds", visit_bus)
    for churn in churns.values():
        stack.callback(churn.close)
    return sinks, churns


def show(sample: Mapping[str, float], real_s: float) -> None:
    """One line that is written over, or one a sample where nobody can see it move."""
    line = (
        f"{sample['time_s'] / real_s:4.0%}  {sample['memory_mb']:.0f} MB  "
        f"{sample['num_threads']:.0f} threads  {sample['num_descriptors']:.0f} descriptors  "
        f"p99 {sample['p99_ms']:.0f} ms  drift {sample['drift_ppm']:.0f} ppm"
    )
    end = "\r" if sys.stderr.isatty() and sample["time_s"] < real_s else "\n"
    print(line, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
