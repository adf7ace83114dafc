"""One timeline for a recording, which no single stamp can stretch."""

from __future__ import annotations

from av_grounding.audio import NS_PER_S

MAX_STEP_S = 60.0
"""Stamps that are further than this from what was recorded last are left out at first."""
MAX_BACKSTEP_S = 1.0
"""Frames that are a little late are out of order; from here on the stamps have stepped back."""
JUMP_S = 0.15
"""Chunks jitter by less than this; more is a gap or a step back."""


class RecordingClock:
    """From stamps to nanoseconds since the first frame.

    The frames lead. One whose stamp is far from the last one's is left out, and counted; if the
    next one agrees with it, the clock has been set: the recording goes on without the time
    between. Sound belongs where its stamps say as long as that is near the frames, or goes on
    where the sound before it ended. So one wrong stamp costs what carries it, and nothing more.
    """

    def __init__(self, zero_ns: int | None = None) -> None:
        """`zero_ns`: the first frame's stamp, where it is known beforehand."""
        self.num_implausible_frames = 0
        self.num_implausible_chunks = 0
        self.num_jumps = 0
        """Times at which the stamps of the frames went on elsewhere."""
        self.newest_ns = 0
        """Time of the newest frame."""
        self.zero_ns = zero_ns
        """The stamp that means time zero, as of now."""
        self._doubted_ns: int | None = None

    def frame_ns(self, stamp_ns: int) -> int | None:
        """The time of a frame; None: leave it out. A frame out of order does not advance."""
        if self.zero_ns is None:
            self.zero_ns = stamp_ns
        time_ns = stamp_ns - self.zero_ns
        if not _follows(time_ns, self.newest_ns):
            doubted_ns, self._doubted_ns = self._doubted_ns, stamp_ns
            if doubted_ns is None or not _follows(stamp_ns, doubted_ns):
                self.num_implausible_frames += 1
                return None
            time_ns = self.newest_ns + max(stamp_ns - doubted_ns, 0)
            self.zero_ns = stamp_ns - time_ns
            self.num_jumps += 1
        self._doubted_ns = None
        self.newest_ns = max(self.newest_ns, time_ns)
        return time_ns

    def sound_ns(self, stamp_ns: int, end_ns: float) -> int | None:
        """The time of a chunk, where sound reaches up to `end_ns`; None: leave it out."""
        assert self.zero_ns is not None, "no frame has come yet"
        time_ns = stamp_ns - self.zero_ns
        reach_ns = MAX_STEP_S * NS_PER_S
        latest_ns = max(self.newest_ns + reach_ns, end_ns + JUMP_S * NS_PER_S)
        if min(self.newest_ns, end_ns) - reach_ns <= time_ns <= latest_ns:
            return time_ns
        self.num_implausible_chunks += 1
        return None

    def describe(self) -> dict[str, int]:
        """What was left out, counted."""
        return {
            "num_implausible_frames": self.num_implausible_frames,
            "num_implausible_chunks": self.num_implausible_chunks,
            "num_stamp_jumps": self.num_jumps,
        }


def _follows(stamp_ns: int, last_ns: int) -> bool:
    return -MAX_BACKSTEP_S * NS_PER_S <= stamp_ns - last_ns <= MAX_STEP_S * NS_PER_S
