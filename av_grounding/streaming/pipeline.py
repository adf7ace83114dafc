"""The stream: audio chunks and frames in, answers out. No thread, no clock of its own, no I/O."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from av_grounding.audio import NS_PER_S, StatefulResampler, check_sample_rate, to_clean_mono
from av_grounding.config.streaming import StreamingConfig
from av_grounding.image import ResizeTransform, check_image
from av_grounding.streaming.clock import SampleClock
from av_grounding.streaming.hearing import Hearing
from av_grounding.streaming.listening import listen_now
from av_grounding.streaming.looking import LookedAt
from av_grounding.streaming.pooling import Queries, answer
from av_grounding.streaming.separating import LOOKAHEAD_S, LiveSeparation, Place
from av_grounding.streaming.source_ids import SourceIds
from av_grounding.streaming.stray import StrayStamps
from av_grounding.types import AudioChunk, Backend, Grounding, ImageTokens, VoiceMarks

LOGGER = logging.getLogger(__name__)
SUSPICIOUS_LAG_S = 5.0
MAX_AGAIN_S = 5.0
"""Sound so much newer than the last frame says nothing about it: the camera has stopped."""
NOTHING_HEARD: Queries = {}


class GroundingStream:
    """Grounds frames in the sound around them, deterministically: same calls, same bytes.

    Audio is encoded once per hop and its tokens cached; an image is encoded once per frame and
    answered at once with the sound that has arrived. Which sound a frame uses is decided by its
    stamp, not by how much was pushed: the windows that ended by then, so that pushing audio in
    other chunks, or further ahead, changes nothing. Not thread-safe, but for `look`.
    """

    def __init__(self, backend: Backend, config: StreamingConfig | None = None) -> None:
        self.backend = backend
        self.config = StreamingConfig() if config is None else config
        self.on_voice: Callable[[VoiceMarks], None] | None = None
        """Told once per hop what was marked since; runs in the thread that pushes audio."""
        self._hearing = Hearing(backend, self.config)
        self._looked_at = LookedAt()
        self._separation: LiveSeparation | None = None
        num = backend.spec.max_sources
        self._source_ids = SourceIds(num) if num else None
        self._counters = dict.fromkeys(
            (
                "num_audio_chunks",
                "num_audio_samples",
                "num_nonfinite_samples",
                "num_clipped_samples",
                "num_gaps",
                "num_gap_samples",
                "num_overlaps",
                "num_overlap_samples",
                "num_repeated_chunks",
                "num_audio_resets",
                "num_mended_stamps",
                "num_rate_changes",
                "num_frames",
                "num_frame_stamp_steps_back",
                "num_frame_size_changes",
            ),
            0,
        )
        self._warned: set[str] = set()
        self._is_apart = False
        self._drift_ppm = 0.0
        self._audio_lag_s = 0.0
        self._placement: ResizeTransform | None = None
        self._last_frame_stamp_ns: int | None = None
        self._last_frame: tuple[np.ndarray, ImageTokens, int, str] | None = None
        self._stray = StrayStamps(self.config.max_gap_s, self.config.max_backstep_s)
        self._start_timeline()

    def reset(self) -> None:
        """Forget all sound and every stamp; the counters go on."""
        self._start_timeline()
        self._stray.reset()
        self._last_frame_stamp_ns = self._last_frame = None
        if self._source_ids is not None:
            self._source_ids.reset()

    @property
    def is_idle(self) -> bool:
        """Whether nobody wants answers: sound is kept, and encoded once a frame asks for it."""
        return self._hearing.is_idle

    @is_idle.setter
    def is_idle(self, is_idle: bool) -> None:
        self._hearing.is_idle = is_idle

    def restarted(self, config: StreamingConfig) -> GroundingStream:
        """A new stream under another configuration, whose counters go on."""
        other = GroundingStream(self.backend, config)
        other._counters, other.on_voice = self._counters, self.on_voice
        if self._is_apart:
            other.hear_apart()
        if self._separation is not None:
            other.separate(self._separation.place, lookahead_s=self._separation.lookahead_s)
        return other

    def hear_apart(self) -> None:
        """Encode sound in a thread of its own: a long window and a frame wait for each other no
        more. Frames are answered with the newest tokens that are finished, so that answers depend
        on the machine from now on.
        """
        self._is_apart = True
        self._hearing.hear_apart()

    def finish(self, timeout_s: float | None = None) -> None:
        """Wait for the window that is being encoded apart, if any."""
        self._hearing.finish(timeout_s)

    @property
    def stats(self) -> dict[str, Any]:
        """Counters since construction, clock drift, the last frame's audio lag, and the hop that
        this machine achieves, also as a multiple of the one that was set."""
        separation = {}
        if self._separation is not None:
            separation = {
                "num_separation_drops": self._separation.num_dropped_hops,
                "separation_latency_s": self._separation.latency_s,
            }
        return {
            **self._counters,
            **separation,
            "num_windows_encoded": self._hearing.num_windows,
            "num_windows_skipped": self._hearing.num_skipped,
            "hop_s": self._hearing.step / self._hearing.sample_rate_hz,
            "hop_widened": self._hearing.step / self._hearing.hop,
            "drift_ppm": self._drift_ppm,
            "audio_lag_ms": 1e3 * self._audio_lag_s,
        }

    def push_audio(self, samples: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        """Take in a chunk, (s,) or (s, channels) of any sample type, and encode complete hops.

        `stamp_ns` is the capture time of the first sample. Missing samples are filled with
        zeros, repeated ones left out; both are counted.
        """
        sample_rate_hz = check_sample_rate(sample_rate_hz)
        waveform, num_nonfinite, num_clipped = to_clean_mono(samples)
        if waveform.size == 0:
            return
        stamp_ns = int(stamp_ns) + round(self.config.audio_offset_s * NS_PER_S)
        self._count("num_audio_chunks")
        self._count("num_nonfinite_samples", num_nonfinite, "%d samples were NaN or infinite")
        self._count("num_clipped_samples", num_clipped, "%d samples were clipped to [-1, 1]")
        if self._is_repeated(waveform, stamp_ns):
            self._count("num_repeated_chunks", 1, "%d chunk came twice and was left out")
            return
        num_before = self._stray.num_mended
        for chunk in self._stray.push(AudioChunk(waveform, stamp_ns, sample_rate_hz)):
            self._hear(chunk.samples, chunk.stamp_ns, chunk.sample_rate_hz)
        num_mended = self._stray.num_mended - num_before
        self._count("num_mended_stamps", num_mended, "%d chunk of sound was stamped far off")

    def _hear(self, waveform: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        if self._clock is None:
            self._start_segment(sample_rate_hz, None)
        elif self._clock.sample_rate_hz != sample_rate_hz:
            self._count("num_rate_changes", 1, f"the sample rate changed to {sample_rate_hz} Hz")
            self._change_rate(sample_rate_hz)
        placement = self._clock.place(stamp_ns, waveform.size)
        if placement.starts_over:
            self._count("num_audio_resets", 1, "audio stamps jumped: the timeline starts over")
            self._start_timeline()
            self._start_segment(sample_rate_hz, None)
            placement = self._clock.place(stamp_ns, waveform.size)
        if placement.num_gap:
            self._count("num_gaps", 1, f"{placement.num_gap} samples are missing: zeros instead")
            self._count("num_gap_samples", placement.num_gap)
            self._listen(np.zeros(placement.num_gap, np.float32))
        if placement.num_overlap:
            message = f"{placement.num_overlap} samples came twice and were left out"
            self._count("num_overlaps", 1, message)
            self._count("num_overlap_samples", placement.num_overlap)
        self._count("num_audio_samples", waveform.size - placement.num_overlap)
        self._listen(waveform[placement.num_overlap :])
        self._drift_ppm = self._clock.drift_ppm
        if self.on_voice is not None:
            self._tell_voice(self.on_voice)

    def look(self, image: np.ndarray) -> None:
        """Encode an image ahead, in a thread of its own: `push_frame` of this very array then
        answers at once. What was looked at and is not pushed is forgotten.
        """
        self._looked_at.put(image, self._encode(check_image(image)))

    def push_frame(self, image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Grounding:
        """Every head's answer to one (H, W, 3) uint8 RGB image."""
        tokens = self._looked_at.take(image)
        image = check_image(image)
        stamp_ns = int(stamp_ns)
        self._count("num_frames")
        if self._last_frame_stamp_ns is not None and stamp_ns < self._last_frame_stamp_ns:
            self._count("num_frame_stamp_steps_back", 1, "a frame's stamp stepped back")
        self._last_frame_stamp_ns = stamp_ns
        if tokens is None:
            tokens = self._encode(image)
        self._last_frame = (image, tokens, stamp_ns, frame_id)
        return self._answer(self._listen_at(stamp_ns))

    def answer_again(self) -> Grounding | None:
        """The last frame's answer, with its stamp, to the sound that has come since.

        None where no window has been finished since its last answer, or the sound is more than
        `MAX_AGAIN_S` newer. Later frames then know that sound too, whatever their stamp.
        """
        if self._last_frame is None or self._clock is None:
            return None
        heard_ns = self._clock.stamp_ns_at(self._clock.num_samples)
        if not 0 < heard_ns - self._last_frame[2] <= MAX_AGAIN_S * NS_PER_S:
            return None
        end = self._hearing.merged_end
        queries = self._queries_at(self._clock.num_samples)
        if self._hearing.merged_end == end:
            return None
        return replace(self._answer(queries), heard_ns=heard_ns)

    def _encode(self, image: np.ndarray) -> ImageTokens:
        return self.backend.encode_image(self._place(*image.shape[:2]).apply(image))

    def _answer(self, queries: Queries) -> Grounding:
        """What the last frame shows of these."""
        assert self._last_frame is not None
        image, tokens, stamp_ns, frame_id = self._last_frame
        heads = answer(self.backend, tokens, queries, self._hearing.num_channels)
        if self._separation is not None:
            self._separation.look(image, tokens, heads["sound"], self._hearing.merged_end)
        if self._source_ids is not None:
            heads = self._source_ids.name(heads, stamp_ns)
        return Grounding(heads, stamp_ns, frame_id, image.shape[:2])

    def separate(self, place: Place | None, *, lookahead_s: float = LOOKAHEAD_S) -> float:
        """From now on keep the sound of a place for `separated`; None stops.

        `place` is "peak", where each frame's sound heatmap is highest, or x, y in the frames'
        pixels. Returns the latency in seconds: the most from capture until a sample comes out,
        without the time to compute and the wait for a frame. ValueError for a model that does
        not separate, and at the next frame for a point off it.
        """
        self._hearing.on_window = self._separation = None
        if place is None:
            return 0.0
        self._separation = LiveSeparation(
            self.backend,
            self._hearing.hop,
            place,
            lookahead_s=lookahead_s,
            min_context_weight=self.config.min_context_weight,
        )
        self._hearing.on_window = self._separation.hear
        return self._separation.latency_s

    def separated(self) -> AudioChunk | None:
        """The place's sound that is done since the last call, at the model's rate; None: none.

        Silence while nothing is heard, never the mixture.
        """
        done = self._separation.take() if self._separation else None
        if done is None:
            return None
        first, samples = done
        return AudioChunk(samples, self._stamp_ns(first), self.backend.spec.sample_rate_hz)

    def _stamp_ns(self, sample: int) -> int:
        """When a sample at the model's rate was captured."""
        assert self._clock is not None
        behind = (sample - self._segment_start) * self._clock.sample_rate_hz
        return self._clock.stamp_ns_at(behind / self.backend.spec.sample_rate_hz)

    def _place(self, height: int, width: int) -> ResizeTransform:
        placement = self._placement
        if placement is None or (placement.height, placement.width) != (height, width):
            if placement is not None:
                self._count("num_frame_size_changes", 1, f"frames are now {width}x{height}")
            spec = self.backend.spec
            placement = ResizeTransform.fit(height, width, spec.short_side_px, spec.patch_px)
            self._placement = placement
        return placement

    def _listen_at(self, stamp_ns: int) -> Queries:
        for chunk in self._stray.release_at(stamp_ns):
            self._hear(chunk.samples, chunk.stamp_ns, chunk.sample_rate_hz)
        if self._clock is None:
            return NOTHING_HEARD
        index = self._clock.index_at(stamp_ns)
        self._audio_lag_s = (index - self._clock.num_samples) / self._clock.sample_rate_hz
        if abs(self._audio_lag_s) > SUSPICIOUS_LAG_S:
            side = "behind" if self._audio_lag_s > 0.0 else "ahead of"
            self._warn(
                "lag",
                f"audio is {abs(self._audio_lag_s):.1f} s {side} the frames: are both stamped by "
                "the same clock, and is the microphone alive?",
            )
        return self._queries_at(index)

    def _queries_at(self, index: float) -> Queries:
        """What every head listens to at a sample of the source's own rate."""
        assert self._clock is not None
        # Only what has surely left the resampler by then, or chunk sizes would show.
        rate_hz = self.backend.spec.sample_rate_hz
        ahead_s = self.config.lookahead_s - self.config.stamp_guard_s
        heard = (
            self._segment_start
            + index * rate_hz / self._clock.sample_rate_hz
            + ahead_s * rate_hz
            - self._resampler.delay_samples
        )
        # Whole hops: a stamp that is off by less than a hop cannot move any gate either.
        horizon = math.floor(max(0.0, heard) / self._hearing.hop) * self._hearing.hop
        self._hearing.advance(horizon)
        if self._hearing.merged_end - heard > SUSPICIOUS_LAG_S * rate_hz:
            # The camera's clock went back: what was heard then is forgotten, or never was.
            return NOTHING_HEARD
        # Where encoding lags behind, the present of the ear is what it has heard.
        is_behind = self._hearing.is_behind(horizon)
        now = self._hearing.merged_end if is_behind else max(horizon, self._hearing.merged_end)
        # Between two hops all frames listen to the same: it costs once a hop, not once a frame.
        moment = (self.config, self._hearing.merged_end, now)
        if moment != self._moment:
            self._queries = listen_now(self._hearing, self.backend.spec, self.config, now)
            self._moment = moment
        return self._queries

    def _tell_voice(self, on_voice: Callable[[VoiceMarks], None]) -> None:
        assert self._clock is not None
        hearing, voice = self._hearing, self._hearing.voice
        rate_hz = self.backend.spec.sample_rate_hz
        if (voice.num_frames - self._num_told) * voice.frame_samples < hearing.hop:
            return
        end, stamp_ns = hearing.num_samples, self._stamp_ns
        gate_dbfs = self.config.gate_dbfs
        first, level_dbfs, is_voiced = voice.marks(self._num_told, gate_dbfs)
        self._num_told = voice.num_frames
        longest = round((self.config.max_utterance_s + self.config.hold_s) * rate_hz)
        utterances = voice.utterances(max(0, end - longest), end, gate_dbfs)
        on_voice(
            VoiceMarks(
                stamp_ns=stamp_ns(first * voice.frame_samples),
                frame_s=voice.frame_samples / rate_hz,
                level_dbfs=level_dbfs,
                is_voiced=is_voiced,
                utterances=tuple((stamp_ns(u.start), stamp_ns(u.stop)) for u in utterances),
            )
        )

    def _start_timeline(self) -> None:
        self._hearing.reset()
        if self._separation is not None:
            self._separation.reset()
        self._num_told = 0
        self._clock: SampleClock | None = None
        self._last_chunk: tuple[int, np.ndarray] | None = None
        self._moment: tuple[StreamingConfig, int, int] | None = None
        self._queries = NOTHING_HEARD

    def _start_segment(self, sample_rate_hz: int, first_stamp_ns: int | None) -> None:
        """Begin a stretch of one sample rate at the end of what was heard."""
        self._segment_start = self._hearing.num_samples
        self._resampler = StatefulResampler(sample_rate_hz, self.backend.spec.sample_rate_hz)
        self._clock = SampleClock(
            sample_rate_hz,
            fit_s=self.config.clock_fit_s,
            gap_tolerance_s=self.config.gap_tolerance_s,
            max_gap_s=self.config.max_gap_s,
            max_backstep_s=self.config.max_backstep_s,
            first_stamp_ns=first_stamp_ns,
        )

    def _change_rate(self, sample_rate_hz: int) -> None:
        assert self._clock is not None
        expected_ns = self._clock.stamp_ns_at(self._clock.num_samples)
        self._hearing.push(self._resampler.flush())
        self._start_segment(sample_rate_hz, expected_ns)

    def _listen(self, waveform: np.ndarray) -> None:
        self._hearing.push(self._resampler.push(waveform))

    def _is_repeated(self, waveform: np.ndarray, stamp_ns: int) -> bool:
        last = self._last_chunk
        if last is not None and last[0] == stamp_ns and np.array_equal(last[1], waveform):
            return True
        self._last_chunk = (stamp_ns, waveform.copy())
        return False

    def _count(self, name: str, number: int = 1, warning: str | None = None) -> None:
        self._counters[name] += number
        if warning is not None and number:
            self._warn(name, warning % number if "%d" in warning else warning)

    def _warn(self, key: str, message: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            LOGGER.warning("%s (said once; see the counters)", message)
