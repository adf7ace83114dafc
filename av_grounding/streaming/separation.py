"""The sound of one place out of a stream: masks are averaged over windows, waveforms never.

Overlapping windows each say which bins of their own spectrogram belong to the place. Averaging
the waveforms that they give would cancel what they disagree on in phase and fade at every edge;
masks are averages already. So each frame of one STFT of the whole stream collects the masks of
the windows that heard it, is masked once, and is added to what comes out.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from av_grounding.audio import Stft
from av_grounding.types import Backend, ImageTokens, ModelSpec

INCOMPLETE = 0.01
"""How much a window counts that reaches beyond the sound's ends, beside one that does not: what a
separator makes of half a window of silence is far worse. Whole clips of 4 s, 24 validation duets
of instruments: 8.6 dB of SDR, and 7.1 where all windows count alike."""


def stft_of(spec: ModelSpec) -> Stft:
    """The STFT that a model's masks lie on; ValueError for a model that does not separate."""
    if spec.separation is None:
        raise ValueError(
            "this model does not separate sounds: expected a bundle with a separator; name "
            "everyday-separator, which knows instruments, synthetic-separator, which knows "
            "drawings, or one of `train oneavm` with --model"
        )
    return Stft(spec.separation.stft_window, spec.separation.stft_hop)


def check_backend(backend: Backend) -> None:
    """ValueError for a model that does not separate, and a backend that cannot though it does."""
    stft_of(backend.spec)
    if not backend.separates:
        raise ValueError(
            f"backend {backend.name!r} does not separate sounds: load the bundle with "
            "backend='torch', or --set backend=torch"
        )


def mask_of(
    backend: Backend,
    tokens: ImageTokens,
    window: Float32[np.ndarray, " s"],
    weights: Float32[np.ndarray, " r"],
) -> Float32[np.ndarray, "f t"] | None:
    """One place's mask of one window; None for a window of silence, which has nothing to mask."""
    if not window.any():
        return None
    masks = backend.separation_masks(tokens, window, weights[None])
    assert masks is not None, "see check_backend"
    return masks[0]


class MaskedSound:
    """Windows and their masks in, the masked sound out, as soon as no window changes it any more.

    Windows come in order, `hop` samples apart; the first ends at sample `hop`, with zeros before
    the first sample. A frame of the STFT is done once a window has ended `lookahead_s` behind it;
    a sample once all frames that cover it are. So what is heard at a window's end comes
    out `latency_s` later at most, and how the sound was cut into chunks changes nothing.
    """

    def __init__(
        self,
        spec: ModelSpec,
        hop: int,
        *,
        lookahead_s: float | None = None,
        min_context_weight: float = 0.1,
    ) -> None:
        """`lookahead_s`: None waits for every window that hears a frame, as a whole clip can."""
        self.stft, self.hop = stft_of(spec), hop
        self._num_window = spec.num_window_samples
        if hop % self.stft.hop or self._num_window % self.stft.hop:
            raise ValueError(
                f"windows of {self._num_window} samples every {hop}: expected multiples of the "
                f"{self.stft.hop} between frames of the separator's STFT; change hop_s"
            )
        waits_s = spec.window_s if lookahead_s is None else lookahead_s
        if waits_s < 0.0:
            raise ValueError(f"lookahead of {waits_s} s: expected 0 or more")
        # A frame's taper reaches this far beyond its own hop on both sides.
        self._reach = (self.stft.window - self.stft.hop) // 2
        lookahead = min(round(waits_s * spec.sample_rate_hz), self._num_window - hop)
        # In frames: how many are still open when a window has ended. Those that its sound does
        # not cover yet are, whatever the lookahead.
        least = -(-self._reach // self.stft.hop)
        self._num_open = max(least, -(-lookahead // self.stft.hop))
        behind = self._num_open * self.stft.hop + self._reach
        self.latency_s = (behind + hop) / spec.sample_rate_hz
        """From a sample's capture until it comes out, at most, without the time to compute."""
        self._num_frames = self._num_window // self.stft.hop
        self._context = max(spec.context_s * spec.sample_rate_hz, 1e-9)
        self._min_weight = min_context_weight
        self.reset()

    def reset(self) -> None:
        """Silence before the next window, which ends at sample `hop`."""
        self.end = 0
        """Sample at which the newest window ended."""
        self._first_frame = 0
        self._signal = np.zeros(self._reach, np.float32)
        self._sums = np.zeros((self.stft.num_bins, 0), np.float32)
        self._totals = np.zeros(0, np.float32)
        self._tail = np.zeros(2 * self._reach, np.float32)
        self._tail_weight = np.zeros(2 * self._reach, np.float32)

    def add_window(
        self,
        window: Float32[np.ndarray, " s"],
        mask: Float32[np.ndarray, "f t"] | None,
        num_behind: int = 0,
    ) -> tuple[int, Float32[np.ndarray, " n"]]:
        """The samples that are done now, and the number of the first; None masks all of it.

        `num_behind`: how many of the window's samples lie behind the sound's end.
        """
        self.end += self.hop
        self._signal = np.concatenate([self._signal, window[self._num_window - self.hop :]])
        # One row a frame from `_first_frame` on; frames that are done take no more masks.
        num_known = self.end // self.stft.hop - self._first_frame
        num_new = num_known - self._totals.size
        self._sums = np.pad(self._sums, ((0, 0), (0, num_new)))
        self._totals = np.pad(self._totals, (0, num_new))
        num_heard = min(self._num_frames, num_known)
        heard = slice(self._num_frames - num_heard, None)
        weights = self._frame_weights(num_behind)[heard]
        self._totals[num_known - num_heard :] += weights
        if mask is not None:
            self._sums[:, num_known - num_heard :] += weights * mask[:, heard]
        return self._emit(max(0, num_known - self._num_open))

    def _frame_weights(self, num_behind: int) -> Float32[np.ndarray, " t"]:
        """How much each frame of the newest window counts: by the context that it has of what
        there is, and see `INCOMPLETE`."""
        num_before = max(0, self._num_window - self.end)
        centres = (np.arange(self._num_frames) + 0.5) * self.stft.hop
        left = np.inf if num_before else centres
        right = np.inf if num_behind else self._num_window - centres
        share = np.minimum(1.0, np.minimum(left, right) / self._context)
        weights = self._min_weight + (1.0 - self._min_weight) * share
        if missing := num_before + num_behind:
            weights *= INCOMPLETE * max(0.0, 1.0 - missing / self._num_window)
        return np.broadcast_to(weights, centres.shape).astype(np.float32)

    def finish(self) -> tuple[int, Float32[np.ndarray, " n"]]:
        """The rest, as if silence followed; then `reset`."""
        self._signal = np.pad(self._signal, (0, self.stft.window))
        first, samples = self._emit(self._totals.size)
        square = np.maximum(self._tail_weight, 1e-6)
        rest = (self._tail / square)[: max(0, self.end - first - samples.size)]
        self.reset()
        return first, np.concatenate([samples, rest])

    def _emit(self, num_done: int) -> tuple[int, Float32[np.ndarray, " n"]]:
        hop, window = self.stft.hop, self.stft.window
        total = np.zeros(num_done * hop + 2 * self._reach, np.float32)
        weight = np.zeros_like(total)
        total[: self._tail.size], weight[: self._tail.size] = self._tail, self._tail_weight
        square = np.square(self.stft.taper)
        if num_done:
            signal = self._signal[: (num_done - 1) * hop + window]
            frames = np.lib.stride_tricks.sliding_window_view(signal, window)[::hop]
            mask = self._sums[:, :num_done] / np.maximum(self._totals[:num_done], 1e-9)
            spectrum = np.fft.rfft(frames * self.stft.taper, axis=1) * mask.T
            masked = np.fft.irfft(spectrum, window, axis=1) * self.stft.taper
            for number, frame in enumerate(masked):
                place = slice(number * hop, number * hop + window)
                total[place] += frame
                weight[place] += square
        # The buffers begin `_reach` before the first frame's hop: no frame to come reaches there.
        done = num_done * hop
        samples = total[:done] / np.maximum(weight[:done], 1e-6)
        self._tail, self._tail_weight = total[done:], weight[done:]
        self._signal = self._signal[done:]
        self._sums, self._totals = self._sums[:, num_done:], self._totals[num_done:]
        first = self._first_frame * hop - self._reach
        self._first_frame += num_done
        kept = max(0, -first)  # before the first sample there is none
        return max(first, 0), samples[kept:].astype(np.float32)
