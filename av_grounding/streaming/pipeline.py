"""The stream: audio chunks and frames in, answers out. No thread, no clock of its own, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from av_grounding.audio import NS_PER_S
from av_grounding.config.streaming import StreamingConfig
from av_grounding.image import ResizeTransform, check_image
from av_grounding.streaming.counting import Counters
from av_grounding.streaming.looking import LookedAt
from av_grounding.streaming.pooling import Queries, answer
from av_grounding.streaming.separating import LOOKAHEAD_S, LiveSeparation, Place
from av_grounding.streaming.source_ids import SourceIds
from av_grounding.streaming.timeline import SoundTimeline
from av_grounding.types import AudioChunk, Backend, Grounding, ImageTokens, VoiceMarks

MAX_AGAIN_S = 5.0
"""Sound so much newer than the last frame says nothing about it: the camera has stopped."""


class GroundingStream:
    """Grounds frames in the sound around them, deterministically: same calls, same bytes.

    Audio is encoded once per hop and its tokens cached; an image is encoded once per frame and
    answered at once with the sound that has arrived. Which sound a frame uses is decided by its
    stamp, not by how much was pushed: the windows that ended by then, so that pushing audio in
    other chunks, or further ahead, changes nothing. Not thread-safe, but for `look`.
    """

    def __init__(
        self,
        backend: Backend,
        config: StreamingConfig | None = None,
        *,
        counters: Counters | None = None,
    ) -> None:
        """`counters` are those of a stream before this one, which go on."""
        self.backend = backend
        config = StreamingConfig() if config is None else config
        self._looked_at = LookedAt()
        self._separation: LiveSeparation | None = None
        num = backend.spec.max_sources
        self._source_ids = SourceIds(num) if num else None
        self._counters = counters or Counters()
        self._timeline = SoundTimeline(backend, config, self._counters)
        self._hearing = self._timeline.hearing
        self._is_apart = False
        self._placement: ResizeTransform | None = None
        self._last_frame_stamp_ns: int | None = None
        self._last_frame: tuple[np.ndarray, ImageTokens, int, str] | None = None

    def reset(self) -> None:
        """Forget all sound and every stamp; the counters go on."""
        self._timeline.reset()
        self._last_frame_stamp_ns = self._last_frame = None
        if self._source_ids is not None:
            self._source_ids.reset()

    @property
    def config(self) -> StreamingConfig:
        """In force from now on; what is built in (see `restarted`) stays as it was."""
        return self._timeline.config

    @config.setter
    def config(self, config: StreamingConfig) -> None:
        self._timeline.config = config

    @property
    def on_voice(self) -> Callable[[VoiceMarks], None] | None:
        """Told once per hop what was marked since; runs in the thread that pushes audio."""
        return self._timeline.on_voice

    @on_voice.setter
    def on_voice(self, told: Callable[[VoiceMarks], None] | None) -> None:
        self._timeline.on_voice = told

    @property
    def is_idle(self) -> bool:
        """Whether nobody wants answers: sound is kept, and encoded once a frame asks for it."""
        return self._hearing.is_idle

    @is_idle.setter
    def is_idle(self, is_idle: bool) -> None:
        self._hearing.is_idle = is_idle

    def restarted(self, config: StreamingConfig) -> GroundingStream:
        """A new stream under another configuration, whose counters go on."""
        counters = Counters(self._counters.numbers)
        other = GroundingStream(self.backend, config, counters=counters)
        other.on_voice = self.on_voice
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
            **self._counters.numbers,
            **separation,
            "num_windows_encoded": self._hearing.num_windows,
            "num_windows_skipped": self._hearing.num_skipped,
            "hop_s": self._hearing.step / self._hearing.sample_rate_hz,
            "hop_widened": self._hearing.step / self._hearing.hop,
            "drift_ppm": self._timeline.drift_ppm,
            "audio_lag_ms": 1e3 * self._timeline.lag_s,
        }

    def push_audio(self, samples: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        """Take in a chunk, (s,) or (s, channels) of any sample type, and encode complete hops.

        `stamp_ns` is the capture time of the first sample. Missing samples are filled with
        zeros, repeated ones left out; both are counted.
        """
        self._timeline.push(samples, stamp_ns, sample_rate_hz)

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
        self._counters.count("num_frames")
        if self._last_frame_stamp_ns is not None and stamp_ns < self._last_frame_stamp_ns:
            self._counters.count("num_frame_stamp_steps_back", 1, "a frame's stamp stepped back")
        self._last_frame_stamp_ns = stamp_ns
        if tokens is None:
            tokens = self._encode(image)
        self._last_frame = (image, tokens, stamp_ns, frame_id)
        return self._answer(self._timeline.listen_at(stamp_ns))

    def answer_again(self) -> Grounding | None:
        """The last frame's answer, with its stamp, to the sound that has come since.

        None where no window has been finished since its last answer, or the sound is more than
        `MAX_AGAIN_S` newer. Later frames then know that sound too, whatever their stamp.
        """
        heard_ns = self._timeline.newest_ns
        if self._last_frame is None or heard_ns is None:
            return None
        if not 0 < heard_ns - self._last_frame[2] <= MAX_AGAIN_S * NS_PER_S:
            return None
        queries = self._timeline.listen_again()
        if queries is None:
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
        self._hearing.on_window = self._timeline.on_start = self._separation = None
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
        self._timeline.on_start = self._separation.reset
        return self._separation.latency_s

    def separated(self) -> AudioChunk | None:
        """The place's sound that is done since the last call, at the model's rate; None: none.

        Silence while nothing is heard, never the mixture.
        """
        done = self._separation.take() if self._separation else None
        if done is None:
            return None
        first, samples = done
        return AudioChunk(
            samples, self._timeline.stamp_ns(first), self.backend.spec.sample_rate_hz
        )

    def end_sound(self) -> None:
        """No sound follows: `separated` gives what is left, up to its very end.

        The windows that silence behind it completes take the place as the last one showed it. What
        else the stream answers does not wait for anything, and stays as it is.
        """
        if self._separation is None:
            return
        num_samples = self._timeline.end()
        if num_samples is not None:
            self._separation.end(num_samples)

    def _place(self, height: int, width: int) -> ResizeTransform:
        placement = self._placement
        if placement is None or (placement.height, placement.width) != (height, width):
            if placement is not None:
                self._counters.count(
                    "num_frame_size_changes", 1, f"frames are now {width}x{height}"
                )
            spec = self.backend.spec
            placement = ResizeTransform.fit(height, width, spec.short_side_px, spec.patch_px)
            self._placement = placement
        return placement
