"""What a run leaves behind: heatmaps.npz, overlay.mp4 and report.json in one directory."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from av_grounding.drawing.overlay import overlay
from av_grounding.files import atomic_write
from av_grounding.recording.heatmap_spool import HeatmapSpool
from av_grounding.recording.overlay_video import OverlayVideo
from av_grounding.types import AudioChunk, Frame, Grounding

logger = logging.getLogger(__name__)


class Recorder:
    """A Sink that keeps heatmaps, a video of overlays with sound, and the run's report.

    heatmaps.npz: stamp_ns (n,) int64, and for each head its name (n, h, w) and its name with
    _score (n,), float32 in [0, 1]. Files get their names when they are complete; until
    then heatmaps.part.npy and overlay.part.mp4 can be read, also after a crash. `write` and
    `write_audio` may be called from different threads.

    Every answer is kept; the video leaves out what is stamped implausibly (see `clock`), counts it
    and says so.

    A disk that fills up raises one OSError that names what was kept; later calls do nothing.
    """

    def __init__(
        self,
        directory: str | Path,
        frame_rate_hint_hz: float = 30.0,
        *,
        audio: bool = True,
        alpha: float = 0.55,
        heads: Sequence[str] = (),
    ) -> None:
        """`heads`: those whose keys heatmaps.npz has even where nothing came."""
        self.directory = Path(directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(
                f"{self.directory} is a file; --out needs a folder: choose another name"
            ) from error
        self._alpha = alpha
        self._heatmaps = HeatmapSpool(self.directory / "heatmaps.npz", heads)
        self._video = OverlayVideo(self.directory / "overlay.mp4", frame_rate_hint_hz, audio)
        self._lock = threading.RLock()
        self._is_closed = False
        self._failure: OSError | None = None
        self._unreported: OSError | None = None

    def write(self, frame: Frame, grounding: Grounding) -> None:
        """Record one answer; OSError, once, when the disk does not take it.

        A frame that is answered again keeps the answer to its own moment: one record a frame.
        """
        with self._lock:
            if not self._is_closed and grounding.heard_ns is None:
                try:
                    self._heatmaps.append(grounding)
                    image = overlay(frame.image, grounding.heads, self._alpha)
                    self._video.write(image, frame.stamp_ns)
                except OSError as error:
                    self._fail(error)
            self._raise_unreported()

    def write_audio(self, chunk: AudioChunk) -> None:
        """Record sound; a failure is raised by the next `write` or `close`, not here."""
        with self._lock:
            if not self._is_closed:
                try:
                    self._video.write_audio(chunk)
                except OSError as error:
                    self._fail(error)

    def close(self) -> None:
        """Complete the files. An interrupt that arrives meanwhile is raised afterwards."""
        with self._lock, _interrupt_deferred():
            if not self._is_closed:
                try:
                    self._complete()
                except OSError as error:
                    self._fail(error)
            self._raise_unreported()

    def finish(self, report: Mapping[str, Any]) -> None:
        """Close, then write report.json with what was recorded under "recording"."""
        try:
            self.close()
        finally:
            text = json.dumps(_plain({**report, "recording": self.describe()}), indent=2)
            with _interrupt_deferred(), atomic_write(self.directory / "report.json") as file:
                file.write(text.encode() + b"\n")

    def describe(self) -> dict[str, Any]:
        """What was recorded, counted."""
        return {
            "num_frames": self._heatmaps.num_frames,
            "num_video_frames": self._video.num_frames,
            "video_s": round(self._video.duration_s, 3),
            "num_letterboxed": self._video.num_letterboxed,
            "num_unordered": self._video.num_unordered,
            "num_regridded": self._heatmaps.num_regridded,
            **self._video.clock.describe(),
            "error": None if self._failure is None else str(self._failure),
        }

    def _complete(self) -> None:
        """Heatmaps first: their reserve leaves room for the end of the video."""
        self._is_closed = True
        try:
            self._heatmaps.close()
        finally:
            self._video.close()

    def _fail(self, error: OSError) -> None:
        """Save what can be saved and keep one error that tells about it."""
        if not self._is_closed:
            with _interrupt_deferred():
                try:
                    self._complete()
                except OSError as later:
                    logger.debug("closing after %s: %s", error, later)
        kept = []
        if self._heatmaps.num_frames:
            is_spool = self._heatmaps.spool_path.exists()
            path = self._heatmaps.spool_path if is_spool else self._heatmaps.path
            kept.append(f"{path.name} ({self._heatmaps.num_frames} frames)")
        if self._video.num_frames:
            kept.append(f"{self._video.path.name} ({self._video.duration_s:.1f} s)")
        self._failure = self._unreported = OSError(
            error.errno,
            f"recording to {self.directory} stopped: {error.strerror or error}; kept "
            f"{' and '.join(kept) or 'nothing'}; free space or choose another folder with --out",
        )

    def _raise_unreported(self) -> None:
        error, self._unreported = self._unreported, None
        if error is not None:
            raise error


@contextlib.contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done; signals reach the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if pending:
            signal.raise_signal(signal.SIGINT)


def _plain(value: Any) -> Any:
    """The value as strict JSON has it: NumPy scalars and arrays unpacked, NaN and Inf as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
