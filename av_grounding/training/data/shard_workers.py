"""Work spread over processes, any of which the system may kill when memory runs out."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.connection import Connection
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_in_workers(
    function: Callable[[Task], Result], tasks: Sequence[Task], num_workers: int
) -> Iterator[Result]:
    """`function(task)` of every task, as they are done, in `num_workers` other processes.

    Raises what a task raises, and BrokenProcessPool once a worker was killed. Then, and when the
    iteration is closed before its end, all workers end in the midst of what they do.
    """
    # Fresh processes: decoders keep threads, which a fork would leave half alive.
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(num_workers, context, begin_worker, (reader,))
    with reader, writer, pool:
        try:
            waiting: set[Future[Result]] = set()
            for task in tasks:
                # A pool that breaks may wait for ever for a task that no worker has taken.
                if len(waiting) == num_workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
                waiting.add(pool.submit(function, task))
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BaseException:
            writer.close()
            raise


def begin_worker(lifeline: Connection) -> None:
    """Ctrl-C reaches the whole group; the parent ends the workers, alive or dead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with, args=(lifeline,), daemon=True).start()


def end_with(lifeline: Connection) -> None:
    """End this process when the other end of the pipe is closed, which a kill -9 does too."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)
