"""Audio backbones that see a picture of sound: log-mel in, features at several strides out.

The stages feed a separator's skips; the last one gives the audio tokens. So one pass over a
window serves localisation and separation (003 section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from av_grounding.modeling.conv_audio import LogMel
from av_grounding.modeling.conv_image import ConvNorm


class SpectrogramBackbone(nn.Module):
    """Waveform (b, s) to features (b, dim, t): one token per `token_samples`, 320 ms by default.

    Stage i has `widths[i]` channels at a stride of 2^(i+1) bands and frames. The last stage's
    frequencies are mixed into each token by one linear layer, so that a token still knows how
    high its sound is.
    """

    def __init__(
        self,
        sample_rate_hz: int = 16_000,
        num_mels: int = 128,
        window: int = 1024,
        hop: int = 320,
        widths: Sequence[int] = (16, 32, 64, 96),
        dim: int = 128,
    ) -> None:
        super().__init__()
        self.dim, self.widths = dim, tuple(widths)
        num_rows, rest = divmod(num_mels, 2 ** len(widths))
        if rest or not num_rows:
            raise ValueError(
                f"{num_mels} mel bands for {len(widths)} stages; expected a multiple of "
                f"{2 ** len(widths)}, since each stage halves them"
            )
        self.log_mel = LogMel(sample_rate_hz, num_mels, window, hop)
        self.token_samples = hop * 2 ** len(widths)
        ins = (1, *widths)
        # The first stage stays a single convolution: at its resolution a second costs the most.
        self.blocks = nn.ModuleList(
            nn.Sequential(
                ConvNorm(ins[i], width, 3, 2), *([ConvNorm(width, width, 3)] if i else [])
            )
            for i, width in enumerate(widths)
        )
        self.project = nn.Conv1d(widths[-1] * num_rows, dim, 1)
        reach = sum(2**i + (2 ** (i + 1) if i else 0) for i in range(len(widths)))
        self.context_s = (reach * hop + window / 2) / sample_rate_hz

    def stages(
        self, waveform: Float[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b 1 m t"], list[Float[Tensor, "b _ _ _"]]]:
        """The log-mel picture, near zero mean and unit spread, and every stage's features."""
        features = picture = self.log_mel(waveform) / 4.0
        found = []
        for block in self.blocks:
            features = block(features)
            found.append(features)
        return picture, found

    def tokens(self, last: Float[Tensor, "b c m t"]) -> Float[Tensor, "b d t"]:
        """Audio tokens from the last stage."""
        return torch.relu(self.project(last.flatten(1, 2)))

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b d t"]:
        return self.tokens(self.stages(waveform)[1][-1])
