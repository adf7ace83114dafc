"""Pretext tasks that stand in for the backbones' pretraining (DINO, HuBERT) at a small scale.

The image backbone learns that the cells of one individual object look alike in two renderings
(another place, pose, size, light and background) and unlike other objects and the background:
dense instance discrimination, with no class name and no sound. The audio backbone learns which
word of the vocabulary is spoken when, in speech under other sound, as an acoustic model fine-tuned
for recognition would know it. Neither sees an image together with a sound.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.dual_encoder import DualEncoder


class Pretext(nn.Module):
    """Both pretext tasks, one step each; the projections are dropped afterwards.

    The batch holds `view_a`, `view_b` (b,3,H,W) uint8 of the same objects; `index_a`, `index_b`
    (b,H,W) int: 0 background, else 1 + the individual's number within its group; `group` (b,) int;
    `words_audio` (b,s) and `words` (b,t) int: 0 for no word of the vocabulary, else 1 + word.
    """

    temperature = 0.1

    def __init__(self, model: DualEncoder, num_words: int, dim: int = 64) -> None:
        super().__init__()
        self.model = model
        self.image_projection = nn.Conv2d(model.image_backbone.dim, dim, 1)
        self.background = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.word_logits = nn.Conv1d(model.audio_backbone.dim, num_words + 1, 1)

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Float[Tensor, ""]]:
        return {"instances": self.instances(batch), "words": self.spoken_words(batch)}

    def instances(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        views = torch.cat([batch["view_a"], batch["view_b"]]).float() / 255.0
        features = self.model.image_features(views)
        cells = F.normalize(self.image_projection(features).float(), dim=1)
        index = torch.cat([batch["index_a"], batch["index_b"]])
        index = nearest_cells(index, cells.shape[-2:])
        cells_a, cells_b = cells.flatten(2).chunk(2)
        index_a, index_b = index.flatten(1).chunk(2)
        losses = []
        for group in batch["group"].unique():
            of = batch["group"] == group
            for source, target in (
                ((cells_a[of], index_a[of]), (cells_b[of], index_b[of])),
                ((cells_b[of], index_b[of]), (cells_a[of], index_a[of])),
            ):
                losses.append(self.contrast(*source, *target))
        return torch.stack(losses).mean()

    def contrast(
        self,
        source: Float[Tensor, "b c n"],
        source_index: Int[Tensor, "b n"],
        target: Float[Tensor, "b c n"],
        target_index: Int[Tensor, "b n"],
    ) -> Float[Tensor, ""]:
        """Every target cell must pick its own individual's mean source cell, or the background."""
        num = int(max(source_index.max(), target_index.max()))
        onehot = F.one_hot(source_index, num + 1)[..., 1:].to(source.dtype)
        prototypes = F.normalize(torch.einsum("bcn,bni->ic", source, onehot), dim=1)
        prototypes = torch.cat([F.normalize(self.background, dim=0)[None], prototypes])
        logits = torch.einsum("bcn,ic->bin", target, prototypes) / self.temperature
        missing = onehot.sum(dim=(0, 1)) == 0
        logits[:, 1:].masked_fill_(missing[:, None], -30.0)
        loss = F.cross_entropy(logits, target_index, reduction="none")
        objects = target_index > 0
        return 0.5 * loss[objects].mean() + 0.5 * loss[~objects].mean()

    def spoken_words(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        logits = self.word_logits(self.model.audio_features(batch["words_audio"])).float()
        loss = F.cross_entropy(logits, batch["words"], reduction="none")
        spoken = batch["words"] > 0
        return 0.7 * loss[spoken].mean() + 0.3 * loss[~spoken].mean()


def nearest_cells(index: Int[Tensor, "b H W"], grid: tuple[int, int]) -> Int[Tensor, "b h w"]:
    """The index at the centre pixel of every cell."""
    rows, columns = index.shape[-2] // grid[0], index.shape[-1] // grid[1]
    return index[:, rows // 2 :: rows, columns // 2 :: columns]
