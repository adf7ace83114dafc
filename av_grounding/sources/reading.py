"""Any moment of a media file, on the clock that all its streams share.

Reading forwards is cheap. What lies far ahead is looked for with a seek, and pictures between
two wanted ones are not decoded; what that gives is believed only where it does not come late.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import resample, to_mono
from av_grounding.sources import decoding
from av_grounding.sources.decoding import StreamProbe
from av_grounding.sources.timeline import clock_may_jump

if TYPE_CHECKING:
    import av

# Decoders of sound need some packets until what they give is right.
PREROLL_S = 0.25
SEEK_AHEAD_S = 10.0
# Stamps of sound are rounded, to milliseconds and worse; what lies further apart is a gap.
STICK_S = 0.04
# So many packets are kept undecoded while the key frame that they need is looked for.
MAX_HELD = 300
ROUNDING_S = 1e-3


@dataclass(frozen=True)
class Sound:
    """A stretch of sound, (s, channels), zero where the file has none; `heard_s` of it it has."""

    samples: Float32[np.ndarray, "s channels"]
    sample_rate_hz: int
    heard_s: float


class _Reader:
    """One stream of a file, at the packet where reading stands; `close` frees it."""

    def __init__(
        self, path: Path, probe: StreamProbe, indices: tuple[int, ...], start_s: float
    ) -> None:
        """`indices` are all streams of the file's clock, `start_s` its zero in the file's time."""
        self.path = path
        self.num_errors = self.num_packets = 0
        self._probe, self._indices, self._start_s = probe, indices, start_s
        self._container: av.container.InputContainer | None = None
        self._open()

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self, seek_s: float | None = None) -> None:
        """Stand at the beginning, or at a packet that a seek to `seek_s` finds."""
        import av

        self.close()
        self._container = av.open(str(self.path))
        self._stream = self._container.streams[self._probe.index]
        if seek_s is not None:
            place = round((seek_s + self._start_s) / self._stream.time_base)
            try:
                self._container.seek(place, stream=self._stream)
            except av.FFmpegError:
                return self._open()
        self._packets = self._own_packets()
        return None

    def _may_seek(self) -> bool:
        return not clock_may_jump(self._container)

    def _own_packets(self) -> Iterator[av.Packet]:
        for packet in decoding.packets(self._container, self._indices, self._on_error):
            if packet.stream.index == self._probe.index:
                self.num_packets += 1
                yield packet

    def _frames(self, packets: list[av.Packet]) -> Iterator[av.frame.Frame]:
        return decoding.decode(packets, self._probe.index, self._on_error)

    def _on_error(self) -> None:
        self.num_errors += 1

    def _time_s(self, packet: av.Packet, ticks: int | None) -> float | None:
        return None if ticks is None else float(ticks * packet.time_base) - self._start_s


@dataclass
class _Run:
    """Sound without a gap."""

    begin_s: float
    sample_rate_hz: int
    blocks: list[np.ndarray] = field(default_factory=list)
    num_samples: int = 0

    @property
    def end_s(self) -> float:
        return self.begin_s + self.num_samples / self.sample_rate_hz

    def add(self, samples: np.ndarray) -> None:
        self.blocks.append(samples)
        self.num_samples += len(samples)

    def forget(self, until_s: float) -> None:
        while self.blocks and self.begin_s + len(self.blocks[0]) / self.sample_rate_hz <= until_s:
            num_gone = len(self.blocks.pop(0))
            self.num_samples -= num_gone
            self.begin_s += num_gone / self.sample_rate_hz


class SoundReader(_Reader):
    """The sound of a file: `read` any stretch, best from the beginning to the end."""

    def _open(self, seek_s: float | None = None) -> None:
        super()._open(seek_s)
        self._runs: list[_Run] = []
        self._from_s = self._until_s = 0.0 if seek_s is None else seek_s
        """What was read: from where, and how far."""
        self._is_over = False

    def read(self, start_s: float = 0.0, duration_s: float | None = None) -> Sound:
        """`duration_s` of sound from `start_s` on; None reads to the end of the sound.

        A file of sound alone ends where that ends.
        """
        stop_s = float("inf") if duration_s is None else start_s + duration_s
        if start_s < self._from_s:
            self._open()
        if start_s > self._until_s + SEEK_AHEAD_S and self._may_seek():
            self._open(start_s - PREROLL_S)
            first = next(self._packets, None)
            time_s = None if first is None else self._time_s(first, first.pts)
            if time_s is None or time_s > start_s - PREROLL_S + ROUNDING_S:
                self._open()
            else:
                self._take(first, start_s)
        # Some decoders give a packet's sound with the next one.
        while self._until_s < stop_s + PREROLL_S and not self._is_over:
            packet = next(self._packets, None)
            if packet is None:
                self._is_over = True
            else:
                self._take(packet, start_s)
        return self._assembled(start_s, stop_s)

    def _take(self, packet: av.Packet, start_s: float) -> None:
        begin_s = self._time_s(packet, packet.pts)
        if begin_s is not None:
            self._until_s = max(self._until_s, begin_s)
            if begin_s + float((packet.duration or 0) * packet.time_base) < start_s - PREROLL_S:
                return
        for frame in self._frames([packet]):
            run = self._runs[-1] if self._runs else None
            time_s = None if frame.time is None else frame.time - self._start_s
            if time_s is None:
                time_s = run.end_s if run else self._probe.start_s - self._start_s
            samples, rate_hz = decoding.float_samples(frame), frame.sample_rate
            is_next = run is not None and abs(time_s - run.end_s) < STICK_S
            if not is_next or run.sample_rate_hz != rate_hz:
                run = _Run(run.end_s if is_next else time_s, rate_hz)
                self._runs.append(run)
            run.add(samples)
            if begin_s is None:
                self._until_s = run.end_s

    def _assembled(self, start_s: float, stop_s: float) -> Sound:
        for run in self._runs:
            run.forget(start_s)
        self._runs = [run for run in self._runs[:-1] if run.num_samples] + self._runs[-1:]
        self._from_s = max(self._from_s, start_s)
        rate_hz, num_channels = self._probe.sample_rate_hz, self._probe.num_channels
        end_s = max([start_s, *(run.end_s for run in self._runs)])
        if stop_s == float("inf") or (self._is_over and len(self._indices) == 1):
            stop_s = min(stop_s, end_s)
        whole = np.zeros((max(0, round((stop_s - start_s) * rate_hz)), num_channels), np.float32)
        heard = np.zeros(len(whole), bool)
        for run in self._runs:
            if not run.num_samples or run.begin_s >= stop_s:
                continue
            samples = _joined(run, rate_hz, num_channels)
            at = round((run.begin_s - start_s) * rate_hz)
            samples = samples[max(0, -at) :]
            at = max(0, at)
            samples = samples[: len(whole) - at]
            whole[at : at + len(samples)] = samples
            heard[at : at + len(samples)] = True
        return Sound(whole, rate_hz, float(np.count_nonzero(heard)) / rate_hz)


def _joined(run: _Run, rate_hz: int, num_channels: int) -> np.ndarray:
    """A run's samples as the whole has them: a broadcast may change both within a file."""
    blocks = [
        block
        if block.shape[1] == num_channels
        else np.repeat(to_mono(block)[:, None], num_channels, axis=1)
        for block in run.blocks
    ]
    samples = np.concatenate(blocks)
    if run.sample_rate_hz == rate_hz:
        return samples
    channels = [resample(channel, run.sample_rate_hz, rate_hz) for channel in samples.T]
    return np.stack(channels, axis=1)


class PictureReader(_Reader):
    """The pictures of a file: the one on show `at` any time, best in ascending order."""

    def _open(self, seek_s: float | None = None) -> None:
        super()._open(seek_s)
        self._stream.thread_type = "SLICE"  # frame threads would decode on, unasked
        self._coming = self._decoded()
        self._shown: av.VideoFrame | None = None
        self._next: av.VideoFrame | None = None
        self._shown_s = 0.0 if seek_s is None else seek_s
        self._next_s = self._wanted_s = self._shown_s
        self._has_left_out = seek_s is not None
        self._may_leave_out = True

    def at(self, wanted_s: float) -> UInt8[np.ndarray, "H W 3"]:
        """The picture on show: the first before the pictures begin, the last past their end.

        Raises ValueError where none decodes.
        """
        if wanted_s < self._shown_s:
            self._open()
        if wanted_s > self._next_s + SEEK_AHEAD_S and self._may_seek():
            self._open(wanted_s)
        for attempt in range(3):
            if self._goes_to(wanted_s):
                assert self._shown is not None
                return decoding.upright(self._shown, self._probe.pixel_aspect)
            # A seek or a key frame led past it: from the beginning, then without leaving out.
            self._open()
            self._may_leave_out = attempt == 0
        raise ValueError(f"{self.path}: no frame decodes")

    def _goes_to(self, wanted_s: float) -> bool:
        """Whether the frame on show at `wanted_s` is `_shown` now."""
        self._wanted_s = wanted_s
        while True:
            if self._next is None:
                self._next = next(self._coming, None)
                if self._next is None:
                    break
                time_s = self._next.time
                if time_s is None and self._has_left_out:
                    break
                period_s = 1 / (self._probe.frame_rate_hz or 25.0) if self._shown else 0.0
                self._next_s = (
                    self._next_s + period_s if time_s is None else time_s - self._start_s
                )
            is_first = self._shown is None and not self._has_left_out
            if self._next_s > wanted_s + ROUNDING_S and not is_first:
                break
            self._shown, self._shown_s = self._next, min(self._next_s, wanted_s)
            self._next, self._has_left_out = None, False
        return self._shown is not None

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Frames up to the wanted one and on, from the last key frame before it."""
        held: list[av.Packet] = []
        is_first = True
        for packet in self._packets:
            begin_s = self._time_s(packet, packet.pts)
            is_passed = packet.is_keyframe and begin_s is not None and begin_s <= self._wanted_s
            if is_passed and self._may_leave_out and not is_first:
                self._stream.codec_context.flush_buffers()
                held = []
                self._shown, self._has_left_out = None, True
            held.append(packet)
            is_first = False
            due_s = self._time_s(packet, packet.pts if packet.dts is None else packet.dts)
            if due_s is None or due_s >= self._wanted_s or len(held) > MAX_HELD:
                waiting, held = held, []
                for one in waiting:
                    yield from self._frames([one])
