"""What ends a run before its last step: signals, memory, and values that are not finite."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

EXIT_CTRL_C = 130


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written.

    `exit_code` is 0 after SIGTERM, the cluster's way of taking the machine back, and 130 after
    Ctrl-C.
    """

    def __init__(self, message: str, exit_code: int = EXIT_CTRL_C) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NotFinite(RuntimeError):
    """The loss or its gradient is NaN or infinite; the batch is saved."""


class OutOfMemory(RuntimeError):
    """A step did not fit into memory."""


class StopOnSignal:
    """Turns SIGTERM and SIGINT into `number` for the duration of the loop (main thread only).

    A second Ctrl-C does not wait for the step to end.
    """

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> StopOnSignal:
        self.previous = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self.previous[number] = signal.signal(number, self.request)
            except ValueError:  # Not in the main thread: signals are somebody else's.
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def request(self, number: int, _: object) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number


def leave_signals_to_the_parent(_: int = 0) -> None:
    """For worker processes: a signal to the whole group must not kill them under the loop.

    They end when the loop ends, or dies.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def explaining_memory(num_samples: int, device: torch.device) -> Iterator[None]:
    """Turns running out of memory into one line that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not is_memory and "can't allocate memory" not in str(error):
            raise
        reason = (str(error) or "MemoryError").strip().splitlines()[0][:200]
        raise OutOfMemory(
            f"a step with {num_samples} samples per process does not fit into the memory of "
            f"{device} ({reason}): lower data.batch_size, the recipe's block size or the window; "
            "or set loop.precision=bf16"
        ) from error
