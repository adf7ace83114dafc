"""What /diagnostics says of a run that publishes over DDS."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from av_grounding.transports.messages import MalformedCounter, Status
from av_grounding.transports.ros_diagnostics import SILENCE_S, WARN, RateMeter

if TYPE_CHECKING:
    from av_grounding.transports.dds_node import DdsPublisher

MAX_LAG_MS = 1000.0


class DdsMonitor:
    """Statuses of a run: its inputs, synchronisation, inference and this transport."""

    def __init__(
        self,
        publisher: DdsPublisher,
        counters: Callable[[], Mapping[str, Any]],
        backend_facts: Mapping[str, Any] | None = None,
        malformed: MalformedCounter | None = None,
        node_name: str = "grounding",
    ) -> None:
        """`counters`: as of `Runner.counters`."""
        self._publisher = publisher
        self._counters = counters
        self._facts = dict(backend_facts or {})
        self._malformed = malformed or MalformedCounter()
        self._num_malformed = 0
        self._image_hz = 0.0
        self._name = node_name
        self._rates = {name: RateMeter() for name in ("image", "audio", "output")}
        self._changed_s: dict[str, tuple[int, float]] = {}

    def statuses(self) -> list[Status]:
        counters, now_s = self._counters(), time.monotonic()
        stream = counters["stream"]
        return [
            self._inputs(counters, now_s),
            self._sync(stream),
            self._inference(counters, now_s),
            self._transport(),
        ]

    def _status(self, name: str, values: dict[str, Any], complaints: list[str]) -> Status:
        values = {
            key: "" if isinstance(value, float) and math.isnan(value) else value
            for key, value in values.items()
        }
        level = WARN if complaints else 0
        return Status(f"{self._name}: {name}", level, "; ".join(complaints) or "ok", values)

    def _silent_s(self, name: str, count: int, now_s: float) -> float:
        """Seconds since a counter last changed."""
        if self._changed_s.get(name, (-1, 0.0))[0] != count:
            self._changed_s[name] = (count, now_s)
        return now_s - self._changed_s[name][1]

    def _inputs(self, counters: Mapping[str, Any], now_s: float) -> Status:
        num_images, num_chunks = counters["num_frames_captured"], counters["num_audio_chunks"]
        self._image_hz = self._rates["image"].update(num_images, now_s)
        values = {
            "image_hz": self._image_hz,
            "image_dropped": counters["num_frames_replaced"] + counters["num_frames_too_old"],
            "audio_hz": self._rates["audio"].update(num_chunks, now_s),
            "overruns": counters["num_audio_overruns"],
            "malformed": self._malformed.total,
            **{f"malformed {key}": value for key, value in self._malformed.as_dict().items()},
        }
        complaints = []
        for name, count in (("image", num_images), ("audio", num_chunks)):
            silent_s = self._silent_s(name, count, now_s)
            if silent_s > SILENCE_S:
                complaints.append(f"no {name} for {silent_s:.0f} s")
        if self._malformed.total > self._num_malformed:
            complaints.append(f"malformed: {self._malformed.last_message}")
        self._num_malformed = self._malformed.total
        return self._status("inputs", values, complaints)

    def _sync(self, stream: Mapping[str, Any]) -> Status:
        values = {
            "audio_lag_ms": stream["audio_lag_ms"],
            "drift_ppm": stream["drift_ppm"],
            "gaps": stream["num_gaps"],
            "out_of_order": stream["num_overlaps"]
            + stream["num_repeated_chunks"]
            + stream["num_frame_stamp_steps_back"],
            "audio_resets": stream["num_audio_resets"],
        }
        complaints = []
        if abs(stream["audio_lag_ms"]) > MAX_LAG_MS and stream["num_audio_samples"]:
            complaints.append(
                f"sound and images are stamped {stream['audio_lag_ms'] / 1e3:.1f} s apart: use "
                "one clock for both, or set sync.offset_ms"
            )
        return self._status("sync", values, complaints)

    def _inference(self, counters: Mapping[str, Any], now_s: float) -> Status:
        publisher = self._publisher
        age_ms = publisher.age_ms.percentile(50)
        output_hz = self._rates["output"].update(publisher.num_published, now_s)
        values = {
            **{f"backend_{key}": value for key, value in self._facts.items()},
            "output_hz": output_hz,
            "e2e_p50_ms": age_ms,
            "e2e_p99_ms": publisher.age_ms.percentile(99),
            "skipped": counters["num_frames_replaced"] + counters["num_frames_too_old"],
        }
        complaints = []
        if output_hz == 0.0 and self._image_hz > 0.0:
            complaints.append(
                f"images come but no heatmaps go out: {counters['num_frames_too_old']} were "
                "older than max_image_age_ms when their turn came"
            )
        return self._status("inference", values, complaints)

    def _transport(self) -> Status:
        publisher = self._publisher
        values = {
            "frames_published": publisher.num_published,
            "frames_dropped": publisher.num_dropped,
            "messages_refused": publisher.num_refused,
            "frames_waiting": publisher.num_waiting,
            **{f"subscribers {k}": v for k, v in publisher.num_subscribers.items() if v},
        }
        return self._status("transport", values, publisher.incompatible)
