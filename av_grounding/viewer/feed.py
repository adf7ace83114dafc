"""What there is to show: the newest frame and the last minute of everything else."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np

from av_grounding.types import Frame, Grounding, VoiceMarks
from av_grounding.viewer.ear import EarCursor

HISTORY_S = 60.0
MAX_POINTS = 60 * 120
MAX_VOICE = 1024
MAX_WARNINGS = 30
MAX_WARNING_CHARACTERS = 300
MAX_JUMP_S = 5.0
"""Stamps that step back further than this, or ahead by more than the history, start anew."""


class Series:
    """The newest items, numbered from 0 on, so that a reader can ask for what came since."""

    def __init__(self, max_items: int) -> None:
        self._items: deque[Any] = deque(maxlen=max_items)
        self.end = 0

    def append(self, item: Any) -> None:
        self._items.append(item)
        self.end += 1

    def since(self, number: int) -> list[Any]:
        """Items from `number` on, as far as they are kept."""
        num_new = min(len(self._items), self.end - number)
        return list(islice(reversed(self._items), num_new))[::-1] if num_new > 0 else []


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame with its answer, as it waits to be shown."""

    number: int
    frame: Frame
    grounding: Grounding
    time_ms: float


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a client has read."""

    epoch: int = -1
    point: int = 0
    voice: int = 0
    warning: int = 0
    counters: int = 0
    ear: EarCursor = field(default_factory=EarCursor)


@dataclass
class Warnings:
    """Texts with how often and when they came; a repeated text counts up and moves to the end."""

    items: dict[str, list[Any]] = field(default_factory=dict)
    version: int = 0

    def add(self, text: str) -> None:
        text = " ".join(text.split())[:MAX_WARNING_CHARACTERS]
        count, _ = self.items.pop(text, (0, 0.0))
        self.items[text] = [count + 1, time.time()]
        while len(self.items) > MAX_WARNINGS:
            del self.items[next(iter(self.items))]
        self.version += 1

    def as_list(self) -> list[dict[str, Any]]:
        return [
            {"text": text, "count": count, "unix_s": round(unix_s, 3)}
            for text, (count, unix_s) in self.items.items()
        ]


class Feed:
    """Collects from any thread and tells a client what is new to it.

    Times are milliseconds since the first stamp, on the clock that stamps frames and sound alike.
    When stamps jump a new epoch begins and what was kept is dropped.
    """

    def __init__(self, heads: Iterable[str]) -> None:
        self._heads = tuple(heads)
        self._lock = threading.Lock()
        self._warnings = Warnings()
        self._counters: dict[str, Any] = {}
        self._counters_version = 0
        self._num_shots = 0
        self._epoch = -1
        self._origin_ns: int | None = None
        self._start_epoch(None)

    def add_answer(self, frame: Frame, grounding: Grounding, latency_ms: float | None) -> Shot:
        """Keep the scores; the picture goes back to the caller with its number and time."""
        scores = [grounding.score(head) for head in self._heads]
        with self._lock:
            time_ms = self._time_ms("answer", frame.stamp_ns)
            self._points.append(
                (time_ms, _rounded(latency_ms, 1), *(_rounded(score) for score in scores))
            )
            self._num_shots += 1
            return Shot(self._num_shots, frame, grounding, time_ms)

    def add_voice(self, marks: VoiceMarks) -> None:
        """Keep levels, speech marks and utterances."""
        with self._lock:
            time_ms = self._time_ms("voice", marks.stamp_ns)
            self._voice.append((time_ms, marks))
            told = [
                tuple((ns - self._origin_ns) / 1e6 for ns in span) for span in marks.utterances
            ]
            horizon_ms = time_ms - 1e3 * HISTORY_S
            self._utterances = [
                span for span in merge_spans([*self._utterances, *told]) if span[1] > horizon_ms
            ]

    def add_warning(self, text: str) -> None:
        """Keep a warning; the same text again counts up."""
        with self._lock:
            self._warnings.add(text)

    def set_counters(self, counters: dict[str, Any]) -> None:
        """Replace the counters; the same ones again are no news."""
        with self._lock:
            if counters != self._counters:
                self._counters = counters
                self._counters_version += 1

    def news(self, cursor: Cursor) -> tuple[dict[str, Any], Cursor]:
        """What came since the cursor, as JSON has it, and the cursor after it."""
        with self._lock:
            if cursor.epoch != self._epoch:
                cursor = Cursor(self._epoch, warning=cursor.warning, counters=cursor.counters)
            news: dict[str, Any] = {"epoch": self._epoch, "now_ms": self._newest_ms}
            if self._origin_ns is not None:
                news["origin_unix_ms"] = self._origin_ns // 1_000_000
            points = self._points.since(cursor.point)
            voice = self._voice.since(cursor.voice)
            horizon_ms = self._newest_ms - 1e3 * HISTORY_S
            if points:
                news["points"] = [point for point in points if point[0] >= horizon_ms]
            if voice:
                news["utterances"] = [[round(end_ms) for end_ms in u] for u in self._utterances]
            if cursor.warning != self._warnings.version:
                news["warnings"] = self._warnings.as_list()
            if cursor.counters != self._counters_version:
                news["counters"] = self._counters
            after = Cursor(
                self._epoch,
                self._points.end,
                self._voice.end,
                self._warnings.version,
                self._counters_version,
            )
        news["voice"] = list(_as_json(item for item in voice if item[0] >= horizon_ms))
        return news, after

    def _time_ms(self, kind: Literal["answer", "voice"], stamp_ns: int) -> float:
        # Each against its own kind: where frames and sound are apart, neither has jumped.
        newest_ns = self._newest_ns.get(kind, stamp_ns)
        ahead_s = (stamp_ns - newest_ns) / 1e9
        if self._origin_ns is None or ahead_s < -MAX_JUMP_S or ahead_s > HISTORY_S:
            self._start_epoch(stamp_ns)
            newest_ns = stamp_ns
        assert self._origin_ns is not None
        self._newest_ns[kind] = max(newest_ns, stamp_ns)
        time_ms = (stamp_ns - self._origin_ns) / 1e6
        self._newest_ms = max(self._newest_ms, time_ms)
        return round(time_ms, 1)

    def _start_epoch(self, origin_ns: int | None) -> None:
        self._epoch += 1
        self._origin_ns = origin_ns
        self._newest_ms = 0.0
        self._newest_ns: dict[str, int] = {}
        self._points = Series(MAX_POINTS)
        self._voice = Series(MAX_VOICE)
        self._utterances: list[tuple[float, float]] = []


def merge_spans(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The union of (start, stop) spans, in order: an utterance is told again as it grows."""
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _as_json(items: Iterable[tuple[float, VoiceMarks]]) -> Iterable[dict[str, Any]]:
    for time_ms, marks in items:
        yield {
            "t": time_ms,
            "step_ms": round(1e3 * marks.frame_s, 3),
            "level_dbfs": np.rint(np.nan_to_num(marks.level_dbfs, neginf=-120.0))
            .astype(int)
            .tolist(),
            "is_voiced": marks.is_voiced.astype(int).tolist(),
        }


def _rounded(value: float | None, digits: int = 4) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)
