"""Which of two heads became the sound head: 001 leaves it to the training, a bundle must say."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations

import torch
from jaxtyping import Float
from torch import Tensor

from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.training.data.clips import KINDS

logger = logging.getLogger(__name__)

NUM_NAMING_BATCHES = 8
Pairs = tuple[str, Tensor, Tensor]
"""A kind, images (b,3,H,W) uint8, and clips (b,s) of that kind that belong to them."""


@torch.no_grad()
def name_heads(model: DualEncoder, batches: Iterable[Pairs]) -> Float[Tensor, "k kinds"]:
    """Give the model's slices their names, by what they answer; returns the responses.

    The heads are matched to sound and speech so that each scores its own kind's clips with
    their images above the other's, relative to the head's spread: the assignment that 001 eq. 7
    maximises over. Warns where that hardly tells them apart.
    """
    device = next(model.parameters()).device
    scores: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    for kind, pixels, waveforms in batches:
        image = model.encode_image(pixels.to(device).float() / 255.0).flatten(3)
        tokens = model.encode_audio(waveforms.to(device))
        # A clip with its own image: the volume of matching pairs, one per head.
        volume = torch.einsum("bkct,bkcn->bktn", tokens.float(), image.float())
        scores[kind].append(volume.amax(dim=3).mean(dim=2))
    by_kind = [torch.cat(scores[kind]) for kind in KINDS]
    spread = torch.cat(by_kind).std(dim=0).clamp_min(1e-9)
    responses = torch.stack([of_kind.mean(dim=0) / spread for of_kind in by_kind], dim=1)
    best = max(permutations(KINDS), key=lambda order: _fit(responses, order))
    if _fit(responses, best) < 0.5:
        logger.warning("the heads hardly tell sound from speech: %s", responses.tolist())
    model.heads = best
    model.config = replace(model.config, heads=best)
    return responses


def _fit(responses: Tensor, order: tuple[str, ...]) -> float:
    """How much more each head answers its own kind than the other, summed."""
    return sum(
        float(responses[head, KINDS.index(name)] - responses[head, 1 - KINDS.index(name)])
        for head, name in enumerate(order)
    )
