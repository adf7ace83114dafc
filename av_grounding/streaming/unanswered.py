"""Why frames come in and nothing, or nothing but empty heatmaps, goes out: a line for the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from av_grounding.streaming.liveness import SILENCE_S, Watchdog

MAX_LAG_S = 1.0
"""Sound and frames that are stamped further apart than this do not belong together."""
MAX_OFFSET_S = 5.0
"""What sync.offset_ms can make up for; beyond it two clocks have nothing in common."""
LOOK_S = 0.5


class UnansweredWatch:
    """Looks at a run's counters while frames come, and speaks up after five seconds for nothing.

    Frames that nobody wants answers to, and silence in the room, are no fault. A line comes
    again twice a minute while its cause lasts.
    """

    def __init__(self, *, has_sound: bool, is_sound_watched: bool = False) -> None:
        """`is_sound_watched`: somebody else says when no sound comes at all."""
        self._has_sound = has_sound
        self._is_sound_watched = is_sound_watched
        self._looked_s = float("-inf")
        self._last: Mapping[str, Any] = {}
        """The counters when a frame was last answered."""
        self._num_chunks = 0

    def is_due(self, now_s: float) -> bool:
        """Whether it is time for another look; `now_s`: monotonic seconds."""
        return now_s - self._looked_s >= LOOK_S

    def look(
        self, counters: Mapping[str, Any], now_s: float, max_age_s: float, offset_s: float = 0.0
    ) -> list[str]:
        """Call with `Runner.counters` as frames come; returns the lines that are due.

        `num_unwritten` in them is the number of answers that wait for a sink; `offset_s` what is
        added to the stamps of sound already.
        """
        if now_s - self._looked_s > SILENCE_S:  # the frames begin, or come again
            self._answered, self._heard, self._paired = (Watchdog(now_s) for _ in range(3))
            self._answered_s = self._heard_s = self._paired_s = now_s
            self._last = counters
        self._looked_s = now_s
        lines = []
        if _num_settled(counters) != _num_settled(self._last):
            self._last, self._answered_s = counters, now_s
        if self._answered.barks(self._answered_s, now_s):
            lines.append(f"frames come, but none is answered: {self._why(counters, max_age_s)}")
        if self._has_sound:
            lines += self._sound(counters, now_s, offset_s)
        return lines

    def _why(self, counters: Mapping[str, Any], max_age_s: float) -> str:
        def number(name: str) -> int:
            return int(counters[f"num_frames_{name}"] - self._last[f"num_frames_{name}"])

        num_old, num_unreadable = number("too_old"), number("unreadable")
        if counters["num_unwritten"]:
            return "what takes the answers has not taken one since: a full or slow disk, a page"
        if num_unreadable > num_old:
            return f"{num_unreadable} could not be decoded: send another encoding, raw or JPEG"
        if num_old:
            return (
                f"{num_old} waited longer than max_image_age_ms ({1e3 * max_age_s:g}) for the "
                "model: raise it, or take a faster backend or a smaller model"
            )
        return (
            f"the model has been busy since, and {number('replaced')} frames were replaced by "
            "newer ones: take a faster backend or a smaller model"
        )

    def _sound(self, counters: Mapping[str, Any], now_s: float, offset_s: float) -> list[str]:
        lines = []
        if counters["num_audio_chunks"] != self._num_chunks:
            self._num_chunks, self._heard_s = counters["num_audio_chunks"], now_s
        if self._heard.barks(self._heard_s, now_s) and not self._is_sound_watched:
            ended = " any more" if self._num_chunks else ""
            lines.append(
                f"frames come, but no sound{ended}, so heatmaps are empty: has the source sound "
                "there, and is the microphone alive?"
            )
        lag_s = counters["stream"]["audio_lag_ms"] / 1e3
        # Without sound the lag only grows, and that was said.
        if now_s - self._heard_s > SILENCE_S or abs(lag_s) <= MAX_LAG_S:
            self._paired_s = now_s
        if self._paired.barks(self._paired_s, now_s):
            side = "before" if lag_s > 0.0 else "after"
            lines.append(
                f"sound is stamped {abs(lag_s):.1f} s {side} the frames that come with it, so "
                f"they are not paired: {_clock_remedy(lag_s, offset_s)}"
            )
        return lines


def _num_settled(counters: Mapping[str, Any]) -> int:
    return counters["num_frames_published"] + counters["num_frames_unwanted"]


def _clock_remedy(lag_s: float, offset_s: float) -> str:
    remedy = "stamp both by one clock"
    if abs(offset_s + lag_s) > MAX_OFFSET_S:
        return remedy
    return f"{remedy}, or set sync.offset_ms to {1e3 * (offset_s + lag_s):.0f}"
