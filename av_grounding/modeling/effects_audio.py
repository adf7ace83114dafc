"""The sound-effects backbone: a spectrogram CNN trained on labelled effect libraries.

Four blocks of two convolutions over a log-mel spectrogram that keeps its own scale (Ma & Lerch,
ISMIR 2022, after the DCASE cross-task baseline). It was trained at 44.1 kHz; here its filterbank
is rebuilt at another rate, with the same frame rate and the same filters: those above the new
Nyquist frequency stay empty.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 128, 256, 512)
TRAINED_HZ, NUM_MELS, TOP_HZ = 44_100, 96, 22_050.0
LOUDEST = 9.457798957824707
"""Largest log10(10^4 * S + 1) of its training spectrograms, by which it was divided."""


class EffectsSpectrogram(nn.Module):
    """Waveform (b, s) to log-mel (b, 1, t, 96); frame i is centred on sample (i + 1/2) * hop.

    The waveform is scaled to a peak of 1 first, as in training. HTK mel filters from 0 Hz, each
    with a sum of 1, over the power spectrum of Hann windows.
    """

    def __init__(self, sample_rate_hz: int, window: int, hop: int) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        num_bins = window // 2 + 1
        exact = {"dtype": torch.float64, "device": "cpu"}
        angle = 2 * math.pi / window * torch.arange(num_bins, **exact)[:, None]
        angle = angle * torch.arange(window, **exact)
        hann = torch.hann_window(window, periodic=True, **exact)
        basis = torch.cat([angle.cos() * hann, -angle.sin() * hann])[:, None].float()
        self.register_buffer("basis", basis, persistent=False)
        # As many samples less in a window are as much less power, by the square.
        gain = (2048 / window) ** 2
        mel = gain * _filters(num_bins, sample_rate_hz)
        self.register_buffer("mel", mel.float(), persistent=False)

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b 1 t m"]:
        peak = waveform.abs().amax(dim=-1, keepdim=True).clamp_min(1e-3)
        pad = (self.window - self.hop) // 2
        padded = F.pad(waveform / peak, (pad, self.window - self.hop - pad))
        spectrum = F.conv1d(padded[:, None], self.basis, stride=self.hop)
        real, imaginary = spectrum.chunk(2, dim=1)
        mel = torch.einsum("mf,bft->btm", self.mel, real.square() + imaginary.square())
        return ((10_000.0 * mel + 1.0).log() / (math.log(10.0) * LOUDEST))[:, None]


def _filters(num_bins: int, sample_rate_hz: int) -> Float[Tensor, "m f"]:
    """Triangles equally spaced on the HTK mel scale from 0 to `TOP_HZ`, each of sum 1."""
    exact = {"dtype": torch.float64, "device": "cpu"}
    top = 2595.0 * math.log10(1.0 + TOP_HZ / 700.0)
    edges = 700.0 * (10.0 ** (torch.linspace(0.0, top, NUM_MELS + 2, **exact) / 2595.0) - 1.0)
    bins = torch.linspace(0, sample_rate_hz / 2, num_bins, **exact)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rising, falling).clamp_min(0)
    return triangles / triangles.sum(dim=1, keepdim=True).clamp_min(1e-12)


class EffectsBackbone(nn.Module):
    """Waveform (b, s) to features (b, 512, t): a token every `token_samples` samples.

    Eight frames of 24 ms make a token of 192 ms; each is given `repeat` times, so that the grid
    in time is that of a finer trunk beside it.
    """

    def __init__(
        self, sample_rate_hz: int = 16_000, window: int = 768, hop: int = 384, repeat: int = 2
    ) -> None:
        super().__init__()
        self.repeat = repeat
        self.dim = WIDTHS[-1]
        self.token_samples = 8 * hop // repeat
        self.spectrogram = EffectsSpectrogram(sample_rate_hz, window, hop)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(dim_in, dim, 3, padding=1, bias=False),
                nn.BatchNorm2d(dim),
                nn.ReLU(inplace=True),
                nn.Conv2d(dim, dim, 3, padding=1, bias=False),
                nn.BatchNorm2d(dim),
                nn.ReLU(inplace=True),
            )
            for dim_in, dim in zip((1, *WIDTHS[:-1]), WIDTHS, strict=True)
        )
        # Frames that a token sees on each side of its own eight: two a block, ever coarser.
        frames = sum(2 * 2**block for block in range(len(WIDTHS)))
        self.context_s = (frames * hop + window / 2) / sample_rate_hz

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b c t"]:
        x = self.spectrogram(waveform)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index < len(self.blocks) - 1:
                x = F.max_pool2d(x, 2)
        return x.mean(dim=3).repeat_interleave(self.repeat, dim=2)
