"""What /diagnostics says of a run that publishes over DDS."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from av_grounding.streaming.liveness import SILENCE_S, RateMeter
from av_grounding.transports.messages import MalformedCounter, Status
from av_grounding.transports.topics.status_report import (
    MalformedReporter,
    StatusReport,
    sync_report,
)

if TYPE_CHECKING:
    from av_grounding.transports.dds.node import DdsPublisher


class DdsMonitor:
    """Statuses of a run: its inputs, synchronisation, inference and this transport."""

    def __init__(
        self,
        publisher: DdsPublisher,
        counters: Callable[[], Mapping[str, Any]],
        backend_facts: Mapping[str, Any] | None = None,
        malformed: MalformedCounter | None = None,
    ) -> None:
        """`counters`: as of `Runner.counters`."""
        self._publisher = publisher
        self._counters = counters
        self._facts = dict(backend_facts or {})
        self._malformed = MalformedReporter(malformed or MalformedCounter())
        self._image_hz = 0.0
        self._rates = {name: RateMeter() for name in ("image", "audio", "output")}
        self._changed_s: dict[str, tuple[int, float]] = {}

    def statuses(self) -> list[Status]:
        counters, now_s = self._counters(), time.monotonic()
        stream = counters["stream"]
        reports = {
            "inputs": self._inputs(counters, now_s),
            "sync": sync_report(stream, is_heard=stream["num_audio_samples"] > 0),
            "inference": self._inference(counters, now_s),
            "transport": self._transport(),
        }
        node = self._publisher.node_name
        return [report.status(f"{node}: {name}") for name, report in reports.items()]

    def _silent_s(self, name: str, count: int, now_s: float) -> float:
        """Seconds since a counter last changed."""
        if self._changed_s.get(name, (-1, 0.0))[0] != count:
            self._changed_s[name] = (count, now_s)
        return now_s - self._changed_s[name][1]

    def _inputs(self, counters: Mapping[str, Any], now_s: float) -> StatusReport:
        num_images, num_chunks = counters["num_frames_captured"], counters["num_audio_chunks"]
        self._image_hz = self._rates["image"].update(num_images, now_s)
        report = StatusReport(
            {
                "image_hz": self._image_hz,
                "image_dropped": counters["num_frames_replaced"] + counters["num_frames_too_old"],
                "audio_hz": self._rates["audio"].update(num_chunks, now_s),
                "overruns": counters["num_audio_overruns"],
            }
        )
        for name, count in (("image", num_images), ("audio", num_chunks)):
            silent_s = self._silent_s(name, count, now_s)
            if silent_s > SILENCE_S:
                report.complain(f"no {name} for {silent_s:.0f} s")
        self._malformed.add_to(report)
        return report

    def _inference(self, counters: Mapping[str, Any], now_s: float) -> StatusReport:
        publisher = self._publisher
        output_hz = self._rates["output"].update(publisher.num_published, now_s)
        report = StatusReport(
            {
                **{f"backend_{key}": value for key, value in self._facts.items()},
                "output_hz": output_hz,
                "e2e_p50_ms": publisher.age_ms.percentile(50),
                "e2e_p99_ms": publisher.age_ms.percentile(99),
                "skipped": counters["num_frames_replaced"] + counters["num_frames_too_old"],
            }
        )
        if output_hz == 0.0 and self._image_hz > 0.0:
            report.complain(
                f"images come but no heatmaps go out: {counters['num_frames_too_old']} were "
                "older than max_image_age_ms when their turn came"
            )
        return report

    def _transport(self) -> StatusReport:
        publisher = self._publisher
        report = StatusReport(
            {
                "frames_published": publisher.num_published,
                "frames_dropped": publisher.num_dropped,
                "messages_refused": publisher.num_refused,
                "frames_waiting": publisher.num_waiting,
                **{f"subscribers {k}": v for k, v in publisher.num_subscribers.items() if v},
            }
        )
        for line in publisher.incompatible:
            report.complain(line)
        return report
