"""ResNet-18 (He et al. 2016) for pictures and for spectrograms, as papers 003 and 004 have it.

The network is that of `transformers`, so that its released weights fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from av_grounding.modeling.conv_audio import LogMel, PowerSpectrum

OFFSET = 1e-7
"""Added to a power before its logarithm."""
MIN_WIDTH = 8
"""Of channels: training narrower stages crashed PyTorch 2.13 on a CPU."""
WIDTHS, DEPTHS = (64, 128, 256, 512), (2, 2, 2, 2)


def build_resnet(
    num_channels: int, embedding_size: int, hidden_sizes: Sequence[int], depths: Sequence[int]
) -> nn.Module:
    """A `transformers.ResNetModel` of basic layers with random weights."""
    from transformers import ResNetConfig, ResNetModel

    if len(hidden_sizes) != len(depths) or not hidden_sizes:
        raise ValueError(
            f"hidden_sizes are {list(hidden_sizes)} and depths {list(depths)}; expected one of "
            "each for every stage"
        )
    if (narrowest := min(embedding_size, *hidden_sizes)) < MIN_WIDTH:
        raise ValueError(f"{narrowest} channels; expected at least {MIN_WIDTH} in every stage")
    config = ResNetConfig(
        num_channels=num_channels,
        embedding_size=embedding_size,
        hidden_sizes=list(hidden_sizes),
        depths=list(depths),
        layer_type="basic",
    )
    return ResNetModel(config)


def feature_maps(resnet: nn.Module, x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
    """Of the stem before its maximum pooling, and of every stage: strides 2, 4, 8, ..."""
    found = [resnet.embedder.embedder(x)]
    x = resnet.embedder.pooler(found[0])
    for stage in resnet.encoder.stages:
        x = stage(x)
        found.append(x)
    return found


class ResNetBackbone(nn.Module):
    """Pixels (b, 3, H, W), normalised, to features (b, dim, H/32, W/32); multiples of 32.

    The last map before the pooling over space (003 section 3.1; 004 section 3.1). The defaults
    are ResNet-18; with other than four stages the stride is another power of two.
    """

    def __init__(
        self,
        embedding_size: int = 64,
        hidden_sizes: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
    ) -> None:
        super().__init__()
        self.resnet = build_resnet(3, embedding_size, hidden_sizes, depths)
        self.dim = hidden_sizes[-1]
        self.patch_px = self.stride_px = 2 ** (1 + len(hidden_sizes))

    def forward(self, x: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        return feature_maps(self.resnet, x)[-1]


class Log10Mel(LogMel):
    """Waveform (b, s) to log10(mel power + 1e-7) (b, 1, num_mels, t).

    Paper 003 states a log spectrogram of 128 bands alone; the scale is that of its authors' later
    code. At 8 kHz and 50 ms the lowest bands hold a bin or two each.
    """

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b 1 m t"]:
        return (self.power(waveform) + OFFSET).log10()[:, None]


class LogDensity(PowerSpectrum):
    """Waveform (b, s) to log(density + 1e-7) / 12 (b, 1, window / 2 + 1, t).

    Paper 004 states a log spectrogram alone and follows LVS, whose code takes SciPy's
    `spectrogram` with its defaults. That is power, not magnitude: the one-sided density
    2 |X|² / (rate Σ taper²) per hertz, half of it for the first and the last bin. SciPy's taper is
    Tukey's, and it takes each frame's mean away; here taper and frames are the STFT's of
    this house, which has one frame more in 3 s (201) since it reaches beyond the ends.
    """

    def __init__(self, sample_rate_hz: int, window: int, hop: int) -> None:
        super().__init__(window, hop)
        sides = torch.full((window // 2 + 1, 1), 2.0, device="cpu")
        sides[0] = sides[-1] = 1.0
        per_hz = sides / (sample_rate_hz * self.taper.square().sum())
        self.register_buffer("per_hz", per_hz, persistent=False)

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b 1 f t"]:
        return ((self.per_hz * self.bins(waveform) + OFFSET).log() / 12.0)[:, None]


FRONTS = {
    "mel": (
        Log10Mel,
        {"sample_rate_hz": 8000, "num_mels": 128, "window": 400, "hop": 200},
    ),
    "linear": (LogDensity, {"sample_rate_hz": 16_000, "window": 512, "hop": 238}),
}
"""Spectrograms and their sizes: 003's (section 4.1: 50 ms every 25 ms) and those of LVS's code."""


class ResNetAudioBackbone(nn.Module):
    """Waveform (b, s) to features (b, dim, t): one token every 32 frames, centred on its first.

    One input channel, trained from scratch. `front` names the picture that it sees, mel (003) or
    linear (004), and `sample_rate_hz`, `num_mels`, `window` and `hop`, in samples, change its
    sizes; 0 leaves them as they are in `FRONTS`. The papers take one maximum over frequencies and
    time; a token is the maximum over frequencies, and the mean over tokens is taken where they
    are pooled, since only a mean of tokens is as well the mean of their maps.
    """

    context_s = 0.0
    """A token's receptive field, 435 frames of ResNet-18, is longer than the papers' windows."""

    def __init__(
        self,
        front: str = "mel",
        sample_rate_hz: int = 0,
        num_mels: int = 0,
        window: int = 0,
        hop: int = 0,
        embedding_size: int = 64,
        hidden_sizes: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
    ) -> None:
        super().__init__()
        if front not in FRONTS:
            raise ValueError(f"front is {front!r}; expected one of {', '.join(FRONTS)}")
        kind, sizes = FRONTS[front]
        given = {
            "sample_rate_hz": sample_rate_hz, "num_mels": num_mels, "window": window, "hop": hop
        }  # fmt: skip
        sizes = {**sizes, **{name: value for name, value in given.items() if value}}
        if front == "linear" and num_mels:
            raise ValueError(f"num_mels is {num_mels} with front linear; expected front mel")
        self.log_mel = kind(**sizes)
        self.sample_rate_hz, hop = sizes["sample_rate_hz"], sizes["hop"]
        self.resnet = build_resnet(1, embedding_size, hidden_sizes, depths)
        self.dim, self.widths = hidden_sizes[-1], (embedding_size, *hidden_sizes)
        self.token_samples = hop * 2 ** len(self.widths)
        # Odd kernels with even padding: output i of a stride of 2 is centred on input 2 i.
        self.first_token_s = 0.5 * hop / self.sample_rate_hz

    def stages(
        self, waveform: Float[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b 1 m t"], list[Float[Tensor, "b _ _ _"]]]:
        """The picture of sound, and the features at strides 2 (the stem), 4, 8, 16 and 32."""
        picture = self.log_mel(waveform)
        return picture, feature_maps(self.resnet, picture)

    def tokens(self, last: Float[Tensor, "b d m t"]) -> Float[Tensor, "b d t"]:
        """Audio tokens from the last stage."""
        return last.amax(dim=2)

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b d t"]:
        return self.tokens(self.stages(waveform)[1][-1])
