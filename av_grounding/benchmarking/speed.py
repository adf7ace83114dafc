"""The speed of a bundle on this machine: the demo scene in real time, on two cores.

The pictures are drawn before the clock starts, so that what is measured is the component alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from av_grounding.benchmarking.machine import NUM_CORES, machine_facts, resident_mb
from av_grounding.benchmarking.timed import TimedBackend, TimedStream
from av_grounding.grounder import Grounder
from av_grounding.image import ResizeTransform
from av_grounding.sources.demo import FRAME_RATE_HZ, DemoAudio, DemoVideo
from av_grounding.sources.playback import PlaybackClock
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.runner import Runner
from av_grounding.synthetic.demo_scene import DURATION_S, DemoScene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.types import Frame, Grounding

STILL_S = 0.5
"""A drawn picture is shown for this long: all frames of the demo would fill 360 MB."""
BUSY_S = 16.0
"""A moment of the demo at which a sound and a sentence have just been heard together."""
SETTLE_S = 10.0
"""Memory still grows for this long after the start, while buffers fill."""
NUM_REPEATS = 20
LEAST_BUDGET_S, BUDGET_SHARE = 5.0, 0.5
"""What is measured after the run may take this long, or this share of the run if that is more."""

# Name -> where it stands in the report, its bound, and whether the bound is the least allowed.
TARGETS = {
    "frame to heatmap, p50, ms": ("latency_ms.p50", 25.0, False),
    "frame to heatmap, p99, ms": ("latency_ms.p99", 60.0, False),
    "oldest published, ms": ("latency_ms.max", 100.0, False),
    "audio chunks lost": ("audio.num_lost", 0.0, False),
    "CPU, % of two cores": ("cpu_percent", 60.0, False),
    "resident memory, MB": ("memory_mb.max", 700.0, False),
    "memory growth, MB a minute": ("memory_mb.growth_per_minute", 0.5, False),
    "not encoder, p50, ms a frame": ("not_encoder_ms.p50", 2.0, False),
    "CPU of the whole history anew / streaming": ("cpu_ratio.whole_history", 8.0, True),
}


class LatencySink:
    """A Sink that notes the age of every published frame and once a second the memory."""

    def __init__(self) -> None:
        self.ages_s: list[float] = []
        self.memory: list[tuple[float, float]] = []
        """(seconds, resident megabytes)"""

    def write(self, frame: Frame, heatmaps: Grounding) -> None:
        self.ages_s.append((time.time_ns() - frame.stamp_ns) / 1e9)
        now_s = time.monotonic()
        if not self.memory or now_s - self.memory[-1][0] >= 1.0:
            self.memory.append((now_s, resident_mb()))

    def close(self) -> None:
        pass


def measure_speed(
    grounder: Grounder,
    duration_s: float,
    on_progress: Callable[[float], None] | None = None,
    *,
    max_image_age_s: float = 0.1,
) -> dict[str, Any]:
    """Run the demo in real time for `duration_s` and report what it took; see `TARGETS`.

    What could not be measured, such as the latency of a run that answered no frame, is None. On a
    machine that is too slow it ends on time all the same; `real_time` says what it would take.
    """
    scene = DemoScene()
    stills = [scene.frame(time_s).image for time_s in np.arange(0.0, DURATION_S, STILL_S)]
    backend = TimedBackend(grounder.backend)
    stream = TimedStream(GroundingStream(backend, grounder.config), backend)
    watch, clock = LatencySink(), PlaybackClock(realtime=True)
    runner = Runner(
        stream,
        DemoVideo(lambda time_s: stills[int(time_s % DURATION_S / STILL_S)], clock, duration_s),
        DemoAudio(scene.waveform, clock, duration_s),
        [watch],
        max_image_age_s=max_image_age_s,
        on_progress=on_progress,
    )
    machine = machine_facts(NUM_CORES)
    cpu_s = time.process_time()
    run = runner.run()
    cpu_s = time.process_time() - cpu_s
    cpu_ms: dict[str, float | None] = {
        "streaming": 1e3 * cpu_s / max(run.num_frames_published, 1),
        **cpu_without_caches(
            grounder, scene, stills[0], max(LEAST_BUDGET_S, BUDGET_SHARE * duration_s)
        ),
    }
    report = {
        "duration_s": round(run.duration_s, 3),
        "input": "640x480 at 15 Hz, sound in chunks of 20 ms",
        "machine": machine,
        "model": grounder.backend.describe(),
        "latency_ms": percentiles_ms(watch.ages_s),
        "frames": {
            "num_captured": run.num_frames_captured,
            "num_published": run.num_frames_published,
            "num_replaced": run.num_frames_replaced,
            "num_too_old": run.num_frames_too_old,
            "num_unanswered": run.num_frames_unanswered,
        },
        "audio": {
            "num_chunks": run.num_audio_chunks,
            "num_lost": run.num_audio_overruns,
            "num_gap_samples": run.stream["num_gap_samples"],
        },
        "cpu_percent": 100.0 * cpu_s / (NUM_CORES * run.duration_s),
        "memory_mb": {
            "max": max((mb for _, mb in watch.memory), default=resident_mb()),
            "growth_per_minute": growth_per_minute(watch.memory),
            "of_which_source": sum(still.nbytes for still in stills) / 2**20,
        },
        "not_encoder_ms": percentiles_ms(stream.not_encoder_s),
        "cpu_ms_per_heatmap": cpu_ms,
        "real_time": real_time(grounder, scene, stills[0]),
        "cpu_ratio": {
            name: None if value is None else value / cpu_ms["streaming"]
            for name, value in cpu_ms.items()
            if name != "streaming"
        },
    }
    report["targets"] = {name: judge(report, *target) for name, target in TARGETS.items()}
    return report


def real_time(
    grounder: Grounder, scene: DemoScene, image: UInt8[np.ndarray, "H W 3"]
) -> dict[str, float]:
    """What every frame and every hop in time would take of this machine.

    `image_ms` and `window_ms` are one call each, after one that warms up; `load` is how many
    seconds of the encoders a second of the demo needs: over 1, frames are dropped or the hop
    widens.
    """
    spec = grounder.spec
    placement = ResizeTransform.fit(*image.shape[:2], spec.short_side_px, spec.patch_px)
    given, window = placement.apply(image), scene.waveform[: spec.num_window_samples]
    window = np.pad(window, (0, spec.num_window_samples - len(window)))
    spent_s = []
    # Both encoders ran before; a second call is not timed twice on a machine that is slow.
    for encode in (
        lambda: np.asarray(grounder.backend.encode_image(given)),
        lambda: grounder.backend.encode_audio(window),
    ):
        began_s = time.perf_counter()
        encode()
        spent_s.append(time.perf_counter() - began_s)
    image_s, window_s = spent_s
    load = FRAME_RATE_HZ * image_s + window_s / (grounder.config.hop_s or spec.hop_s)
    return {"image_ms": 1e3 * image_s, "window_ms": 1e3 * window_s, "load": load}


def cpu_without_caches(
    grounder: Grounder, scene: DemoScene, image: UInt8[np.ndarray, "H W 3"], budget_s: float
) -> dict[str, float | None]:
    """CPU milliseconds per heatmap where nothing is kept from one frame to the next.

    `one_window`: one audio window and the image, and the whole similarity volume; it knows
    nothing of what was heard before. `whole_history`: the heatmap that the stream gives, from
    all the sound it rests on; None where that does not fit in `budget_s`.
    """
    spec, stop = grounder.spec, round(BUSY_S * SAMPLE_RATE_HZ)
    window = scene.waveform[stop - round(spec.window_s * SAMPLE_RATE_HZ) : stop]
    stream = grounder.stream()
    history = scene.waveform[max(0, stop - round(stream.config.history_s * SAMPLE_RATE_HZ)) : stop]
    placement = ResizeTransform.fit(*image.shape[:2], spec.short_side_px, spec.patch_px)

    def one_window() -> None:
        tokens = grounder.backend.encode_image(placement.apply(image))
        heard = grounder.backend.encode_audio(window)
        queries = np.ascontiguousarray(heard.transpose(0, 2, 1))
        grounder.backend.similarity(tokens, queries).mean(axis=1)

    def whole_history() -> None:
        stream.reset()
        stream.push_audio(history, 0, SAMPLE_RATE_HZ)
        stream.push_frame(image, round(1e9 * len(history) / SAMPLE_RATE_HZ))

    began_s = time.perf_counter()
    result: dict[str, float | None] = {"one_window": cpu_ms_of(one_window, budget_s / 2)}
    left_s = budget_s - (time.perf_counter() - began_s)
    num_windows = len(history) / SAMPLE_RATE_HZ / (stream.config.hop_s or spec.hop_s)
    fits = num_windows * result["one_window"] / 1e3 < left_s
    result["whole_history"] = cpu_ms_of(whole_history, left_s) if fits else None
    return result


def cpu_ms_of(task: Callable[[], None], budget_s: float = float("inf")) -> float:
    """Mean CPU milliseconds of a call, all threads together.

    After a call that warms up there are `NUM_REPEATS`, fewer where they would take longer than
    `budget_s`, but one.
    """
    began_s = time.perf_counter()
    task()
    each_s = max(time.perf_counter() - began_s, 1e-9)
    num_calls = int(min(NUM_REPEATS, max(1.0, budget_s / each_s - 1)))
    began = time.process_time()
    for _ in range(num_calls):
        task()
    return 1e3 * (time.process_time() - began) / num_calls


def percentiles_ms(seconds: list[float]) -> dict[str, float | None]:
    """p50, p90, p99 and the maximum in milliseconds; None without any."""
    names = ("p50", "p90", "p99", "max")
    if not seconds:
        return dict.fromkeys(names)
    values = 1e3 * np.percentile(seconds, (50, 90, 99, 100))
    return dict(zip(names, values.tolist(), strict=True))


def growth_per_minute(memory: list[tuple[float, float]]) -> float | None:
    """Slope of (seconds, megabytes) in megabytes a minute, once things have settled.

    None where fewer than three points are left.
    """
    settled = np.array([row for row in memory if row[0] - memory[0][0] >= SETTLE_S])
    if len(settled) < 3:
        return None
    time_s, used_mb = settled.T
    return float(60.0 * np.polyfit(time_s - time_s[0], used_mb, 1)[0])


def judge(report: dict[str, Any], path: str, bound: float, is_least: bool) -> dict[str, Any]:
    """The value at a dotted path beside its bound; `met` is None where nothing was measured."""
    value: Any = report
    for key in path.split("."):
        value = value[key]
    if value is None or np.isnan(value):
        return {"value": None, "bound": bound, "met": None}
    return {"value": value, "bound": bound, "met": value >= bound if is_least else value <= bound}
