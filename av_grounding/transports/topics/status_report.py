"""Status lines of /diagnostics, as the ROS node and a run over DDS both write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from av_grounding.transports.messages import MalformedCounter, Status

OK, WARN, ERROR = 0, 1, 2
MAX_LAG_MS = 1000.0


@dataclass
class StatusReport:
    """Values of one status line and what is wrong with them, the worst first."""

    values: dict[str, Any] = field(default_factory=dict)
    level: int = OK
    complaints: list[str] = field(default_factory=list)

    def complain(self, message: str, level: int = WARN) -> None:
        if level > self.level:
            self.complaints.insert(0, message)
        else:
            self.complaints.append(message)
        self.level = max(self.level, level)

    def status(self, name: str) -> Status:
        values = {
            key: "" if isinstance(value, float) and math.isnan(value) else value
            for key, value in self.values.items()
        }
        return Status(name, self.level, "; ".join(self.complaints) or "ok", values)


def sync_report(stats: Mapping[str, Any], *, is_heard: bool) -> StatusReport:
    """What a stream's counters (`GroundingStream.stats`) say of sound against images.

    `is_heard`: whether there was sound, without which its lag means nothing.
    """
    report = StatusReport(
        {
            "audio_lag_ms": stats["audio_lag_ms"],
            "drift_ppm": stats["drift_ppm"],
            "gaps": stats["num_gaps"],
            "out_of_order": stats["num_overlaps"]
            + stats["num_repeated_chunks"]
            + stats["num_frame_stamp_steps_back"],
            "audio_resets": stats["num_audio_resets"],
            "hop_s": stats["hop_s"],
        }
    )
    if "separation_latency_s" in stats:
        report.values["separation_latency_s"] = stats["separation_latency_s"]
        report.values["separation_drops"] = stats["num_separation_drops"]
    if stats["hop_widened"] > 1.0:
        report.complain(
            f"sound is encoded every {stats['hop_s']:.1f} s, {stats['hop_widened']:.1f} times the "
            "hop that was set, for which this machine is too slow"
        )
    if is_heard and abs(stats["audio_lag_ms"]) > MAX_LAG_MS:
        report.complain(
            f"sound and images are stamped {stats['audio_lag_ms'] / 1e3:.1f} s apart: use one "
            "clock for both, or set sync.offset_ms"
        )
    return report


class MalformedReporter:
    """Messages that could not be read: their numbers, and a complaint while they grow."""

    def __init__(self, counter: MalformedCounter) -> None:
        self._counter = counter
        self._num_seen = counter.total

    def add_to(self, report: StatusReport) -> None:
        counter = self._counter
        report.values["malformed"] = counter.total
        report.values |= {f"malformed {kind}": num for kind, num in counter.as_dict().items()}
        if counter.total > self._num_seen:
            report.complain(f"malformed: {counter.last_message}")
        self._num_seen = counter.total
