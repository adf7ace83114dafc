"""The values that cross room boundaries and the contracts between rooms.

Everything here is NumPy and standard library, so that a reader of this file knows what flows
through the component without knowing any driver, model runtime or transport.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NewType, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

ImageTokens = NewType("ImageTokens", object)
"""What a backend's `encode_image` returns: opaque, it stays on the backend's device."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A camera image, (H, W, 3) uint8 RGB, stamped with its capture time in nanoseconds."""

    image: UInt8[np.ndarray, "H W 3"]
    stamp_ns: int
    frame_id: str = "camera"


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """What an audio driver delivers: (s,) or (s, channels) samples, any rate.

    `stamp_ns` is the capture time of the first sample. Floating-point samples lie in [-1, 1];
    integer samples are scaled by their type's full range where they enter `av_grounding.audio`.
    """

    samples: np.ndarray
    stamp_ns: int
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class VoiceMarks:
    """What was heard lately, for whoever shows it: consecutive marks of `frame_s` seconds each.

    `stamp_ns` is the start of the first. `level_dbfs` and `is_voiced` (judged speech, and over the
    gate) have one entry per mark; `utterances` are the latest as (start, stop) stamps in
    nanoseconds, oldest first, of which the last may go on.
    """

    stamp_ns: int
    frame_s: float
    level_dbfs: Float32[np.ndarray, " n"]
    is_voiced: Bool[np.ndarray, " n"]
    utterances: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Grounding:
    """Both answers for one frame: where the sound comes from, what the words refer to.

    `sound` and `speech` are (h, w) float32 in [0, 1], calibrated: 0.5 means "as likely as not",
    and all zeros means "nothing heard". Scores are the evidence behind a map, in [0, 1]: the
    largest calibrated value before any gate. `stamp_ns` and `frame_id` are the frame's own.
    """

    sound: Float32[np.ndarray, "h w"]
    speech: Float32[np.ndarray, "h w"]
    sound_score: float
    speech_score: float
    stamp_ns: int
    frame_id: str = "camera"
    image_size: tuple[int, int] = (0, 0)
    """(H, W) of the frame in pixels."""

    def resized(self, height: int, width: int) -> Grounding:
        """Both maps bilinearly resized to (height, width) pixels."""
        from dataclasses import replace

        from av_grounding.image import resize_heatmap

        return replace(
            self,
            sound=resize_heatmap(self.sound, height, width),
            speech=resize_heatmap(self.speech, height, width),
        )


@dataclass(frozen=True, slots=True)
class HeadCalibration:
    """Turns a head's similarity into a probability: sigmoid(scale * similarity + bias)."""

    scale: float = 1.0
    bias: float = 0.0

    def __call__(self, similarity: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
        logit = np.clip(self.scale * similarity + self.bias, -30.0, 30.0)
        return (1.0 / (1.0 + np.exp(-logit))).astype(np.float32)


@dataclass(frozen=True)
class ModelSpec:
    """What the streaming core must know of a model; read from the bundle's config.json.

    A window of `window_s` seconds at `sample_rate_hz` yields `num_tokens` audio tokens of equal
    stride from its beginning on. Images are resized so that their short side is about
    `short_side_px` and both sides are multiples of `patch_px` (see
    `av_grounding.image.ResizeTransform`).
    """

    heads: tuple[str, ...]
    sample_rate_hz: int
    window_s: float
    hop_s: float
    num_tokens: int
    short_side_px: int
    patch_px: int
    calibration: Mapping[str, HeadCalibration] = field(default_factory=dict)
    min_token_norm: Mapping[str, float] = field(default_factory=dict)
    """Head -> evidence floor: tokens whose vector is shorter than this say nothing (weight 0)."""
    salience_power: float = 1.0
    """Exponent on a speech token's salience; 0 gives the plain time mean of the papers."""
    context_s: float = 0.0
    """Sound on both sides of a token that the audio encoder looks at, in seconds."""
    token_spacing_s: float = 0.0
    """From token to token, in seconds, where the tokens do not fill the window; 0: they do."""

    @property
    def num_window_samples(self) -> int:
        return round(self.window_s * self.sample_rate_hz)

    @property
    def token_stride_s(self) -> float:
        return self.token_spacing_s or self.window_s / self.num_tokens


@runtime_checkable
class Source(Protocol):
    """Iterates `Frame` or `AudioChunk` in capture order; `close` may be called from any thread."""

    def __iter__(self) -> Iterator[Frame | AudioChunk]: ...

    def close(self) -> None: ...


@runtime_checkable
class Sink(Protocol):
    """Takes every published `Grounding` with the frame it answers."""

    def write(self, frame: Frame, heatmaps: Grounding) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class Backend(Protocol):
    """One way to run a bundle. NumPy in and out; image tokens stay opaque in between."""

    name: str
    spec: ModelSpec

    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        """`image` already has the model's input size (see `ResizeTransform.apply`)."""
        ...

    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        """`waveform` is one whole window: mono, at `spec.sample_rate_hz`."""
        ...

    def ground(
        self, image_tokens: ImageTokens, vectors: Float32[np.ndarray, "k n c"]
    ) -> Float32[np.ndarray, "k n h w"]:
        """Similarity of n audio vectors per head with every cell of the image (uncalibrated)."""
        ...

    def with_spec(self, spec: ModelSpec) -> Backend:
        """The same loaded model under another spec, such as another calibration."""
        ...

    def describe(self) -> dict[str, Any]:
        """Runtime facts for reports: backend, device, precision, versions."""
        ...


@runtime_checkable
class AudioStream(Protocol):
    """The windows of one stream of sound, whose encoder keeps what one shares with the next."""

    def encode(
        self, waveform: Float32[np.ndarray, " s"], num_new: int
    ) -> Float32[np.ndarray, "k c t"]:
        """As `Backend.encode_audio` up to 1e-5; `num_new` samples came since the last window."""
        ...

    def reset(self) -> None:
        """Forget the last window."""
        ...


@runtime_checkable
class KeepsAudio(Protocol):
    """What a `Backend` may offer for models that need not compute all of a window anew."""

    def audio_stream(self) -> AudioStream | None:
        """A new stream; None where this model's windows share nothing that can be kept."""
        ...


@runtime_checkable
class EncodesBatches(Protocol):
    """What a `Backend` may offer where several windows at once cost less than one by one."""

    max_audio_batch: int
    """Windows in one call at most; 1 where more do not pay."""

    def encode_audio_batch(
        self, waveforms: Float32[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, "n k c t"]:
        """As `Backend.encode_audio` of each up to 1e-5; not the same bits for every n."""
        ...
