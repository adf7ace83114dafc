"""The ear: model-rate samples in, tokens on a time axis and voice marks out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.aggregator import TokenAggregator
from av_grounding.streaming.apart import ApartEncoder
from av_grounding.streaming.ring import Ring
from av_grounding.streaming.voice import VoiceActivity
from av_grounding.types import Backend


class Hearing:
    """Encodes one window per hop and merges its tokens when a frame has caught up with it.

    Window j ends at sample j * hop; before the first sample it is padded with zeros, so the first
    tokens come after one hop. Encoding and merging are separate steps: sound may be pushed far
    ahead, and a frame still sees only what `advance` allowed, however the sound was cut.

    `hear_apart` moves encoding to a thread of its own: what is merged then depends on how fast
    this machine is.
    """

    def __init__(
        self,
        backend: Backend,
        config: StreamingConfig,
        *,
        hop_s: float | None = None,
        history_s: float | None = None,
    ) -> None:
        """`hop_s` defaults to the configuration's or else the model's, `history_s` likewise."""
        spec = backend.spec
        history_s = config.history_s if history_s is None else history_s
        self._backend = backend
        self.sample_rate_hz = spec.sample_rate_hz
        self.hop = round((hop_s or config.hop_s or spec.hop_s) * spec.sample_rate_hz)
        self._num_window = spec.num_window_samples
        if not 0 < self.hop <= self._num_window:
            raise ValueError(
                f"hop of {self.hop} samples: expected 1 to the window's {self._num_window}, or "
                "sound would go unheard"
            )
        # Sound that was pushed ahead of the frames is kept on top of the history.
        self._max_ahead = max(self.hop, round(history_s * spec.sample_rate_hz))
        self._ring = Ring(self._num_window + self.hop)
        self.voice = VoiceActivity(
            spec.sample_rate_hz,
            frame_ms=int(config.vad_frame_ms),
            aggressiveness=int(config.vad_aggressiveness),
            hangover_s=config.hangover_s,
            min_utterance_s=config.min_utterance_s,
            history_s=2 * history_s + spec.window_s,
        )
        self._context = round(spec.context_s * spec.sample_rate_hz)
        self._apart: ApartEncoder | None = None
        self._token_shape = (len(spec.heads), None, spec.num_tokens)
        self._audio_stream = backend.audio_stream()
        self._max_batch = backend.max_audio_batch
        # Encoding a silent window warms the backend up and tells the number of channels.
        silence = np.zeros(self._num_window, np.float32)
        self.num_channels = self._check(self._encode(silence)).shape[1]
        self.aggregator = TokenAggregator(
            spec,
            self.num_channels,
            history_s,
            config.min_context_weight,
            self.hop / spec.sample_rate_hz,
        )
        if self._audio_stream is not None:
            self._audio_stream.reset()
        self._pending: deque[tuple[int, np.ndarray]] = deque()
        # Windows that came while nobody wanted answers; what is older than the history is let go.
        self._unheard: deque[tuple[int, np.ndarray]] = deque(maxlen=self._max_ahead // self.hop)
        self._has_skipped = False
        self.is_idle = False
        """Nobody wants answers: windows wait, and are encoded when a frame asks for them."""
        self.on_window: Callable[[int, np.ndarray], None] | None = None
        """Told of every window that is to be encoded, by the sample at which it ends."""
        self.merged_end = 0
        """Sample at which the newest merged window ends."""
        self.num_windows = 0

    @property
    def num_samples(self) -> int:
        """Samples heard so far."""
        return self._ring.end

    def hear_apart(self) -> None:
        """Encode in a thread of its own from now on, for which nothing and nobody waits."""
        if self._apart is None:
            self._apart = ApartEncoder(self._encode, self._num_window, self._context)

    def finish(self, timeout_s: float | None = None) -> None:
        """Wait for the window that is being encoded apart; those that wait are let go."""
        if self._apart is not None:
            self._apart.finish(timeout_s)

    @property
    def num_skipped(self) -> int:
        """Windows left out since the machine is too slow; others held their sound."""
        return 0 if self._apart is None else self._apart.num_skipped

    @property
    def step(self) -> int:
        """Samples from window to window: the hop, or what this machine achieves."""
        return self.hop if self._apart is None else max(self._apart.step, self.hop)

    def is_behind(self, horizon: int) -> bool:
        """Whether a window that ends by sample `horizon` is being encoded still."""
        return self._apart is not None and self._apart.is_behind(horizon)

    def reset(self) -> None:
        """Silence before the next sample, which is sample 0."""
        self._ring.clear()
        self.voice.reset()
        self.aggregator.reset()
        if self._apart is not None:
            self._apart.clear()
        elif self._audio_stream is not None:
            self._audio_stream.reset()
        self._pending.clear()
        self._unheard.clear()
        self.merged_end = 0

    def push(self, samples: Float32[np.ndarray, " s"], *, is_clip: bool = False) -> None:
        """Take in samples and encode every window they complete.

        `is_clip`: these are all there will be, so windows may be encoded together where that
        costs less. Rounding depends on how many there are; a stream, whose answers must not
        depend on how its sound was cut, therefore encodes one at a time.
        """
        batch = self._max_batch if is_clip else 1
        due: list[tuple[int, np.ndarray]] = []
        self.voice.push(samples)
        while samples.size:
            num_missing = self.hop - self._ring.end % self.hop
            self._ring.append(samples[:num_missing])
            samples = samples[num_missing:]
            end = self._ring.end
            if end % self.hop == 0:
                due.append((end, self._ring.read(end - self._num_window, end)))
            if self.is_idle:
                self._has_skipped |= len(self._unheard) + len(due) > (self._unheard.maxlen or 0)
                self._unheard.extend(due)
                due = []
            elif due and (len(due) == batch or not samples.size):
                self._catch_up()
                self._encode_due(due)
                due = []

    def advance(self, horizon: int) -> None:
        """Merge the windows that end by sample `horizon`."""
        if self._unheard and self._unheard[0][0] <= horizon:
            self._catch_up()
        if self._apart is not None:
            for end, tokens in self._apart.take():
                self._keep(end, tokens)
        while self._pending and self._pending[0][0] <= horizon:
            end, tokens = self._pending.popleft()
            self.aggregator.add_window(tokens, end)
            self.merged_end = end

    def _catch_up(self) -> None:
        if self._has_skipped and self._audio_stream is not None and self._apart is None:
            self._audio_stream.reset()  # the last window that it knows does not come before these
        self._has_skipped = False
        while self._unheard:
            self._encode_due([self._unheard.popleft()])

    def _encode_due(self, due: list[tuple[int, np.ndarray]]) -> None:
        if self.on_window is not None:
            for end, window in due:
                self.on_window(end, window)
        if self._apart is not None:
            for end, window in due:
                self._apart.put(end, window)
            return
        windows = [window for _, window in due]
        if len(due) == 1:
            encoded = [self._encode(windows[0])]
        else:
            encoded = list(self._backend.encode_audio_batch(np.stack(windows)))
        for (end, _), tokens in zip(due, encoded, strict=True):
            self._keep(end, tokens)
            self.advance(end - self._max_ahead)

    def _keep(self, end: int, tokens: np.ndarray) -> None:
        self._pending.append((end, self._check(tokens)))
        self.num_windows += 1

    def _encode(self, window: np.ndarray, num_new: int | None = None) -> np.ndarray:
        if self._audio_stream is None:
            return np.asarray(self._backend.encode_audio(window))
        return np.asarray(self._audio_stream.encode(window, num_new or self.hop))

    def _check(self, tokens: np.ndarray) -> np.ndarray:
        num_heads, _, num_tokens = self._token_shape
        if tokens.ndim != 3 or (tokens.shape[0], tokens.shape[2]) != (num_heads, num_tokens):
            raise ValueError(
                f"backend {self._backend.name} encoded a window to shape {tokens.shape}: its spec "
                f"promises ({num_heads}, channels, {num_tokens}); the bundle's config.json and "
                "weights do not belong together"
            )
        return tokens
