"""A video of overlays with the input's sound, in step by the stamps of both."""

from __future__ import annotations

import collections
import logging
import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import NS_PER_S, sanitize, to_float32
from av_grounding.image import letterbox
from av_grounding.recording.clock import JUMP_S, RecordingClock
from av_grounding.types import AudioChunk

if TYPE_CHECKING:
    import av

logger = logging.getLogger(__name__)

VIDEO_TIME_BASE = Fraction(1, 90_000)
SOUND_RATE_HZ = 48_000
MAX_SIDE_PX = 1920
MIN_SIDE_PX = 16
KEY_FRAME_S = 1.0
# What is assumed where a source does not know its frame rate (0).
DEFAULT_FRAME_RATE_HZ = 30.0
# So much sound waits for the first frame; and where none comes, silence follows the frames by it.
EARLY_SOUND_S = 10.0
# Stamps jitter, and clocks drift apart. Below the first bound the mean error of the stamps is
# left alone, beyond the second a single chunk counts as a gap or a jump back.
DRIFT_NS = 15_000_000
JUMP_NS = JUMP_S * NS_PER_S
DRIFT_SMOOTHING = 0.05


class OverlayVideo:
    """Writes H.264 and AAC to `<name>.part.mp4`, renamed to `<name>.mp4` when closed.

    The part file is fragmented, so it plays up to about the last second if the program dies.
    Time zero is the first frame; sound before it is cut. The first frame fixes the size (at most
    1920 pixels a side); frames of another size are letterboxed and counted. Frames whose stamp
    does not advance are left out and counted, as is what the `clock` finds implausible.
    """

    def __init__(self, path: Path, frame_rate_hint_hz: float, has_audio: bool) -> None:
        self.path = path
        self.part_path = path.with_suffix(".part.mp4")
        self.num_letterboxed = 0
        self.num_unordered = 0
        self.num_frames = 0
        self._frame_rate_hint_hz = frame_rate_hint_hz or DEFAULT_FRAME_RATE_HZ
        self._has_audio = has_audio
        self._container: av.container.OutputContainer | None = None
        self._video: Any = None
        self._track: SoundTrack | None = None
        self._early: collections.deque[AudioChunk] = collections.deque()
        self._early_s = 0.0
        self._size = self._first_size = (0, 0)
        self.clock = RecordingClock()
        self._last_pts = -1

    @property
    def duration_s(self) -> float:
        return float((self._last_pts + 1) * VIDEO_TIME_BASE)

    def write(self, image: UInt8[np.ndarray, "H W 3"], stamp_ns: int) -> None:
        import av

        time_ns = self.clock.frame_ns(stamp_ns)
        if time_ns is None:
            if self.clock.num_implausible_frames == 1:
                logger.warning(
                    "the video leaves out a frame whose stamp is far from the last one's; "
                    "further ones are counted as num_implausible_frames",
                )
            return
        if self._container is None:
            self._start(image.shape[:2])
        assert self._container is not None
        pts = round(time_ns * VIDEO_TIME_BASE.denominator / NS_PER_S)
        if pts <= self._last_pts:
            self.num_unordered += 1
            return
        if image.shape[:2] != self._first_size:
            self.num_letterboxed += 1
        frame = av.VideoFrame.from_ndarray(letterbox(image, *self._size), format="rgb24")
        frame.pts, frame.time_base = pts, VIDEO_TIME_BASE
        self._container.mux(self._video.encode(frame))
        self._last_pts = pts
        self.num_frames += 1
        if self._track is not None:
            # Bit by bit, so that sound which comes back after an hour has not an hour to fill.
            behind_ns = time_ns - self._track.end_ns - EARLY_SOUND_S * NS_PER_S
            self._container.mux(self._track.fill(max(0.0, behind_ns)))

    def write_audio(self, chunk: AudioChunk) -> None:
        if not self._has_audio or len(chunk.samples) == 0:
            return
        if self._container is None:
            self._early.append(chunk)
            self._early_s += _duration_s(chunk)
            while self._early_s - _duration_s(self._early[0]) > EARLY_SOUND_S:
                self._early_s -= _duration_s(self._early.popleft())
            return
        assert self._track is not None
        time_ns = self.clock.sound_ns(chunk.stamp_ns, self._track.end_ns)
        if time_ns is not None:
            self._container.mux(self._track.encode(chunk, time_ns))
        elif self.clock.num_implausible_chunks == 1:
            logger.warning(
                "the video leaves out sound whose stamp is far from the frames'; further "
                "chunks are counted as num_implausible_chunks: stamp both by one clock",
            )

    def close(self) -> None:
        """Finish the file; on OSError what was written keeps its place and plays."""
        container, self._container = self._container, None
        if container is None:
            if self.num_frames == 0:
                self.path.unlink(missing_ok=True)  # an earlier run's, beside this run's files
            return
        try:
            try:
                if self._track is not None:
                    container.mux(self._track.flush())
                container.mux(self._video.encode(None))
            finally:
                container.close()
        except OSError:
            cut_to_complete_fragments(self.part_path)
            raise
        finally:
            os.replace(self.part_path, self.path)

    def _start(self, size: tuple[int, int]) -> None:
        import av

        hybrid = av.library_versions["libavformat"] >= (61, 7)
        kind = "hybrid_fragmented" if hybrid else "default_base_moof"
        # The index waits for the first fragment (delay_moov): only then is the encoder's delay
        # known that keeps sound and picture together.
        options = {"movflags": f"{kind}+frag_keyframe+delay_moov", "flush_packets": "1"}
        container = av.open(str(self.part_path), "w", format="mp4", options=options)
        self._container = container
        self._first_size, self._size = size, video_size(*size)
        rate = max(1, round(self._frame_rate_hint_hz))
        # No look-ahead and no reordering: a frame is on disk as soon as its fragment is.
        # One thread: the cores belong to the model.
        x264 = {"preset": "superfast", "threads": "1", "crf": "23", "tune": "zerolatency"}
        self._video = container.add_stream("libx264", rate=rate, options=x264)
        self._video.height, self._video.width = self._size
        self._video.pix_fmt = "yuv420p"
        self._video.time_base = self._video.codec_context.time_base = VIDEO_TIME_BASE
        self._video.codec_context.gop_size = max(1, round(rate * KEY_FRAME_S))
        if self._has_audio:
            self._track = SoundTrack(container.add_stream("aac", rate=SOUND_RATE_HZ))
        while self._early:
            self.write_audio(self._early.popleft())


class SoundTrack:
    """Chunks of any rate and channel count as one stereo track without seams.

    Chunks follow each other sample by sample; silence fills gaps and overlaps are cut, so that
    the track keeps to the times of its chunks. It reaches up to `end_ns`.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._stream.layout = "stereo"
        self._resampler: av.AudioResampler | None = None
        self._rate_hz = 0
        self.end_ns = 0.0
        self._drift_ns = 0.0
        self._is_catching_up = True
        self._num_samples = 0

    def encode(self, chunk: AudioChunk, time_ns: int) -> list[av.Packet]:
        """Packets that are ready after this chunk, whose place on the track is `time_ns`."""
        samples, packets = self._stereo(chunk), []
        if chunk.sample_rate_hz != self._rate_hz:
            packets += self._restart(chunk.sample_rate_hz)
        error_ns = time_ns - self.end_ns
        self._drift_ns += DRIFT_SMOOTHING * (error_ns - self._drift_ns)
        if abs(error_ns) > JUMP_NS or self._is_catching_up:
            shift_ns = error_ns
        else:
            shift_ns = self._drift_ns if abs(self._drift_ns) > DRIFT_NS else 0.0
        if shift_ns:
            self._drift_ns = 0.0
        shift = round(shift_ns * self._rate_hz / NS_PER_S)
        if shift < 0:
            samples = samples[:, -shift:]
        # While whole chunks are cut, and at the start, the stamps alone say where to go on.
        self._is_catching_up = samples.shape[1] == 0
        return [*packets, *self._silence(max(shift, 0)), *self._push(samples)]

    def fill(self, duration_ns: float) -> list[av.Packet]:
        """Packets that are ready after so much silence."""
        packets = [] if self._rate_hz else self._restart(SOUND_RATE_HZ)
        return packets + self._silence(round(duration_ns * self._rate_hz / NS_PER_S))

    def _silence(self, num_samples: int) -> list[av.Packet]:
        packets: list[av.Packet] = []
        for first in range(0, num_samples, self._rate_hz):
            piece = min(num_samples - first, self._rate_hz)
            packets += self._push(np.zeros((2, piece), np.float32))
        return packets

    def flush(self) -> list[av.Packet]:
        return self._restart(0) + self._stream.encode(None)

    def _stereo(self, chunk: AudioChunk) -> Float32[np.ndarray, "2 s"]:
        samples, _, _ = sanitize(to_float32(chunk.samples))
        samples = samples[:, None] if samples.ndim == 1 else samples
        if samples.shape[1] != 2:
            samples = samples.mean(axis=1, keepdims=True).repeat(2, axis=1)
        return np.ascontiguousarray(samples.T)

    def _push(self, samples: Float32[np.ndarray, "2 s"]) -> list[av.Packet]:
        import av

        if samples.shape[1] == 0:
            return []
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate = self._rate_hz
        self.end_ns += samples.shape[1] * NS_PER_S / self._rate_hz
        assert self._resampler is not None
        return self._encode(self._resampler.resample(frame))

    def _restart(self, rate_hz: int) -> list[av.Packet]:
        import av

        packets = self._encode(self._resampler.resample(None)) if self._resampler else []
        self._resampler = av.AudioResampler("fltp", "stereo", SOUND_RATE_HZ) if rate_hz else None
        self._rate_hz = rate_hz
        return packets

    def _encode(self, frames: list[av.AudioFrame]) -> list[av.Packet]:
        packets = []
        for frame in frames:
            frame.pts, frame.time_base = self._num_samples, Fraction(1, SOUND_RATE_HZ)
            self._num_samples += frame.samples
            packets += self._stream.encode(frame)
        return packets


def _duration_s(chunk: AudioChunk) -> float:
    return len(chunk.samples) / chunk.sample_rate_hz


def cut_to_complete_fragments(path: Path) -> None:
    """Drop what follows the last complete media box of a fragmented MP4, so that it decodes."""
    file_bytes = path.stat().st_size
    begin = complete = 0
    with open(path, "r+b") as file:
        while begin + 16 <= file_bytes:
            file.seek(begin)
            size, kind, large_size = struct.unpack(">I4sQ", file.read(16))
            size = large_size if size == 1 else size
            if size < 8 or begin + size > file_bytes:
                break
            begin += size
            if kind == b"mdat":
                complete = begin
        if complete:
            file.truncate(complete)


def video_size(height: int, width: int) -> tuple[int, int]:
    """An even size of at most 1920 and at least 16 pixels a side that holds (height, width)."""
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    even = (2 * -(-round(side * scale) // 2) for side in (height, width))
    rows, columns = (max(side, MIN_SIDE_PX) for side in even)
    return rows, columns
