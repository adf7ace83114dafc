"""The face of the library: load a bundle, ground a picture and a clip, or open a stream."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.offline import Separated, ground_clip, separate_clip
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.types import Backend, Grounding, ModelSpec


class Grounder:
    """Where a sound comes from and what spoken words refer to, in pictures.

    >>> grounder = Grounder.load("models/everyday-small")
    >>> result = grounder.ground(image, waveform, sample_rate)
    >>> result.sound, result.speech          # (h, w) float32 in [0, 1]
    """

    def __init__(self, backend: Backend, config: StreamingConfig | None = None) -> None:
        self.backend = backend
        self.config = config or StreamingConfig()

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        backend: str = "auto",
        device: str = "auto",
        config: StreamingConfig | None = None,
    ) -> Grounder:
        """Load a bundle directory.

        Raises FileNotFoundError where there is none and ValueError where it is damaged.
        """
        from av_grounding.backends import load_backend

        return cls(load_backend(bundle, backend, device), config)

    @property
    def spec(self) -> ModelSpec:
        return self.backend.spec

    @property
    def model(self):
        """The PyTorch model (torch backend only): `encode_image`, `encode_audio`, `heads`."""
        model = getattr(self.backend, "model", None)
        if model is None:
            raise AttributeError(
                f"backend {self.backend.name!r} holds no PyTorch model; load with backend='torch'"
            )
        return model

    def with_spec(self, spec: ModelSpec) -> Grounder:
        """The same model under another spec, such as another calibration."""
        return Grounder(self.backend.with_spec(spec), self.config)

    def ground(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        waveform: np.ndarray,
        sample_rate: int,
        *,
        word_span_s: tuple[float, float] | None = None,
        use_salience: bool = True,
        hop_s: float | None = None,
    ) -> Grounding:
        """Every head's answer to one RGB picture for a whole clip, (s,) or (s, channels).

        `word_span_s` gives the oracle timing of a word instead of letting voice activity and
        salience find it; `use_salience=False` takes the plain time mean over the speech.
        `hop_s` is the step between windows; by default the longest at which every token is still
        heard with its whole context, which a live stream cannot wait for.
        """
        return ground_clip(
            self.backend,
            image,
            waveform,
            sample_rate,
            self.config,
            word_span_s=word_span_s,
            use_salience=use_salience,
            hop_s=hop_s or longest_hop_s(self.spec),
        )

    def separate(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        waveform: np.ndarray,
        sample_rate: int,
        *,
        point: tuple[float, float] | None = None,
        box: tuple[float, float, float, float] | None = None,
        mask: np.ndarray | None = None,
    ) -> Separated:
        """The sound of one place of an RGB picture out of a clip, (s,) or (s, channels).

        The place is a `point` x, y, a `box` left, top, right, bottom, both in the picture's
        pixels, or an (H, W) `mask`; without any, where the sound heatmap is highest.

        >>> heard = grounder.separate(image, waveform, sample_rate, point=(200, 120))
        >>> heard.separated + heard.residual      # the clip's channels' mean

        Raises ValueError for a model that does not separate, for a place off the picture, for
        more than one place, and where no place is given and nothing is heard.
        """
        return separate_clip(
            self.backend,
            image,
            waveform,
            sample_rate,
            self.config,
            point=point,
            box=box,
            mask=mask,
            hop_s=longest_hop_s(self.spec),
        )

    def stream(self, config: StreamingConfig | None = None) -> GroundingStream:
        """A stream without threads or a clock: push audio and frames, get heatmaps."""
        return GroundingStream(self.backend, config or self.config)


def clip_hop_s(spec: ModelSpec) -> float | None:
    """Step between the windows of a clip; None leaves it to the grounder.

    A model that attends to its whole window needs no overlap: its windows follow one another.
    """
    return spec.window_s if spec.context_s == 0.0 else None


def longest_hop_s(spec: ModelSpec) -> float:
    """The longest whole number of tokens between windows that leaves every token its context."""
    whole = math.floor((spec.window_s - 2 * spec.context_s) / spec.token_stride_s + 1e-6)
    return max(whole * spec.token_stride_s, spec.hop_s)
