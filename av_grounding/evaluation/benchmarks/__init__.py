"""The benchmarks by name: loaders for the field's data sets, and those of our own worlds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from av_grounding.evaluation.benchmarks.table import BENCHMARKS, DRAWN, NAMES, factory
from av_grounding.files import STRANGE_ROWS, one_line

if TYPE_CHECKING:
    from av_grounding.evaluation.benchmark import Benchmark

__all__ = ["BENCHMARKS", "DRAWN", "NAMES", "factory", "open_benchmark"]


def open_benchmark(
    name: str,
    root: Path | str | None = None,
    *,
    num: int | None = None,
    seed: int = 0,
    workers: int = 0,
    part: str = "test",
) -> Benchmark:
    """The benchmark of this name: read from `root`, or drawn from `seed` if it is of our worlds.

    `num` keeps the first samples (None: all of them, a drawn benchmark's default size).
    `workers` processes draw samples ahead of the reader; the samples are the same. `part` is the
    split of a world that is drawn.
    Raises ValueError for an unknown name or a missing root, FileNotFoundError where the root
    lacks the lists of the layout.
    """
    if num is not None and num < 1:
        raise ValueError(f"got {num} samples, expected 1 or more")
    make = factory(name)
    if name in DRAWN:
        from av_grounding.evaluation.benchmarks.synthetic import SyntheticBenchmark

        return SyntheticBenchmark(name, num=num, seed=seed, workers=workers, split=part)
    entry = BENCHMARKS[name]
    needs = f"{name} needs a folder with {entry.layout} (from {entry.source})"
    if root is None:
        raise ValueError(f"got no data folder: {needs}; give it with --data ROOT")
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; {needs}")
    for file in entry.lists:
        if not (root / file).is_file():
            raise FileNotFoundError(f"{root / file}: no such file; {needs}")
    from av_grounding.evaluation.benchmarks.files import first

    try:
        return first(make(root), num)
    except STRANGE_ROWS as error:
        raise ValueError(
            f"{root}: its lists are not those of {name} ({type(error).__name__}: "
            f"{one_line(error, 200)}): take them as they are published"
        ) from error
