"""Recordings: pictures and sound from a media file, decoded by FFmpeg through PyAV."""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import NS_PER_S
from av_grounding.sources import decoding
from av_grounding.sources.decoding import MediaType, StreamProbe
from av_grounding.sources.playback import PlaybackClock
from av_grounding.sources.reading import PictureReader, SoundReader
from av_grounding.sources.still import StillFrames, is_still, read_image
from av_grounding.types import AudioChunk, Frame

if TYPE_CHECKING:
    import av

logger = logging.getLogger(__name__)

# Paced sound is cut to the size that a microphone driver delivers.
LIVE_CHUNK_S = 0.02
# A stream that ends earlier than announced by more than this is called truncated.
TRUNCATION_TOLERANCE_S = 0.25


class MediaFile:
    """A media file: what it holds, and Sources of its pictures and its sound.

    A still picture is a video of one frame (see `video_frames`). Times count from the first
    frame or sample of the file, for all that reads it. With `realtime` stamps are mapped to the
    wall clock and delivery is paced as from live devices; files that play together share `clock`.
    Where the first track of a kind does not decode, the next one that does is used.

    Raises FileNotFoundError (naming similar files) or ValueError (corrupt, empty, no codec).
    """

    def __init__(
        self, path: str | Path, *, realtime: bool = False, clock: PlaybackClock | None = None
    ) -> None:
        self.path = Path(path)
        self.clock = clock or PlaybackClock(realtime)
        self._stated_s: float | None = None
        self._image: np.ndarray | None = None
        self._probes: dict[MediaType, StreamProbe] = {}
        _check_file(self.path)
        if is_still(self.path):
            self._image = read_image(self.path)
            return
        self._probes, self._stated_s = decoding.probe_streams(self.path)
        for kind, probe in self._probes.items():
            if probe.passed_over:
                _say_once(f"{kind} track {len(probe.passed_over) + 1} is used: "
                          f"{'; '.join(probe.passed_over)}")  # fmt: skip

    @cached_property
    def duration_s(self) -> float | None:
        """As the file states it; measured, by reading all of it, where it cannot know."""
        if self._image is not None or self._stated_s is not None:
            return self._stated_s
        return self.measured_duration_s()

    def measured_duration_s(self) -> float:
        """How long pictures and sound really last, which a damaged file does not state."""
        return decoding.measured_duration_s(self.path, self._indices())

    @property
    def is_still(self) -> bool:
        return self._image is not None

    @property
    def has_video(self) -> bool:
        return self.is_still or "video" in self._probes

    @property
    def has_audio(self) -> bool:
        return "audio" in self._probes

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels as delivered, upright; (0, 0) without video."""
        if self._image is not None:
            return self._image.shape[:2]
        return self._probes["video"].image_size if self.has_video else (0, 0)

    @property
    def frame_rate_hz(self) -> float:
        """Mean frame rate as the file states it; 0 without video or when unknown."""
        return self._probes["video"].frame_rate_hz if "video" in self._probes else 0.0

    @property
    def sample_rate_hz(self) -> int:
        return self._probes["audio"].sample_rate_hz if self.has_audio else 0

    @property
    def num_channels(self) -> int:
        return self._probes["audio"].num_channels if self.has_audio else 0

    def video_frames(self, duration_s: float | None = None) -> VideoFrames | StillFrames:
        """The pictures; a still is repeated for `duration_s` (None: shown once).

        Raises ValueError if the file has no video or its codec cannot be decoded.
        """
        if self._image is not None:
            return StillFrames(self._image, self.clock, duration_s)
        return VideoFrames(self, self._usable("video"), self._start_s())

    def audio_chunks(self) -> AudioChunks:
        """The sound; ValueError if the file has none, an empty one or an unknown codec."""
        return AudioChunks(self, self._usable("audio"), self._start_s())

    def read_audio(self) -> tuple[Float32[np.ndarray, "s channels"], int]:
        """The whole sound on the file's clock and its sample rate; zeros where there is none."""
        with closing(self.sound_reader()) as reader:
            sound = reader.read()
        return sound.samples, sound.sample_rate_hz

    def sound_reader(self) -> SoundReader:
        """The sound of any moment; raises as `audio_chunks`."""
        return SoundReader(self.path, self._usable("audio"), self._indices(), self._start_s())

    def picture_reader(self) -> PictureReader:
        """The picture of any moment of a video; raises as `video_frames`."""
        return PictureReader(self.path, self._usable("video"), self._indices(), self._start_s())

    def middle_frame(self) -> UInt8[np.ndarray, "H W 3"]:
        """The picture on show in the middle; ValueError where none decodes."""
        if self.is_still:
            return next(iter(self.video_frames())).image
        with closing(self.picture_reader()) as reader:
            return reader.at((self.duration_s or 0.0) / 2)

    def _usable(self, kind: MediaType) -> StreamProbe:
        probe = self._probes.get(kind)
        if probe is None:
            what = "picture" if kind == "video" else "sound"
            found = " and ".join(self._probes) or "a still picture"
            raise ValueError(f"{self.path}: has no {what}, only {found}; name a file that has one")
        if probe.fault is not None:
            raise ValueError(probe.fault)
        return probe

    def _indices(self) -> tuple[int, ...]:
        """The streams whose packets tell the file's clock."""
        return tuple(probe.index for probe in self._probes.values() if probe.fault is None)

    def _start_s(self) -> float:
        return min(probe.start_s for probe in self._probes.values() if probe.fault is None)


class _MediaSource:
    """Iterates one stream of a file; `close` ends the iteration from any thread."""

    kind: MediaType

    def __init__(
        self,
        file: MediaFile,
        probe: StreamProbe,
        start_s: float,
        clock: PlaybackClock | None = None,
    ) -> None:
        self.path = file.path
        self.num_errors = 0
        self._file, self._indices = file, file._indices()
        self._probe = probe
        self._start_s = start_s
        self._clock = clock or file.clock
        self._closed = threading.Event()

    @property
    def duration_s(self) -> float | None:
        """Of the file."""
        return self._file.duration_s

    def close(self) -> None:
        """End the iteration, also from another thread."""
        self._closed.set()

    def _decoded(self) -> Iterator[tuple[av.frame.Frame, int]]:
        """Decoded frames with their time in nanoseconds from the start of the file."""
        import av

        end_s = next_s = self._probe.start_s
        with av.open(str(self.path)) as container:
            stream = container.streams[self._probe.index]
            expected_s = decoding.stream_end_s(container, stream)
            packets = decoding.packets(container, self._indices, self._on_error)
            for frame in decoding.decode(packets, self._probe.index, self._on_error):
                if self._closed.is_set():
                    return
                time_s = next_s if frame.time is None else frame.time
                next_s = time_s + self._frame_duration_s(frame)
                end_s = max(end_s, next_s)
                yield frame, round((time_s - self._start_s) * NS_PER_S)
        if self.num_errors or (expected_s or 0.0) - end_s > TRUNCATION_TOLERANCE_S:
            logger.warning(
                "%s: its %s ends at %.2f s of %s with %d damaged packets; what decoded was used",
                self.path,
                self.kind,
                end_s,
                "an unknown length" if expected_s is None else f"{expected_s:.2f} s",
                self.num_errors,
            )

    def _on_error(self) -> None:
        self.num_errors += 1

    def _frame_duration_s(self, frame: av.frame.Frame) -> float:
        raise NotImplementedError


class VideoFrames(_MediaSource):
    """The frames of a video, upright and with square pixels, as players show them."""

    kind: MediaType = "video"

    @property
    def frame_rate_hz(self) -> float:
        return self._probe.frame_rate_hz

    def __iter__(self) -> Iterator[Frame]:
        for frame, media_ns in self._decoded():
            image = decoding.upright(frame, self._probe.pixel_aspect)
            if not self._clock.wait(media_ns, self._closed):
                return
            yield Frame(image, self._clock.stamp(media_ns))

    def _frame_duration_s(self, frame: av.frame.Frame) -> float:
        return 1.0 / self._probe.frame_rate_hz if self._probe.frame_rate_hz else 0.04


class AudioChunks(_MediaSource):
    """The sound at its native rate, (s, channels) float32."""

    kind: MediaType = "audio"

    @property
    def sample_rate_hz(self) -> int:
        return self._probe.sample_rate_hz

    def __iter__(self) -> Iterator[AudioChunk]:
        for frame, media_ns in self._decoded():
            rate = frame.sample_rate
            samples = decoding.float_samples(frame)
            step = round(LIVE_CHUNK_S * rate) if self._clock.realtime else len(samples)
            for first in range(0, len(samples), max(step, 1)):
                block = samples[first : first + step]
                start_ns = media_ns + round(first * NS_PER_S / rate)
                # A microphone delivers a block when its last sample has been heard.
                end_ns = start_ns + round(len(block) * NS_PER_S / rate)
                if not self._clock.wait(end_ns, self._closed):
                    return
                yield AudioChunk(block, self._clock.stamp(start_ns), rate)

    def _frame_duration_s(self, frame: av.frame.Frame) -> float:
        return frame.samples / frame.sample_rate


@lru_cache(maxsize=1000)
def _say_once(line: str) -> None:
    """Data sets are opened again and again."""
    logger.warning(line)


def similar_names(path: Path) -> list[str]:
    """Names in the folder of a missing file that resemble it."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []
    folded = {name.lower(): name for name in names}
    matches = difflib.get_close_matches(path.name.lower(), folded, n=3, cutoff=0.6)
    same_stem = [n for n in names if Path(n).stem == path.stem and n.lower() not in matches]
    return [folded[match] for match in matches] + same_stem[:3]


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name one media file in it")
    if not path.exists():
        similar = similar_names(path)
        if similar:
            hint = "similar there: " + ", ".join(similar)
        elif path.parent.is_dir():
            hint = f"nothing of a similar name in {path.parent.resolve()}"
        else:
            hint = f"the folder {path.parent} does not exist either"
        raise FileNotFoundError(f"{path}: no such file; {hint}")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes); copy or record it again")
