"""The sound head: prototypes of things that sound, on the frozen sound-effects trunk.

The trunk heard a hundred times more sounds than we may train on, so it stays as it is; its
features of every window are computed once and kept, and the aligner learns from them in a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from av_grounding.files import replacing
from av_grounding.modeling.effects_audio import EffectsBackbone
from av_grounding.modeling.prototypes import PrototypeAligner
from av_grounding.training.everyday.sound_windows import NOBODY, UNASKED, SoundWindows

logger = logging.getLogger(__name__)

SHARD = 64
"""Windows a file: what an interruption loses at most."""


@torch.no_grad()
def extract(
    backbone: EffectsBackbone,
    windows: SoundWindows,
    num: int,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Float[Tensor, "n d t"], Int[Tensor, "n t"]]:
    """Features of the first `num` windows, the thing of each token; goes on where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    backbone.eval()
    features, things = [], []
    for start in range(0, num, SHARD):
        path = folder / f"windows-{start:06}.npz"
        if not path.exists():
            drawn = [windows[index] for index in range(start, start + SHARD)]
            waves = (torch.from_numpy(one.waveform)[None] for one in drawn)
            heard = [backbone(_normalized(wave))[0, :, :: backbone.repeat] for wave in waves]
            with replacing(path) as partial, open(partial, "wb") as file:
                np.savez(
                    file,
                    features=torch.stack(heard).half().numpy(),
                    things=np.stack([one.thing for one in drawn]),
                )
        with np.load(path) as stored:
            features.append(torch.from_numpy(stored["features"]))
            things.append(torch.from_numpy(stored["things"]))
        progress(min(start + SHARD, num), num)
    return torch.cat(features)[:num], torch.cat(things)[:num]


def train_sound_head(
    features: Float[Tensor, "n d t"],
    things: Int[Tensor, "n t"],
    num_things: int,
    *,
    steps: int = 1500,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    dropout: float = 0.3,
    noise: float = 0.1,
    seed: int = 0,
) -> PrototypeAligner:
    """The trained aligner in eval mode: posterior where a thing is heard, evidence everywhere."""
    torch.manual_seed(seed)
    aligner = PrototypeAligner(features.shape[1], num_things)
    optimizer = torch.optim.AdamW(aligner.parameters(), learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    spread = features.float().std()
    for step in range(steps):
        rows = torch.randint(len(features), (batch_size,))
        x, thing = features[rows].float(), things[rows]
        x = F.dropout(x + noise * spread * torch.randn_like(x), dropout)
        loss = sound_loss(aligner, x, thing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 250 == 0:
            logger.info("sound head, step %d: loss %.3f", step, loss.item())
    return aligner.eval()


def sound_loss(
    aligner: PrototypeAligner, x: Float[Tensor, "b d t"], thing: Int[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """Cross-entropy of the thing where one is heard, and of evidence wherever it is asked for."""
    heard, asked = thing >= 0, thing != UNASKED
    named = F.cross_entropy(
        aligner.logits(x).transpose(1, 2)[heard], thing[heard], label_smoothing=0.05
    )
    evidence = aligner.evidence_logits(x)[asked]
    return named + F.binary_cross_entropy_with_logits(evidence, (thing[asked] != NOBODY).float())


def _normalized(waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
    """As `DualEncoder` normalises: zero mean and unit variance over the window."""
    centred = waveform - waveform.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-7).sqrt()
