"""Pictures that were encoded ahead, each kept for the frame that is answered with it."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from av_grounding.types import ImageTokens


class LookedAt:
    """The tokens of the newest pictures, by the very arrays that they were encoded from.

    So no frame is answered with what another one shows. May be used from several threads.
    """

    def __init__(self, num: int = 2) -> None:
        """`num` pictures are kept at most: the one that waits, and the one just finished."""
        self._lock = threading.Lock()
        self._kept: deque[tuple[np.ndarray, ImageTokens]] = deque(maxlen=num)

    def put(self, image: np.ndarray, tokens: ImageTokens) -> None:
        """Keep what `image` was encoded to; of more than `num` the oldest goes."""
        with self._lock:
            self._kept.append((image, tokens))

    def take(self, image: np.ndarray) -> ImageTokens | None:
        """The tokens of this array, which are kept no longer; None: it was not looked at."""
        with self._lock:
            for number, (kept, tokens) in enumerate(self._kept):
                if kept is image:
                    del self._kept[number]
                    return tokens
        return None
