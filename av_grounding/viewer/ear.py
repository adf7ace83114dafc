"""What the page's clients listen to: the sound of a place, in small pieces."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from av_grounding.types import AudioChunk

Spot = Literal["peak"] | tuple[float, float]
"""Where the sound heatmap is highest, or a point as shares of the picture's width and height."""
MAX_KEPT_S = 1.0
"""A client that is further behind than this has missed the rest."""


@dataclass(frozen=True, slots=True)
class EarCursor:
    """How far a client has heard; `sound` is None while it does not listen."""

    spot: int = 0
    sound: int | None = None


class Ear:
    """One spot for all clients, and the newest second of its sound, from any thread.

    The spot stands while somebody listens. A client that turns to another takes all along, as the
    stream separates one place at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spot: Spot | None = None
        self._version = 0
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._end = 0

    @property
    def spot(self) -> Spot | None:
        """What is listened to; None: nobody listens."""
        return self._spot

    def turn(self, spot: Spot | None) -> EarCursor:
        """Listen to a spot from now on; the cursor of who just began to."""
        with self._lock:
            if spot != self._spot:
                self._spot = spot
                self._version += 1
                self._pieces.clear()
            return EarCursor(self._version - 1, self._end)

    def add(self, chunk: AudioChunk) -> None:
        """Keep what has been separated, as 16-bit samples."""
        samples = np.rint(np.clip(chunk.samples, -1.0, 1.0) * 32767.0).astype("<i2")
        with self._lock:
            self._pieces.append((self._end, samples.tobytes()))
            self._end += samples.size
            oldest = self._end - round(MAX_KEPT_S * chunk.sample_rate_hz)
            while len(self._pieces) > 1 and self._pieces[0][0] < oldest:
                self._pieces.popleft()

    def news(self, cursor: EarCursor) -> tuple[dict[str, Any], bytes, EarCursor]:
        """What is new to a client: the spot, and where it listens sound as little-endian int16."""
        news: dict[str, Any] = {}
        with self._lock:
            if cursor.spot != self._version:
                news["spot"] = self._spot
            if cursor.sound is None:
                return news, b"", EarCursor(self._version)
            sound = b"".join(piece for start, piece in self._pieces if start >= cursor.sound)
            if sound:
                news["sound"] = {"num_samples": len(sound) // 2}
            return news, sound, EarCursor(self._version, self._end)
