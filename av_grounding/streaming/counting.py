"""What a stream counts of its input, and the one line in the log for each kind of trouble."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger(__name__)


class Counters:
    """Numbers since construction; a trouble is said the first time, and counted on."""

    def __init__(self, numbers: dict[str, int] | None = None) -> None:
        """`numbers` go on from those of another; whatever it said may be said again."""
        names = (
            "num_audio_chunks",
            "num_audio_samples",
            "num_nonfinite_samples",
            "num_clipped_samples",
            "num_gaps",
            "num_gap_samples",
            "num_overlaps",
            "num_overlap_samples",
            "num_repeated_chunks",
            "num_audio_resets",
            "num_mended_stamps",
            "num_rate_changes",
            "num_frames",
            "num_frame_stamp_steps_back",
            "num_frame_size_changes",
        )
        self.numbers = dict.fromkeys(names, 0) if numbers is None else numbers
        self._warned: set[str] = set()

    def count(self, name: str, number: int = 1, warning: str | None = None) -> None:
        """Add to a number; where something is added, `warning` is said, its %d the number."""
        self.numbers[name] += number
        if warning is not None and number:
            self.warn(name, warning % number if "%d" in warning else warning)

    def warn(self, key: str, message: str) -> None:
        """Say it, the first time for this key."""
        if key not in self._warned:
            self._warned.add(key)
            LOGGER.warning("%s (said once; see the counters)", message)
