"""Arrays that several processes draw part by part, into .npy files of one size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np


def draw_arrays(
    directory: Path,
    arrays: Mapping[str, tuple[type, tuple[int, ...]]],
    draw: Callable[[Any, int], Sequence[np.ndarray]],
    spec: Any,
    parts: Sequence[int],
    *,
    workers: int,
) -> Iterator[int]:
    """Fill `directory`/NAME.npy, each of its dtype and shape; yields the rows that are done.

    `draw(spec, part)` runs in a process of its own and gives the next rows of every array. The
    files are whole once this has ended.
    """
    files = [
        np.lib.format.open_memmap(directory / f"{name}.npy", "w+", dtype, shape)
        for name, (dtype, shape) in arrays.items()
    ]
    # Not forked: the caller may hold threads, of torch for one.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        first = 0
        for rows in pool.map(draw, [spec] * len(parts), parts):
            stop = first + len(rows[0])
            for file, part in zip(files, rows, strict=True):
                file[first:stop] = part
            first = stop
            yield first
    for file in files:
        file.flush()
