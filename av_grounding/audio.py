"""Audio as the component hears it: mono float32 at one rate, whatever the driver delivers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Complex, Float, Float32

from av_grounding.types import AudioChunk

MIN_DBFS = -120.0
"""What `dbfs` answers for digital silence."""

MIN_SAMPLE_RATE_HZ = 1_000
MAX_SAMPLE_RATE_HZ = 768_000
MAX_CHANNELS = 64
RESAMPLER_BLOCK_S = 0.01
NS_PER_S = 1_000_000_000


def seconds_to_samples(seconds: int | float, sample_rate_hz: int) -> int:
    """Nearest whole number of samples in `seconds`."""
    return round(seconds * sample_rate_hz)


def samples_to_seconds(num_samples: int | float, sample_rate_hz: int) -> float:
    """Duration of `num_samples`, which may be fractional."""
    return num_samples / sample_rate_hz


def samples_to_ns(num_samples: int, sample_rate_hz: int) -> int:
    """Duration of `num_samples` in nanoseconds, exact to one nanosecond at any length."""
    return (int(num_samples) * NS_PER_S + sample_rate_hz // 2) // sample_rate_hz


def chunk_duration_ns(chunk: AudioChunk) -> int:
    """How long a chunk lasts, in nanoseconds; its rate need not have been checked yet."""
    return samples_to_ns(len(chunk.samples), max(1, chunk.sample_rate_hz))


def check_sample_rate(sample_rate_hz: int) -> int:
    """The rate as an int; ValueError where no audio device could mean it."""
    if not MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise ValueError(
            f"sample rate {sample_rate_hz} Hz: expected {MIN_SAMPLE_RATE_HZ} to "
            f"{MAX_SAMPLE_RATE_HZ} Hz; pass samples per second, not kHz"
        )
    return int(sample_rate_hz)


def to_float32(samples: np.ndarray) -> Float32[np.ndarray, "*shape"]:
    """Samples of any integer or floating-point type as float32.

    Integers are scaled by their type's full range (unsigned types are centred first), so int16
    -32768 becomes -1. Floating-point values pass unchanged, NaN and infinity included.
    """
    samples = np.asarray(samples)
    kind = samples.dtype.kind
    if samples.dtype == np.float32:
        return samples
    if kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32, copy=False)
    if kind not in "iu":
        raise ValueError(
            f"audio samples of type {samples.dtype}: expected an integer or floating-point type; "
            "convert them first"
        )
    full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    centre = full_scale if kind == "u" else 0.0
    return ((samples.astype(np.float64) - centre) / full_scale).astype(np.float32)


def sanitize(
    samples: Float32[np.ndarray, "*shape"],
) -> tuple[Float32[np.ndarray, "*shape"], int, int]:
    """Zero what is not finite, clip to [-1, 1], and count both.

    Returns (samples, num_nonfinite, num_clipped). The input is never modified, and returned as
    it is when nothing is wrong with it.
    """
    magnitude = np.abs(samples)
    # NaN is the maximum of whatever holds it and compares false: this finds every fault.
    if magnitude.max(initial=0.0) <= 1.0:
        return samples, 0, 0
    nonfinite = ~np.isfinite(samples)
    num_nonfinite = int(np.count_nonzero(nonfinite))
    num_clipped = int(np.count_nonzero(magnitude > 1.0) - np.count_nonzero(np.isinf(samples)))
    clean = np.clip(np.where(nonfinite, np.float32(0), samples), -1.0, 1.0)
    return clean, num_nonfinite, num_clipped


def to_mono(samples: np.ndarray) -> Float32[np.ndarray, " s"]:
    """(s,) or (s, channels) samples of any type as the float32 mean of their channels."""
    return _mean_of_channels(to_float32(_check_shape(samples)))


def to_clean_mono(samples: np.ndarray) -> tuple[Float32[np.ndarray, " s"], int, int]:
    """`to_mono` of sanitized samples: (waveform, num_nonfinite, num_clipped).

    Each channel is sanitized before the mean, so one broken channel does not silence the others.
    """
    clean, num_nonfinite, num_clipped = sanitize(to_float32(_check_shape(samples)))
    return _mean_of_channels(clean), num_nonfinite, num_clipped


def _check_shape(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples)
    is_channels = samples.ndim == 2 and 1 <= samples.shape[1] <= MAX_CHANNELS
    if samples.ndim != 1 and not is_channels:
        raise ValueError(
            f"audio of shape {samples.shape}: expected (samples,) or (samples, channels) with at "
            f"most {MAX_CHANNELS} channels; transpose it if channels come first"
        )
    return samples


def _mean_of_channels(samples: np.ndarray) -> Float32[np.ndarray, " s"]:
    if samples.ndim == 1:
        return samples
    # A fixed order of additions: NumPy's own mean may add in another order for other lengths.
    total = samples[:, 0].astype(np.float32)
    for channel in range(1, samples.shape[1]):
        total = total + samples[:, channel]
    return total / np.float32(samples.shape[1])


def dbfs(waveform: Float[np.ndarray, " s"]) -> float:
    """Root-mean-square level in decibels relative to full scale (a full-scale sine is -3.01).

    At least `MIN_DBFS`, which is also the level of an empty waveform.
    """
    if waveform.size == 0:
        return MIN_DBFS
    # np.mean itself, without its preparations: this runs for every 20 ms of sound.
    mean_square = float(np.add.reduce(np.square(waveform, dtype=np.float64))) / waveform.size
    return max(MIN_DBFS, 10.0 * float(np.log10(max(mean_square, 1e-30))))


class StatefulResampler:
    """Band-limited resampling of a stream, piece by piece, without seams.

    The samples it returns do not depend, in bits, on how the input is cut: input is gathered
    into blocks of 10 ms before it reaches the filter. At equal rates samples pass unchanged.
    """

    def __init__(self, from_hz: int, to_hz: int, quality: str = "HQ") -> None:
        self.from_hz = check_sample_rate(from_hz)
        self.to_hz = check_sample_rate(to_hz)
        self._quality = quality
        self._block = max(1, seconds_to_samples(RESAMPLER_BLOCK_S, from_hz))
        self._delay_samples: int | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample is the first."""
        self._stream = None
        if self.from_hz != self.to_hz:
            import soxr

            self._stream = soxr.ResampleStream(
                self.from_hz, self.to_hz, 1, dtype="float32", quality=self._quality
            )
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0
        self._num_in = 0
        self._num_out = 0

    @property
    def delay_samples(self) -> int:
        """Most output samples that can be outstanding: those up to this far back are all out."""
        if self._stream is None:
            return 0
        if self._delay_samples is None:
            self._delay_samples = self._measure_delay()
        return self._delay_samples

    def _measure_delay(self) -> int:
        """The filter releases its output in bursts, whose size only a trial tells."""
        trial = StatefulResampler(self.from_hz, self.to_hz, self._quality)
        block = np.zeros(self._block, np.float32)
        num_out, most = 0, 0.0
        for num_blocks in range(1, 201):
            due = num_blocks * self._block * self.to_hz / self.from_hz
            num_out += trial.push(block).size
            most = max(most, due - num_out)
        return int(np.ceil(most + self._block * self.to_hz / self.from_hz))

    def push(self, samples: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " m"]:
        """The output samples that became final with this input; possibly none."""
        samples = np.asarray(samples, np.float32)
        self._num_in += samples.size
        if self._stream is None:
            self._num_out += samples.size
            return samples
        # A copy: the caller may reuse the buffer the chunk came in.
        self._waiting.append(samples.copy())
        self._num_waiting += samples.size
        if self._num_waiting < self._block:
            return np.empty(0, np.float32)
        waiting = np.concatenate(self._waiting)
        num_whole = waiting.size - waiting.size % self._block
        self._waiting = [waiting[num_whole:]]
        self._num_waiting = waiting.size - num_whole
        pieces = [
            self._stream.resample_chunk(waiting[start : start + self._block])
            for start in range(0, num_whole, self._block)
        ]
        output = np.concatenate(pieces)
        self._num_out += output.size
        return output

    def flush(self) -> Float32[np.ndarray, " m"]:
        """The rest of the stream, which ends here; then `reset`.

        All pushes and the flush together return round(num_in * to_hz / from_hz) samples.
        """
        num_due = round(self._num_in * self.to_hz / self.from_hz) - self._num_out
        tail = np.empty(0, np.float32)
        if self._stream is not None:
            waiting = np.concatenate([np.empty(0, np.float32), *self._waiting])
            tail = self._stream.resample_chunk(waiting, last=True)
        self.reset()
        missing = max(0, num_due - tail.size)
        return np.concatenate([tail[: max(0, num_due)], np.zeros(missing, np.float32)])


def resample(
    waveform: Float32[np.ndarray, " n"], from_hz: int, to_hz: int
) -> Float32[np.ndarray, " m"]:
    """A whole waveform at another rate: the samples that `StatefulResampler` streams."""
    resampler = StatefulResampler(from_hz, to_hz)
    return np.concatenate([resampler.push(waveform), resampler.flush()])


@dataclass(frozen=True)
class Stft:
    """Short-time Fourier transform with a periodic Hann window, and its least-squares inverse.

    Frame i is centred on sample (i + 1/2) * hop, as `modeling.conv_audio.LogMel` has it: so a
    window of whole hops has exactly s / hop frames, and they lie alike in every window.
    """

    window: int
    """Samples in a frame."""
    hop: int
    """Samples from frame to frame; at most half a window, or sound would fade between frames."""

    def __post_init__(self) -> None:
        if not 0 < 2 * self.hop <= self.window:
            raise ValueError(
                f"STFT of {self.window} samples every {self.hop}: expected a hop of 1 to half the "
                "window"
            )

    @cached_property
    def taper(self) -> Float32[np.ndarray, " n"]:
        return np.hanning(self.window + 1)[:-1].astype(np.float32)

    @property
    def num_bins(self) -> int:
        return self.window // 2 + 1

    def num_frames(self, num_samples: int) -> int:
        """Frames whose hop has begun: the last one may reach beyond the end."""
        return -(-num_samples // self.hop)

    def __call__(self, waveform: Float[np.ndarray, " s"]) -> Complex[np.ndarray, "f t"]:
        """Bins of every frame; zeros before the first sample and behind the last."""
        num_frames = self.num_frames(waveform.size)
        before = (self.window - self.hop) // 2
        padded = np.zeros((num_frames - 1) * self.hop + self.window, waveform.dtype)
        padded[before : before + waveform.size] = waveform[: padded.size - before]
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.window)[:: self.hop]
        return np.fft.rfft(frames * self.taper, axis=1).T

    def inverse(
        self, spectrum: Complex[np.ndarray, "f t"], num_samples: int
    ) -> Float[np.ndarray, " s"]:
        """The waveform whose STFT is nearest to `spectrum`: overlap-add over the squared windows.

        The inverse of an unchanged STFT is its input, edges included.
        """
        frames = np.fft.irfft(spectrum.T, self.window, axis=1) * self.taper
        total = np.zeros((len(frames) - 1) * self.hop + self.window, frames.dtype)
        weight, square = np.zeros(total.size, np.float32), np.square(self.taper)
        for number, frame in enumerate(frames):
            place = slice(number * self.hop, number * self.hop + self.window)
            total[place] += frame
            weight[place] += square
        kept = slice(before := (self.window - self.hop) // 2, before + num_samples)
        return total[kept] / np.maximum(weight[kept], 1e-6)
