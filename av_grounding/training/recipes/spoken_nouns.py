"""The speech trunk learns which noun of the vocabulary is said when, by whatever voice."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.conv_audio import ConvAudioBackbone
from av_grounding.modeling.prototypes import PrototypeAligner

BACKBONE_OPTIONS = {
    "num_mels": 40,
    "widths": (16, 32, 64),
    "dim": 256,
    "dilations": (1, 2, 4, 2, 4),
    "hop": 192,
}
"""A token of 96 ms, 1536 samples; small enough to learn on a core in half an hour."""


class SpeechTrunk(nn.Module):
    """Waveform (b, s) at 16 kHz to tokens (b, v, t), t = s / 1536."""

    def __init__(self, num_nouns: int, dim: int = 128) -> None:
        super().__init__()
        self.backbone = ConvAudioBackbone(**BACKBONE_OPTIONS)
        self.aligner = PrototypeAligner(self.backbone.dim, num_nouns, dim)

    def features(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b d t"]:
        """Of the waveform at zero mean and unit variance, as `DualEncoder` normalises it."""
        centred = waveform - waveform.mean(dim=-1, keepdim=True)
        return self.backbone(centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-7).sqrt())

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b v t"]:
        return self.aligner(self.features(waveform))


class SpokenNouns(nn.Module):
    """Three terms: the noun at its tokens, evidence there and nowhere else, and the clip's noun.

    The batch holds `waveform` (b, s), `noun` (b,) int with -1 for clips without one, `inside` and
    `near` (b, t) bool: tokens within the noun, and those that touch it, which the evidence is not
    asked about unless they are inside. The third term pools as the stream does: posteriors
    weighted by evidence.
    """

    def __init__(self, trunk: SpeechTrunk, smoothing: float = 0.05) -> None:
        super().__init__()
        self.model, self.smoothing = trunk, smoothing

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Float[Tensor, ""]]:
        noun, inside, near = batch["noun"], batch["inside"], batch["near"]
        features = self.model.features(batch["waveform"])
        logits = self.model.aligner.logits(features)
        evidence = self.model.aligner.evidence_logits(features)
        said = noun.clamp_min(0)
        losses = F.cross_entropy(
            logits,
            said[:, None].expand(-1, logits.shape[-1]),
            reduction="none",
            label_smoothing=self.smoothing,
        )
        share = inside.float() / inside.sum(dim=1, keepdim=True).clamp_min(1)
        num_said = (noun >= 0).sum().clamp_min(1)
        asked = (inside | ~near).float()
        heard = F.binary_cross_entropy_with_logits(evidence, inside.float(), reduction="none")
        weights = torch.sigmoid(evidence)[:, None]
        pooled = (logits.softmax(dim=1) * weights).sum(-1) / (weights.sum(-1) + 0.1)
        clip = -pooled.gather(1, said[:, None])[:, 0].clamp_min(1e-4).log()
        return {
            "noun": (losses * share).sum() / num_said,
            "evidence": (heard * asked).sum() / asked.sum(),
            "clip": 0.5 * (clip * (noun >= 0)).sum() / num_said,
        }
