"""VGGish: 128 features for every 0.96 s of sound, under the released weights' names.

Hershey et al. 2017, trained on AudioSet. The input is a log-mel of its own, which keeps the
sound's level: a waveform must come as it was recorded, in [-1, 1], and clips must be mixed before.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

SAMPLE_RATE_HZ, WINDOW, HOP, FFT = 16_000, 400, 160, 512
NUM_MELS, LOWEST_HZ, HIGHEST_HZ = 64, 125.0, 7500.0
LOG_OFFSET = 0.01
EXAMPLE_FRAMES = 96
CONVOLUTIONS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool")


class VggishBackbone(nn.Module):
    """Waveform (b, s) at 16 kHz to features (b, 128, t): one a stretch of 0.96 s, none overlaps.

    What is left over at the end is not heard: 5 s give 5. `width` is that of the two hidden linear
    layers, 4096 in the released weights, whose names are `features.*` and `embeddings.*`. The last
    layer's ReLU belongs to it; the quantiser of AudioSet's files does not.
    """

    dim = 128
    context_s = 0.0
    token_samples = EXAMPLE_FRAMES * HOP

    def __init__(self, width: int = 4096) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        dim = 1
        for step in CONVOLUTIONS:
            if step == "pool":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(dim, step, 3, padding=1), nn.ReLU(inplace=True)]
                dim = step
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(dim * (EXAMPLE_FRAMES // 16) * (NUM_MELS // 16), width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, self.dim), nn.ReLU(),
        )  # fmt: skip
        # Constants have values also where the parameters are built without (see `bundle`).
        window = torch.hann_window(WINDOW, dtype=torch.float64, device="cpu")
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("mel", mel_filters(), persistent=False)

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b c t"]:
        log_mel = self.log_mel(waveform)
        num = log_mel.shape[1] // EXAMPLE_FRAMES
        if num < 1:
            least = (EXAMPLE_FRAMES - 1) * HOP + WINDOW
            raise ValueError(
                f"waveform of {waveform.shape[1]} samples; expected at least {least}: pad it with "
                "zeros"
            )
        examples = log_mel[:, : num * EXAMPLE_FRAMES].unflatten(1, (num, EXAMPLE_FRAMES))
        maps = self.features(examples.flatten(0, 1)[:, None])
        # The released weights expect channels last.
        embedded = self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))
        return embedded.unflatten(0, (-1, num)).transpose(1, 2)

    def log_mel(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b f m"]:
        """Log of mel magnitudes plus 0.01, frames of 25 ms every 10 ms, none beyond the ends."""
        frames = waveform.float().unfold(1, WINDOW, HOP) * self.window
        magnitude = torch.fft.rfft(frames, FFT).abs()
        return (magnitude @ self.mel + LOG_OFFSET).log()


def mel_filters() -> Float[Tensor, "f m"]:
    """HTK's triangles, linear in mel between their edges; the constant part is heard by none."""
    bins = torch.arange(FFT // 2 + 1, dtype=torch.float64, device="cpu") * SAMPLE_RATE_HZ / FFT
    low, high = (1127.0 * math.log1p(hz / 700.0) for hz in (LOWEST_HZ, HIGHEST_HZ))
    edges = torch.linspace(low, high, NUM_MELS + 2, dtype=torch.float64, device="cpu")
    mel = 1127.0 * torch.log1p(bins / 700.0)[:, None]
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp_min(0.0)
    filters[0] = 0.0
    return filters.float()
