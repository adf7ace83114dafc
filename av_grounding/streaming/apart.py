"""Windows of sound encoded in a thread of their own, for a model that needs long for one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32


class ApartEncoder:
    """Takes windows as they become due and gives their tokens as they are finished, in order.

    One window at a time. Where the next is due before the last is finished, the step between
    windows widens by itself: of those that wait the newest is taken whose sound joins on to the
    last one's, and those before it are left out. So no sample goes unheard, and what is heard is
    as new as the machine allows. Used from one thread beside its own.
    """

    def __init__(
        self,
        encode: Callable[[Float32[np.ndarray, " s"], int], Float32[np.ndarray, "k c t"]],
        num_window: int,
        num_context: int,
    ) -> None:
        """`encode` gets a window of `num_window` samples, and how many of them the last one did
        not hold. `num_context`: samples on both sides of a token that it needs to be trusted.
        """
        self._encode, self._num_window = encode, num_window
        self._longest_step = max(1, num_window - 2 * num_context)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._generation = 0
        self.num_skipped = 0
        """Windows left out, whose sound others held."""
        self.step = 0
        """Samples between the ends of the last two windows that were taken; 0 before."""
        self.clear()

    def clear(self) -> None:
        """Forget all windows; the next one is the first."""
        with self._changed:
            self._generation += 1
            self._waiting: deque[tuple[int, np.ndarray]] = deque()
            self._finished: deque[tuple[int, np.ndarray]] = deque()
            self._taken_end = 0
            self._running_end: int | None = None

    def put(self, end: int, window: Float32[np.ndarray, " s"]) -> None:
        """A window that ends at sample `end`; ends come in ascending order."""
        with self._changed:
            self._waiting.append((end, window))
            self._leave_out()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="av-ear", daemon=True)
                self._thread.start()

    def take(self) -> list[tuple[int, Float32[np.ndarray, "k c t"]]]:
        """(end, tokens) of what was finished since the last call; raises what encoding raised."""
        with self._changed:
            if self._error is not None:
                raise self._error
            finished = list(self._finished)
            self._finished.clear()
            return finished

    def is_behind(self, horizon: int) -> bool:
        """Whether a window that ends by sample `horizon` is not finished yet."""
        with self._changed:
            first = self._waiting[0][0] if self._waiting else None
            ends = [end for end in (self._running_end, first) if end is not None]
            return bool(ends) and min(ends) <= horizon

    def finish(self, timeout_s: float | None = None) -> bool:
        """Let go of what waits; whether the window that is being encoded ended within the time."""
        with self._changed:
            self._waiting.clear()
            return self._changed.wait_for(lambda: self._thread is None, timeout_s)

    def _leave_out(self) -> None:
        """Keep of the waiting windows the newest that joins on to the last, and those after it."""
        reach = self._taken_end + self._longest_step
        while len(self._waiting) > 1 and self._waiting[1][0] <= reach:
            self._waiting.popleft()
            self.num_skipped += 1

    def _run(self) -> None:
        known, last_end = -1, 0
        while True:
            with self._changed:
                if not self._waiting or self._error is not None:
                    self._thread, self._running_end = None, None
                    self._changed.notify_all()
                    return
                end, window = self._waiting.popleft()
                generation = self._generation
                if generation != known:
                    known, last_end = generation, self._taken_end
                num_new = min(end - last_end, self._num_window)
                self.step = end - self._taken_end
                self._taken_end = self._running_end = end
            try:
                tokens = self._encode(window, num_new)
            except BaseException as error:
                with self._changed:
                    self._error = error
                continue
            last_end = end
            with self._changed:
                if generation == self._generation:
                    self._finished.append((end, tokens))
                    self._running_end = None
                    self._leave_out()
