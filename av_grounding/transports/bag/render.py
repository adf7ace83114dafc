"""From a recording to a clip to show around: camera and every head, with the sound."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from av_grounding.audio import NS_PER_S, StatefulResampler, to_clean_mono
from av_grounding.drawing.clip import BINS_PER_S, ClipCanvas, ClipTimeline, gated_score
from av_grounding.drawing.styles import Answers, RecordedAnswer
from av_grounding.recording.clock import JUMP_S, RecordingClock
from av_grounding.recording.overlay_video import OverlayVideo
from av_grounding.streaming.voice import VoiceActivity
from av_grounding.transports import messages
from av_grounding.transports.bag.reader import Bag, RawMessage
from av_grounding.transports.bag.source import BagPlayback
from av_grounding.types import AudioChunk, Frame

MARKS_RATE_HZ = 16_000

MAX_WAITING = 60
"""Frames whose answer is still to come; what waits longer has none."""
_PART = re.compile(r"/(?P<part>(?P<head>[a-z][a-z0-9_]*)/(?:heatmap|score))$")


def render_recording(
    path: str | Path, out: str | Path, on_progress: Callable[[float, float], None] | None = None
) -> dict[str, Any]:
    """Write the clip of a recording as MP4 (H.264, AAC); returns its length and counts.

    `on_progress` hears the seconds done and the seconds there are. The file appears when it is
    complete. ValueError where the recording holds no pictures or no heatmaps.
    """
    path, out = Path(path), Path(out)
    if (path / "heatmaps.npz").exists() and not (path / "metadata.yaml").exists():
        raise ValueError(
            f"{path} is a folder of run --out, whose overlay.mp4 is a clip already; panels need "
            "the pictures themselves: record with run … --record FILE.mcap"
        )
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"{out}: clips are MP4: name it {out.with_suffix('.mp4')}")
    recording = _Recording(path)
    timeline = recording.timeline()
    part = out.with_name(f".{out.stem}.rendering.mp4")
    out.parent.mkdir(parents=True, exist_ok=True)
    video = OverlayVideo(part, recording.frame_rate_hz, recording.playback.audio is not None)
    canvas: ClipCanvas | None = None
    try:
        for item in recording.play():
            if isinstance(item, AudioChunk):
                video.write_audio(item)
                continue
            frame, answers = item
            if canvas is None:
                canvas = ClipCanvas(frame.image.shape[:2], timeline, recording.thresholds)
            time_s = frame.stamp_ns / NS_PER_S
            video.write(canvas.draw(frame, answers, time_s), frame.stamp_ns)
            if on_progress is not None:
                on_progress(time_s, timeline.duration_s)
        video.close()
        os.replace(part, out)
    finally:
        for leftover in (part, video.part_path):
            leftover.unlink(missing_ok=True)
    return {
        "clip": str(out),
        "num_frames": video.num_frames,
        "duration_s": round(video.duration_s, 3),
        "num_utterances": len(timeline.utterances_s),
        **recording.left_out,
        "fault": recording.bag.fault,
    }


class _Recording:
    """A bag with pictures and answers to them."""

    def __init__(self, path: Path) -> None:
        self.bag = Bag(path)
        self.playback = BagPlayback(self.bag, realtime=False)
        self._parts: dict[str, str] = {}
        for name in self.bag.topics:
            if (found := _PART.search(name)) and found["part"] not in self._parts.values():
                self._parts[name] = found["part"]
        heads = [part[:-8] for part in self._parts.values() if part.endswith("/heatmap")]
        if not heads:
            raise ValueError(
                f"{path}: no heatmaps in it; compute and record them: av-grounding run bag:{path} "
                "--as-fast-as-possible --record grounded.mcap"
            )
        if self.playback.image is None:
            raise ValueError(f"{path}: no pictures in it; record them along with the heatmaps")
        self.thresholds = {head: self._noted(head, "threshold", 0.5) for head in sorted(heads)}
        self._gate_dbfs = self._noted("gate", "min_dbfs", -50.0)
        self._hangover_s = self._noted("speech", "hangover_s", 0.3)
        self.frame_rate_hz = 30.0
        self.left_out: dict[str, int] = {}
        """What `timeline` found implausible, counted."""
        self._zero_ns = 0

    def _noted(self, section: str, name: str, default: float) -> float:
        """A parameter of the run that was recorded, within reason."""
        noted: Any = self.playback.facts
        for key in ("config", section, name):
            noted = noted.get(key) if isinstance(noted, dict) else None
        is_number = isinstance(noted, int | float) and abs(noted) <= 1e3
        return float(noted) if is_number else default

    def timeline(self) -> ClipTimeline:
        """Read everything but the pictures once."""
        answers, clock = _Answers(), RecordingClock()
        times_ns: list[int] = []
        scores: list[tuple[float, ...]] = []
        chunks: list[AudioChunk] = []
        marks = _Marks(self._gate_dbfs, self._hangover_s, clock)
        for message in self.bag.messages(self._names(with_pictures=False)):
            part = self._parts.get(message.topic)
            if part is None:
                chunk = self._item(message)
                if chunk is not None and not times_ns:
                    # Only the first frame says where the clip begins.
                    chunks.append(chunk)
                elif chunk is not None:
                    marks.push(chunk)
                continue
            answer = self._add(answers, part, message)
            if answer is None:
                continue
            stamp_ns, heads = answer
            time_ns = clock.frame_ns(stamp_ns)
            if time_ns is None:
                continue
            if not times_ns:
                first_ns = stamp_ns
                for chunk in chunks:
                    marks.push(chunk)
            times_ns.append(time_ns)
            scores.append(tuple(gated_score(heads[head]) for head in self.thresholds))
        if not times_ns:
            raise ValueError(f"{self.bag.path}: no complete answer in it, so there is no clip")
        self._zero_ns = first_ns
        self.left_out = clock.describe()
        times_s = np.array(times_ns) / NS_PER_S
        order = np.argsort(times_s, kind="stable")
        duration_s = float(times_s.max())
        if duration_s > 0.0:
            self.frame_rate_hz = (len(times_ns) - 1) / duration_s
        values = np.array(scores, np.float32)[order]
        return ClipTimeline(
            duration_s + 1.0 / self.frame_rate_hz,
            marks.peaks(),
            marks.utterances_s(),
            times_s[order],
            {head: values[:, column] for column, head in enumerate(self.thresholds)},
        )

    def play(self) -> Iterator[AudioChunk | tuple[Frame, Answers]]:
        """Sound, and frames with their answers, in the order of the recording.

        Stamps count from the first frame of `timeline` on.
        """
        answers, clock = _Answers(), RecordingClock(self._zero_ns)
        for message in self.bag.messages(self._names(with_pictures=True)):
            part = self._parts.get(message.topic)
            if part is None:
                item = self._item(message)
                if isinstance(item, AudioChunk):
                    yield replace(item, stamp_ns=item.stamp_ns - clock.zero_ns)
                elif item is not None:
                    answers.frames[item.stamp_ns] = item
                    while len(answers.frames) > MAX_WAITING:
                        answers.frames.pop(next(iter(answers.frames)))
                continue
            answer = self._add(answers, part, message)
            if answer is not None:
                frame = answers.frames.pop(answer[0], None)
                time_ns = clock.frame_ns(answer[0])
                if frame is not None and time_ns is not None:
                    yield replace(frame, stamp_ns=time_ns), answer[1]

    def _names(self, with_pictures: bool) -> list[str]:
        inputs = [self.playback.audio, self.playback.image if with_pictures else None]
        return [*self._parts, *(topic.name for topic in inputs if topic is not None)]

    def _item(self, message: RawMessage) -> Any:
        try:
            return self.playback.item(message)
        except messages.MalformedMessage as error:
            self.playback.malformed.add(message.topic, error)
            return None

    def _add(
        self, answers: _Answers, part: str, message: RawMessage
    ) -> tuple[int, Answers] | None:
        try:
            return answers.add(part, self.bag.decode(message), set(self._parts.values()))
        except ValueError as error:
            self.playback.malformed.add(message.topic, error)
            return None


@dataclass
class _Answers:
    """Frames and parts of answers that wait for each other, by stamp."""

    frames: dict[int, Frame] = field(default_factory=dict)
    _parts: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add(self, part: str, message: Any, parts: set[str]) -> tuple[int, Answers] | None:
        """Stamp and heads of the whole answer, once the last of its parts is there."""
        stamp_ns, _ = messages.header_of(message)
        waiting = self._parts.setdefault(stamp_ns, {})
        if part.endswith("/heatmap"):
            waiting[part] = messages.decode_heatmap(message)
        else:
            results = message.results
            waiting[part] = float(results[0].score) if len(results) else 0.0
        while len(self._parts) > MAX_WAITING:
            self._parts.pop(next(iter(self._parts)))
        if waiting.keys() < parts:
            return None
        del self._parts[stamp_ns]
        return stamp_ns, {
            (head := name[: -len("/heatmap")]): RecordedAnswer(
                heatmap, waiting.get(f"{head}/score", float(heatmap.max(initial=0.0)))
            )
            for name, heatmap in waiting.items()
            if name.endswith("/heatmap")
        }


class _Marks:
    """Envelope and utterances of the sound, from the first frame on."""

    def __init__(self, gate_dbfs: float, hangover_s: float, clock: RecordingClock) -> None:
        self._gate_dbfs, self._hangover_s, self._clock = gate_dbfs, hangover_s, clock
        self._resampler: StatefulResampler | None = None
        # First sample and sound of each stretch: what is silent for long takes no memory.
        self._stretches: list[tuple[int, list[np.ndarray]]] = []
        self._end = 0

    def push(self, chunk: AudioChunk) -> None:
        time_ns = self._clock.sound_ns(chunk.stamp_ns, self._end * NS_PER_S / MARKS_RATE_HZ)
        if time_ns is None:
            return
        waveform, _, _ = to_clean_mono(chunk.samples)
        if self._resampler is None or self._resampler.from_hz != chunk.sample_rate_hz:
            self._resampler = StatefulResampler(chunk.sample_rate_hz, MARKS_RATE_HZ)
        samples = self._resampler.push(waveform)
        missing = round(time_ns * MARKS_RATE_HZ / NS_PER_S) - self._end
        if not self._stretches or abs(missing) > JUMP_S * MARKS_RATE_HZ:
            samples = samples[max(0, -missing) :]
            if not self._stretches or missing > MARKS_RATE_HZ:
                self._end += max(0, missing)
                self._stretches.append((self._end, []))
            else:
                self._append(np.zeros(max(0, missing), np.float32))
        self._append(samples)

    def _append(self, samples: np.ndarray) -> None:
        # 16 bits are plenty for marks, and an hour of sound stays below 120 MB.
        self._stretches[-1][1].append(np.rint(samples * 32767).astype(np.int16))
        self._end += samples.size

    def peaks(self) -> np.ndarray:
        step = MARKS_RATE_HZ // BINS_PER_S
        peaks = np.zeros(-(-self._end // step), np.float32)
        for first, pieces in self._stretches:
            samples = np.pad(np.concatenate([*pieces, np.zeros(0, np.int16)]), (first % step, 0))
            samples = np.pad(samples, (0, -len(samples) % step)).reshape(-1, step)
            at = peaks[first // step : first // step + len(samples)]
            np.maximum(at, np.abs(samples.astype(np.int32)).max(axis=1) / 32767, out=at)
        return peaks

    def utterances_s(self) -> list[tuple[float, float]]:
        found = []
        for first, pieces in self._stretches:
            num_samples = sum(map(len, pieces))
            history_s = num_samples / MARKS_RATE_HZ + 1.0
            voice = VoiceActivity(MARKS_RATE_HZ, hangover_s=self._hangover_s, history_s=history_s)
            for piece in pieces:
                voice.push(piece.astype(np.float32) / 32767)
            for span in voice.utterances(0, num_samples, self._gate_dbfs):
                start, stop = first + span.start, first + span.stop
                found.append((start / MARKS_RATE_HZ, stop / MARKS_RATE_HZ))
        return found
