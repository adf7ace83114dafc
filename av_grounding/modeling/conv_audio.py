"""The small convolutional audio backbone: log-mel front end, then dilated temporal convolutions.

Its receptive field is bounded, so overlapping windows give nearly the same token for the same
instant, which is what the sliding-window aggregator relies on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class PowerSpectrum(nn.Module):
    """Waveform (b, s) to power (b, window / 2 + 1, t) of the STFT that `audio.Stft` defines.

    The short-time Fourier transform is one strided convolution with windowed cosines and sines,
    so that it exports to plain operators; training, which needs no export, takes the fast one.
    Frame i is centred on sample (i + 1/2) * hop. Subclasses say what is made of the power.
    """

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        num_bins = window // 2 + 1
        # Constants have values also where the parameters are built without (see `bundle`).
        exact = {"dtype": torch.float64, "device": "cpu"}
        time = torch.arange(window, **exact)
        angle = 2 * math.pi / window * torch.arange(num_bins, **exact)[:, None] * time
        hann = torch.hann_window(window, periodic=True, **exact)
        basis = torch.cat([angle.cos() * hann, -angle.sin() * hann])[:, None].float()
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("taper", hann.float(), persistent=False)

    def bins(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b f t"]:
        """Power in every linear bin of every frame."""
        pad = (self.window - self.hop) // 2
        padded = F.pad(waveform, (pad, pad))
        if self.training:
            frames = padded.float().unfold(1, self.window, self.hop) * self.taper
            spectrum = torch.view_as_real(torch.fft.rfft(frames)).square().sum(dim=-1)
            return spectrum.transpose(1, 2)
        spectrum = F.conv1d(padded[:, None], self.basis, stride=self.hop)
        real, imaginary = spectrum.chunk(2, dim=1)
        return real.square() + imaginary.square()


class LogMel(PowerSpectrum):
    """Waveform (b, s) to log-mel (b, 1, num_mels, s / hop)."""

    def __init__(
        self, sample_rate_hz: int = 16_000, num_mels: int = 64, window: int = 400, hop: int = 160
    ) -> None:
        super().__init__(window, hop)
        mel = mel_filterbank(num_mels, window // 2 + 1, sample_rate_hz)
        self.register_buffer("mel", mel, persistent=False)

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b 1 m t"]:
        return self.power(waveform).clamp_min(1e-5).log()[:, None]

    def power(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b m t"]:
        """Power in every mel band of every frame."""
        return torch.einsum("mf,bft->bmt", self.mel, self.bins(waveform))


def mel_filterbank(num_mels: int, num_bins: int, sample_rate_hz: int) -> Float[Tensor, "m f"]:
    """Triangular filters equally spaced on the HTK mel scale from 40 Hz to the Nyquist rate."""
    low, high = 40.0, sample_rate_hz / 2
    to_mel = lambda hz: 2595.0 * math.log10(1.0 + hz / 700.0)  # noqa: E731
    exact = {"dtype": torch.float64, "device": "cpu"}
    points = torch.linspace(to_mel(low), to_mel(high), num_mels + 2, **exact)
    edges = 700.0 * (10.0 ** (points / 2595.0) - 1.0)
    bins = torch.linspace(0, high, num_bins, **exact)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp_min(0).float()


class TemporalResidual(nn.Module):
    """Dilated convolution over time and a pointwise one, added to the input."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        self.mix = nn.Conv1d(dim, dim, 1, bias=False)
        self.mix_norm = nn.BatchNorm1d(dim)

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b c t"]:
        return F.relu(x + self.mix_norm(self.mix(F.relu(self.norm(self.conv(x))))))


class ConvAudioBackbone(nn.Module):
    """Waveform (b, s) to features (b, dim, t): one token per `token_samples` samples.

    A token is eight frames of `hop` samples: 80 ms at 160 and 16 kHz.
    """

    def __init__(
        self,
        sample_rate_hz: int = 16_000,
        num_mels: int = 64,
        widths: Sequence[int] = (24, 48, 64),
        dim: int = 160,
        dilations: Sequence[int] = (1, 2, 4, 1, 2, 4),
        hop: int = 160,
    ) -> None:
        super().__init__()
        self.dim, self.token_samples = dim, 8 * hop
        self.log_mel = LogMel(sample_rate_hz, num_mels, hop=hop)
        first, second, third = widths
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, 5, 2, 2, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, 2, 1, bias=False), nn.BatchNorm2d(second),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, third, 3, (2, 1), 1, bias=False), nn.BatchNorm2d(third),
            nn.ReLU(inplace=True),
        )  # fmt: skip
        self.project = nn.Conv1d(third * num_mels // 8, dim, 1)
        self.temporal = nn.Sequential(*[TemporalResidual(dim, d) for d in dilations])
        self.context_s = (0.02 * 5 + 0.04 * sum(dilations)) * hop / 160

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b c t"]:
        # A fixed affine brings log-mel values near zero mean and unit spread.
        features = self.stem((self.log_mel(waveform) + 4.0) / 4.0)
        features = F.relu(self.project(features.flatten(1, 2)))
        return F.avg_pool1d(self.temporal(features), 2)
