"""What is measured while a soak runs: ages, old heatmaps, memory, threads and descriptors."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from av_grounding.benchmarking.soak.demo import DRIFT_PPM, NS_PER_S, ORIGIN_NS
from av_grounding.benchmarking.soak.faults import Fault
from av_grounding.benchmarking.speed import resident_mb
from av_grounding.types import Frame, Grounding, Source

FORGOTTEN_S = 8.0
"""After so long without sound both heads must say nothing: the longer hold, and two hops."""


class Delivered:
    """A source of frames that notes when each was delivered."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.delivered_s: dict[int, float] = {}

    def __iter__(self) -> Iterator[Any]:
        for frame in self._source:
            # Only the newest can still be answered.
            while len(self.delivered_s) > 16:
                del self.delivered_s[next(iter(self.delivered_s))]
            self.delivered_s[id(frame)] = time.monotonic()
            yield frame

    def close(self) -> None:
        self._source.close()


class SoakWatch:
    """A Sink that notes the age of every answer, and answers to sound that is long over."""

    def __init__(self, video: Delivered, faults: Sequence[Fault]) -> None:
        self.is_over = False
        """Whether the run is ending: its outputs are about to close."""
        self.num_old = 0
        self.num_checked = 0
        """Answers at moments at which nothing may be heard."""
        self._video = video
        self._silences = [
            (fault.start_s + FORGOTTEN_S, fault.stop_s)
            for fault in faults
            if fault.kind == "microphone gone"
        ]
        self._ages_ms: list[float] = []
        self._lock = threading.Lock()

    def write(self, frame: Frame, grounding: Grounding) -> None:
        delivered_s = self._video.delivered_s.get(id(frame))
        if delivered_s is not None:
            with self._lock:
                self._ages_ms.append(1e3 * (time.monotonic() - delivered_s))
        time_s = (grounding.stamp_ns - ORIGIN_NS) / NS_PER_S
        while self._silences and time_s >= self._silences[0][1]:
            self._silences.pop(0)
        if self._silences and time_s >= self._silences[0][0]:
            self.num_checked += 1
            self.num_old += any(len(one.logits) for one in grounding.heads.values())

    def close(self) -> None:
        self.is_over = True

    def take_ages_ms(self) -> list[float]:
        """The ages since the last time."""
        with self._lock:
            ages, self._ages_ms = self._ages_ms, []
        return ages


class Sampler:
    """Looks at the process `num` times in `duration_s`, in a thread of its own."""

    def __init__(
        self,
        watch: SoakWatch,
        counters: Callable[[], Mapping[str, Any]],
        *,
        speed: float,
        duration_s: float,
        num: int,
        on_sample: Callable[[Mapping[str, float]], None],
    ) -> None:
        self.samples: list[dict[str, float]] = []
        self._watch, self._counters, self._speed = watch, counters, speed
        self._every_s = duration_s / num
        self._on_sample = on_sample
        self._looked_s = self._cpu_s = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak-sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join(10.0)

    def _run(self) -> None:
        began_s = time.monotonic()
        self._looked_s, self._cpu_s = began_s, time.process_time()
        while not self._closed.wait(self._every_s):
            self.samples.append(self._sample(time.monotonic() - began_s))
            self._on_sample(self.samples[-1])

    def _sample(self, time_s: float) -> dict[str, float]:
        ages_ms = self._watch.take_ages_ms()
        p50_ms, p99_ms = np.percentile(ages_ms, (50, 99)) if ages_ms else (np.nan, np.nan)
        stream = self._counters()["stream"]
        drift_ppm = stream["drift_ppm"]
        now_s, cpu_s = time.monotonic(), time.process_time()
        cpu_percent = 100.0 * (cpu_s - self._cpu_s) / (now_s - self._looked_s)
        self._looked_s, self._cpu_s = now_s, cpu_s
        return {
            "time_s": time_s,
            "cpu_percent": cpu_percent,
            "memory_mb": resident_mb(),
            "num_threads": len(os.listdir("/proc/self/task")),
            "num_descriptors": len(os.listdir("/proc/self/fd")),
            "num_frames": len(ages_ms),
            "p50_ms": float(p50_ms),
            "p99_ms": float(p99_ms),
            "drift_ppm": drift_ppm,
            "drift_error_ppm": drift_ppm - DRIFT_PPM,
            "audio_lag_s": stream["audio_lag_ms"] / 1e3 / self._speed,
        }
