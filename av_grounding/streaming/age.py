"""How old a frame is: one rule, whichever door it came through."""

from __future__ import annotations

import time

from av_grounding.types import EncodedFrame, Frame


def arrival_s(frame: Frame | EncodedFrame) -> float:
    """Monotonic seconds at which a frame came: now, unless its source noted when."""
    noted_s = frame.arrived_s if isinstance(frame, EncodedFrame) else None
    return time.monotonic() if noted_s is None else noted_s


class AgeLimit:
    """Ages count from arrival, on this machine's monotonic clock.

    Stamps only say what came before what and which sound belongs to which frame. The clock that
    set them may be another machine's, a recording's or simply wrong; a camera's own delay, a
    paused, slowed or looped bag make no frame old that has just come.
    """

    def __init__(self, max_s: float) -> None:
        """`max_s`: positive seconds, which may change while it is in use."""
        if not max_s > 0.0:
            raise ValueError(f"max_image_age_s {max_s}: expected positive seconds")
        self.max_s = max_s

    def age_s(self, arrived_s: float) -> float:
        """Seconds since a frame came."""
        return time.monotonic() - arrived_s

    def is_over(self, arrived_s: float) -> bool:
        """Whether a frame that came then is not worth looking at any more."""
        return self.age_s(arrived_s) > self.max_s
