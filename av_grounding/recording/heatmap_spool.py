"""Heatmaps on disk while they are computed, readable at any moment, and as one npz at the end."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from av_grounding.files import atomic_write
from av_grounding.image import resize_heatmap
from av_grounding.types import Grounding

# What the files beside the spool need to be closed: the npz's directory, the video's index.
RESERVE_BYTES = 256 * 1024
RESERVE_BYTES_PER_FRAME = 256
SOURCES, SOURCE_SCORE = "sources", "source_score"
"""Keys of the maps of single sources, by number, and of their largest values."""


class HeatmapSpool:
    """Appends heatmaps to `<name>.part.npy` and turns that into `<name>.npz` when closed.

    The spool is a NumPy file of records whose header always states the complete records, so that
    `numpy.load` reads it after a crash. The space that the npz will need is claimed along with
    every record: a disk that fills up is noticed while everything can still be saved. The first
    answer fixes heads and grids; others are resized to it and counted.
    """

    def __init__(self, path: Path, heads: Sequence[str] = ()) -> None:
        """`heads`: those whose keys the file has even without a record."""
        self.path = path
        self._heads = heads
        self.spool_path = path.with_suffix(".part.npy")
        self.num_frames = 0
        self.num_regridded = 0
        self._reserve_path = path.with_name(f".{path.stem}.reserve")
        self._spool: int | None = None
        self._reserve: int | None = None
        self._dtype: np.dtype[Any] | None = None
        self._header_bytes = 0

    def append(self, grounding: Grounding) -> None:
        """Add one record; OSError if the disk cannot hold it, the earlier ones are untouched."""
        if self._dtype is None:
            self._start(grounding)
        assert self._dtype is not None
        assert self._spool is not None
        record = np.zeros((), self._dtype)
        record["stamp_ns"] = grounding.stamp_ns
        is_regridded = False
        for head, answer in grounding.heads.items():
            grid = self._dtype[head].shape
            is_regridded |= answer.heatmap.shape != grid
            record[f"{head}_score"] = answer.score
            record[head] = _on_grid(answer.heatmap, grid)
            if answer.max_sources and SOURCES in (self._dtype.names or ()):
                for number, heatmap in enumerate(answer.source_heatmaps):
                    record[SOURCES][number] = _on_grid(heatmap, grid)
                    record[SOURCE_SCORE][number] = heatmap.max()
        self.num_regridded += is_regridded
        begin = self._header_bytes + self.num_frames * self._dtype.itemsize
        self._claim(begin + self._dtype.itemsize)
        _write_all(self._spool, record.tobytes(), begin)
        # Only now does the record count: whatever interrupts before leaves a sound file.
        _write_all(self._spool, self._header(self.num_frames + 1), 0)
        self.num_frames += 1

    def close(self) -> None:
        """Write the npz and remove the spool; on OSError the spool stays and can be read."""
        self._release()
        if self._dtype is None:
            records = np.zeros(0, _record_type(dict.fromkeys(self._heads, (0, 0))))
        elif self.num_frames == 0:
            records = np.zeros(0, self._dtype)
        else:
            records = np.load(self.spool_path, mmap_mode="r")[: self.num_frames]
        with atomic_write(self.path) as file:
            np.savez(file, **{name: records[name] for name in records.dtype.names})
        del records
        self.spool_path.unlink(missing_ok=True)

    def _start(self, grounding: Grounding) -> None:
        grids = {head: answer.heatmap.shape for head, answer in grounding.heads.items()}
        nums = [answer.max_sources for answer in grounding.heads.values()]
        self._dtype = _record_type(grids, max(nums, default=0))
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
        self._spool = os.open(self.spool_path, flags, 0o666)
        self._reserve = os.open(self._reserve_path, flags, 0o666)
        header = self._header(0)
        self._header_bytes = len(header)
        _write_all(self._spool, header, 0)

    def _header(self, num_frames: int) -> bytes:
        assert self._dtype is not None
        buffer = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self._dtype)
        # NumPy pads the header so that it keeps its length while the count grows.
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": descr, "fortran_order": False, "shape": (num_frames,)}
        )
        assert self._header_bytes in (0, buffer.tell()), "the header changed its length"
        return buffer.getvalue()

    def _claim(self, spool_bytes: int) -> None:
        if self._reserve is not None and hasattr(os, "posix_fallocate"):
            extra = RESERVE_BYTES + RESERVE_BYTES_PER_FRAME * self.num_frames
            os.posix_fallocate(self._reserve, 0, spool_bytes + extra)

    def _release(self) -> None:
        for descriptor in (self._spool, self._reserve):
            if descriptor is not None:
                os.close(descriptor)
        self._spool = self._reserve = None
        self._reserve_path.unlink(missing_ok=True)


def _record_type(grids: Mapping[str, tuple[int, ...]], num_sources: int = 0) -> np.dtype[Any]:
    """Of models that tell sources apart, which have one head, also a map for each source."""
    grid = next(iter(grids.values()), ())
    of_sources = [
        (SOURCE_SCORE, np.float32, (num_sources,)),
        (SOURCES, np.float32, (num_sources, *grid)),
    ]
    return np.dtype(
        [
            ("stamp_ns", np.int64),
            *((f"{head}_score", np.float32) for head in grids),
            *((head, np.float32, grid) for head, grid in grids.items()),
            *(of_sources if num_sources else []),
        ]
    )


def _on_grid(heatmap: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    if heatmap.shape != grid:
        heatmap = resize_heatmap(heatmap, *grid)
    return np.clip(np.nan_to_num(heatmap), 0.0, 1.0)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
