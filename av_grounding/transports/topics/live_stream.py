"""A stream whose settings change and which is reset while it runs, from any thread."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.wrapping import StreamWrapper
from av_grounding.transports.topics.sources import Recent
from av_grounding.types import Backend, Grounding

# What `GroundingStream` reads anew for every frame or chunk; the rest is built into it.
LIVE = frozenset(
    {"gate_dbfs", "silence_s", "recency_s", "hold_s", "audio_offset_s", "lookahead_s"}
)


class LiveStream(StreamWrapper):
    """A `GroundingStream` with requests from other threads, carried out by the one that pushes.

    A request takes effect before the next chunk or frame. Settings that the stream was built
    with (the hop, the pause within an utterance, a longer memory) make it start over.
    """

    def __init__(self, backend: Backend, config: StreamingConfig) -> None:
        super().__init__(GroundingStream(backend, config))
        self.grounding_s = Recent()
        """How long the last frames took from image to heatmaps."""
        self.num_resets = 0
        self._lock = threading.Lock()
        self._requested: StreamingConfig | None = None
        self._is_reset_requested = False
        self._built_with = config
        self._num_past_windows = 0

    @property
    def stats(self) -> dict[str, Any]:
        """As of `GroundingStream`, counted on where it started over."""
        stats = self.stream.stats
        stats["num_windows_encoded"] += self._num_past_windows
        return stats

    def request(self, config: StreamingConfig) -> None:
        """Go on with other settings."""
        with self._lock:
            self._requested = config

    def request_reset(self) -> None:
        """Forget all sound and every stamp."""
        with self._lock:
            self._is_reset_requested = True

    def push_audio(self, samples: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        self._carry_out_requests()
        self.stream.push_audio(samples, stamp_ns, sample_rate_hz)

    def push_frame(self, image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Grounding:
        self._carry_out_requests()
        started_s = time.perf_counter()
        grounding = self.stream.push_frame(image, stamp_ns, frame_id)
        self.grounding_s.add(time.perf_counter() - started_s)
        return grounding

    def answer_again(self) -> Grounding | None:
        self._carry_out_requests()
        return self.stream.answer_again()

    def _carry_out_requests(self) -> None:
        with self._lock:
            config, self._requested = self._requested, None
            is_reset, self._is_reset_requested = self._is_reset_requested, False
        if config is not None and config != self.config:
            self._adopt(config)
        if is_reset:
            self.num_resets += 1
            self.stream.reset()

    def _adopt(self, config: StreamingConfig) -> None:
        built = self._built_with
        fixed = {name: value for name, value in vars(config).items() if name not in LIVE}
        is_live = all(getattr(built, name) == value for name, value in fixed.items())
        if is_live and config.history_s <= built.history_s:
            self.stream.config = config
            return
        self._num_past_windows = self.stats["num_windows_encoded"]
        self.stream = self.stream.restarted(config)
        self._built_with = config
