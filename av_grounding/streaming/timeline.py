"""The sound of a stream on one clock: chunks as they come in, what the heads listen to out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from av_grounding.audio import NS_PER_S, StatefulResampler, check_sample_rate, to_clean_mono
from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.clock import SampleClock
from av_grounding.streaming.counting import Counters
from av_grounding.streaming.hearing import Hearing
from av_grounding.streaming.listening import listen_now
from av_grounding.streaming.pooling import Queries
from av_grounding.streaming.stray import StrayStamps
from av_grounding.types import AudioChunk, Backend, VoiceMarks

SUSPICIOUS_LAG_S = 5.0
NOTHING_HEARD: Queries = {}


class SoundTimeline:
    """Cleans chunks, lays them on their clock, fills gaps, resamples and hears them.

    What a moment listens to is decided by its stamp, not by how much was pushed. A jump of the
    clock starts the timeline over; a change of the rate goes on in a new segment of it.
    """

    def __init__(self, backend: Backend, config: StreamingConfig, counters: Counters) -> None:
        self._spec, self._counters = backend.spec, counters
        self.config = config
        """In force from now on: what is read for every chunk and moment may change."""
        self.hearing = Hearing(backend, config)
        self.on_voice: Callable[[VoiceMarks], None] | None = None
        """Told once per hop what was marked since; runs in the thread that pushes."""
        self.on_start: Callable[[], None] | None = None
        """Told that all sound so far is forgotten."""
        self.drift_ppm = 0.0
        self.lag_s = 0.0
        """How far sound lay behind the last frame; negative: ahead of it."""
        self._stray = StrayStamps(config.max_gap_s, config.max_backstep_s)
        self._start()

    def reset(self) -> None:
        """Forget all sound and every stamp."""
        self._start()
        self._stray.reset()

    @property
    def newest_ns(self) -> int | None:
        """Where what was heard so far ends; None before the first sample."""
        return None if self._clock is None else self._clock.stamp_ns_at(self._clock.num_samples)

    def push(self, samples: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        """Take in a chunk (see `GroundingStream.push_audio`)."""
        sample_rate_hz = check_sample_rate(sample_rate_hz)
        waveform, num_nonfinite, num_clipped = to_clean_mono(samples)
        if waveform.size == 0:
            return
        count = self._counters.count
        stamp_ns = int(stamp_ns) + round(self.config.audio_offset_s * NS_PER_S)
        count("num_audio_chunks")
        count("num_nonfinite_samples", num_nonfinite, "%d samples were NaN or infinite")
        count("num_clipped_samples", num_clipped, "%d samples were clipped to [-1, 1]")
        if self._is_repeated(waveform, stamp_ns):
            count("num_repeated_chunks", 1, "%d chunk came twice and was left out")
            return
        num_before = self._stray.num_mended
        for chunk in self._stray.push(AudioChunk(waveform, stamp_ns, sample_rate_hz)):
            self._hear(chunk)
        num_mended = self._stray.num_mended - num_before
        count("num_mended_stamps", num_mended, "%d chunk of sound was stamped far off")

    def end(self) -> int | None:
        """No sound follows: silence behind it gives its last samples their context.

        Returns how many samples there were at the model's rate; None: none, or they have ended
        before. Sound that comes after all starts the timeline over.
        """
        for chunk in self._stray.release():
            self._hear(chunk)
        if self._clock is None or self._has_ended:
            return None
        self._has_ended = True
        hearing, spec = self.hearing, self._spec
        hearing.push(self._resampler.flush())
        num_samples = hearing.num_samples
        context = round(spec.context_s * spec.sample_rate_hz)
        end = -(-(num_samples + context) // hearing.hop) * hearing.hop
        hearing.push(np.zeros(end - num_samples, np.float32))
        hearing.advance(end)
        return num_samples

    def listen_at(self, stamp_ns: int) -> Queries:
        """What every head listens to at a stamp."""
        for chunk in self._stray.release_at(stamp_ns):
            self._hear(chunk)
        if self._clock is None:
            return NOTHING_HEARD
        index = self._clock.index_at(stamp_ns)
        self.lag_s = (index - self._clock.num_samples) / self._clock.sample_rate_hz
        if abs(self.lag_s) > SUSPICIOUS_LAG_S:
            side = "behind" if self.lag_s > 0.0 else "ahead of"
            self._counters.warn(
                "lag",
                f"audio is {abs(self.lag_s):.1f} s {side} the frames: are both stamped by "
                "the same clock, and is the microphone alive?",
            )
        return self._queries_at(index)

    def listen_again(self) -> Queries | None:
        """What they listen to where sound ends now; None: no window was finished since."""
        if self._clock is None:
            return None
        end = self.hearing.merged_end
        queries = self._queries_at(self._clock.num_samples)
        return None if self.hearing.merged_end == end else queries

    def stamp_ns(self, sample: int) -> int:
        """When a sample at the model's rate was captured."""
        assert self._clock is not None
        behind = (sample - self._segment_start) * self._clock.sample_rate_hz
        return self._clock.stamp_ns_at(behind / self._spec.sample_rate_hz)

    def _hear(self, chunk: AudioChunk) -> None:
        waveform, stamp_ns = chunk.samples, chunk.stamp_ns
        sample_rate_hz = chunk.sample_rate_hz
        count = self._counters.count
        if self._has_ended:
            self._start()
        if self._clock is None:
            self._start_segment(sample_rate_hz, None)
        elif self._clock.sample_rate_hz != sample_rate_hz:
            count("num_rate_changes", 1, f"the sample rate changed to {sample_rate_hz} Hz")
            self._change_rate(sample_rate_hz)
        placement = self._clock.place(stamp_ns, waveform.size)
        if placement.starts_over:
            count("num_audio_resets", 1, "audio stamps jumped: the timeline starts over")
            self._start()
            self._start_segment(sample_rate_hz, None)
            placement = self._clock.place(stamp_ns, waveform.size)
        if placement.num_gap:
            count("num_gaps", 1, f"{placement.num_gap} samples are missing: zeros instead")
            count("num_gap_samples", placement.num_gap)
            self._listen(np.zeros(placement.num_gap, np.float32))
        if placement.num_overlap:
            message = f"{placement.num_overlap} samples came twice and were left out"
            count("num_overlaps", 1, message)
            count("num_overlap_samples", placement.num_overlap)
        count("num_audio_samples", waveform.size - placement.num_overlap)
        self._listen(waveform[placement.num_overlap :])
        self.drift_ppm = self._clock.drift_ppm
        if self.on_voice is not None:
            self._tell_voice(self.on_voice)

    def _queries_at(self, index: float) -> Queries:
        """What every head listens to at a sample of the source's own rate."""
        assert self._clock is not None
        # Only what has surely left the resampler by then, or chunk sizes would show.
        rate_hz = self._spec.sample_rate_hz
        ahead_s = self.config.lookahead_s - self.config.stamp_guard_s
        heard = (
            self._segment_start
            + index * rate_hz / self._clock.sample_rate_hz
            + ahead_s * rate_hz
            - self._resampler.delay_samples
        )
        # Whole hops: a stamp that is off by less than a hop cannot move any gate either.
        horizon = math.floor(max(0.0, heard) / self.hearing.hop) * self.hearing.hop
        self.hearing.advance(horizon)
        if self.hearing.merged_end - heard > SUSPICIOUS_LAG_S * rate_hz:
            # The camera's clock went back: what was heard then is forgotten, or never was.
            return NOTHING_HEARD
        # Where encoding lags behind, the present of the ear is what it has heard.
        is_behind = self.hearing.is_behind(horizon)
        now = self.hearing.merged_end if is_behind else max(horizon, self.hearing.merged_end)
        # Between two hops all frames listen to the same: it costs once a hop, not once a frame.
        moment = (self.config, self.hearing.merged_end, now)
        if moment != self._moment:
            self._queries = listen_now(self.hearing, self._spec, self.config, now)
            self._moment = moment
        return self._queries

    def _tell_voice(self, on_voice: Callable[[VoiceMarks], None]) -> None:
        assert self._clock is not None
        hearing, voice = self.hearing, self.hearing.voice
        rate_hz = self._spec.sample_rate_hz
        if (voice.num_frames - self._num_told) * voice.frame_samples < hearing.hop:
            return
        end, stamp_ns = hearing.num_samples, self.stamp_ns
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

    def _start(self) -> None:
        self.hearing.reset()
        if self.on_start is not None:
            self.on_start()
        self._num_told = 0
        self._has_ended = False
        self._clock: SampleClock | None = None
        self._last_chunk: tuple[int, np.ndarray] | None = None
        self._moment: tuple[StreamingConfig, int, int] | None = None
        self._queries = NOTHING_HEARD

    def _start_segment(self, sample_rate_hz: int, first_stamp_ns: int | None) -> None:
        """Begin a stretch of one sample rate at the end of what was heard."""
        self._segment_start = self.hearing.num_samples
        self._resampler = StatefulResampler(sample_rate_hz, self._spec.sample_rate_hz)
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
        self.hearing.push(self._resampler.flush())
        self._start_segment(sample_rate_hz, expected_ns)

    def _listen(self, waveform: np.ndarray) -> None:
        self.hearing.push(self._resampler.push(waveform))

    def _is_repeated(self, waveform: np.ndarray, stamp_ns: int) -> bool:
        last = self._last_chunk
        if last is not None and last[0] == stamp_ns and np.array_equal(last[1], waveform):
            return True
        self._last_chunk = (stamp_ns, waveform.copy())
        return False
