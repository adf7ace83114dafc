"""What /diagnostics says of a node's running session."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from av_grounding.config import GroundingConfig
from av_grounding.streaming.liveness import SILENCE_S, RateMeter
from av_grounding.transports.messages import MalformedCounter, Status
from av_grounding.transports.topics.status_report import (
    ERROR,
    OK,
    WARN,
    MalformedReporter,
    StatusReport,
    sync_report,
)

if TYPE_CHECKING:
    from av_grounding.transports.ros.outputs import RosOutputs
    from av_grounding.transports.ros.session import Session

MIN_COVERAGE_PCT = 90.0


class Monitor:
    """Turns a session's counters into statuses; `statuses` is called about once a second."""

    def __init__(
        self, node_name: str, session: Session, outputs: RosOutputs, malformed: MalformedCounter
    ) -> None:
        self._name = node_name
        self._session = session
        self._outputs = outputs
        self._malformed = MalformedReporter(malformed)
        self._started_s = time.monotonic()
        self._rates = {name: RateMeter() for name in ("image", "audio", "output")}
        self._coverage: deque[tuple[int, int]] = deque(maxlen=10)

    def statuses(self, config: GroundingConfig, is_enabled: bool) -> list[Status]:
        """inputs, sync, inference and, on one, gpu."""
        now_s = time.monotonic()
        reports = {
            "inputs": self._inputs(now_s, is_enabled),
            "sync": self._sync(),
            "inference": self._inference(now_s, config, is_enabled),
        }
        gpu = gpu_values(self._session.backend_facts)
        if gpu is not None:
            reports["gpu"] = StatusReport(gpu)
        return [report.status(f"{self._name}: {name}") for name, report in reports.items()]

    def _inputs(self, now_s: float, is_enabled: bool) -> StatusReport:
        inputs, counters = self._session.inputs, self._session.runner.counters
        video, audio = inputs.video, inputs.audio
        report = StatusReport()
        num_dropped = (
            video.num_replaced + counters["num_frames_replaced"] + counters["num_frames_too_old"]
        )
        report.values |= {
            "image_topic": inputs.image_topic,
            "image_hz": self._rates["image"].update(video.num_received, now_s),
            "image_dropped": num_dropped,
            "image_skipped": video.num_skipped,
            "image_decode_p50_ms": 1e3 * video.decoding_s.percentile(50),
            "audio_topic": inputs.audio_topic or "device",
            "audio_hz": self._rates["audio"].update(audio.num_chunks, now_s),
            "sample_rate_in": audio.sample_rate_hz,
            "dbfs": audio.level_dbfs,
            "clipping_pct": 100.0 * audio.num_clipped / max(1, audio.num_samples),
            "overruns": counters["num_audio_overruns"]
            + getattr(audio.source, "num_overruns", 0)
            + getattr(audio.source, "num_replaced", 0),
        }
        if not is_enabled:
            report.complaints.append("disabled by ~/enable")
            return report
        silent_s = now_s - max(self._started_s, video.last_received_s or 0.0)
        if silent_s > SILENCE_S:
            report.complain(f"no image for {silent_s:.0f} s")
        silent_s = now_s - max(self._started_s, audio.last_heard_s or 0.0)
        if silent_s > SILENCE_S:
            report.complain(f"no audio for {silent_s:.0f} s")
        elif now_s - (audio.last_sounding_s or now_s) > SILENCE_S:
            report.complain("audio is all zeros: is the microphone muted?")
        if audio.num_channels_missing:
            report.complain(
                f"audio.channel {audio.channel}: the sound has {audio.num_channels_missing} "
                "channels; all are heard"
            )
        self._malformed.add_to(report)
        for name, number in inputs.num_lost.items():
            report.values[f"{name}_lost"] = number
        losses = filter(None, map(inputs.loss, inputs.num_lost))
        for line in {*inputs.incompatible, *losses, *self._outputs.incompatible}:
            report.complain(line)
        return report

    def _sync(self) -> StatusReport:
        stats: Mapping[str, Any] = self._session.stream.stats
        self._coverage.append((stats["num_audio_samples"], stats["num_gap_samples"]))
        heard, missing = (
            last - first for first, last in zip(self._coverage[0], self._coverage[-1], strict=True)
        )
        report = sync_report(stats, is_heard=heard > 0)
        report.values["resets"] = self._session.stream.num_resets
        if heard + missing:
            coverage_pct = 100.0 * heard / (heard + missing)
            report.values["audio_coverage_pct"] = coverage_pct
            if coverage_pct < MIN_COVERAGE_PCT:
                report.complain(f"only {coverage_pct:.0f} % of the sound arrives")
        return report

    def _inference(self, now_s: float, config: GroundingConfig, is_enabled: bool) -> StatusReport:
        session, outputs = self._session, self._outputs
        counters = session.runner.counters
        report = StatusReport(
            {
                **{f"backend_{k}": v for k, v in session.backend_facts.items()},
                "p50_ms": 1e3 * session.stream.grounding_s.percentile(50),
                "p99_ms": 1e3 * session.stream.grounding_s.percentile(99),
                "e2e_p50_ms": outputs.age_ms.percentile(50),
                "e2e_p99_ms": outputs.age_ms.percentile(99),
                "output_hz": self._rates["output"].update(outputs.num_published, now_s),
                "skipped": counters["num_frames_replaced"] + counters["num_frames_too_old"],
                "restarts": session.num_restarts,
            }
        )
        if outputs.locator is not None:
            for reason, number in outputs.locator.missing.items():
                report.values[f"no point: {reason}"] = number
        age_ms = outputs.age_ms.percentile(50)
        if outputs.is_clock_missing:
            report.complain("use_sim_time is set, but nothing publishes /clock")
        elif age_ms > config.max_image_age_ms and is_enabled:
            report.complain(
                f"heatmaps are {age_ms:.0f} ms old, over max_image_age_ms: "
                + (
                    "play the bag with --clock and set use_sim_time"
                    if age_ms > 60e3
                    else "a slow camera, network or machine; see max_rate"
                )
            )
        if session.error is not None:
            report.complain(f"stopped: {session.error}; starting again", ERROR)
        return report


def gpu_values(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Name and memory of the GPU that the backend runs on, or None."""
    torch = sys.modules.get("torch")
    if torch is None or not str(facts.get("device", "")).startswith("cuda"):
        return None
    device = str(facts["device"])
    engine = {
        f"engine_{key}": facts[f"engine_{key}"]
        for key in ("key", "source")
        if f"engine_{key}" in facts
    }
    return {
        "name": torch.cuda.get_device_name(device),
        "vram_used_mb": torch.cuda.memory_reserved(device) / 2**20,
        **engine,
    }


def idle_status(node_name: str, state: str, error: str) -> Status:
    """What a node says that is not active; `state` is the lifecycle's word for it."""
    if error:
        return Status(f"{node_name}: lifecycle", ERROR, f"{state}: {error}")
    if state == "finalized":
        line = "finalized: it was shut down; start it anew"
        return Status(f"{node_name}: lifecycle", WARN, line)
    return Status(f"{node_name}: lifecycle", OK, state)
