"""Things by their prototypes: a token of sound becomes a posterior over the vocabulary."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.aligners import ChannelLayerNorm


class PrototypeAligner(nn.Module):
    """Features (b, dim_in, t) to tokens (b, v, t): P(thing | token) times an evidence in (0, 1).

    The posterior is a softmax over cosines between the token's embedding and one prototype a
    thing, `scale` times. So another thing is one more prototype, the mean of a few examples'
    embeddings (see `add`), and nothing is trained for it. The evidence says whether any thing is
    named or heard here; tokens without any are near zero.
    """

    stride = 1

    def __init__(
        self, dim_in: int, num_things: int, dim: int = 128, scale: float = 16.0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.scale = scale
        self.norm = ChannelLayerNorm(dim_in, eps=eps)
        self.project = nn.Conv1d(dim_in, dim, 1)
        self.evidence = nn.Conv1d(dim_in, 1, 1)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(num_things, dim), dim=1))

    def embed(self, x: Float[Tensor, "b d t"]) -> Float[Tensor, "b e t"]:
        """Unit vectors whose inner products with prototypes are compared."""
        return F.normalize(self.project(self.norm(x)).float(), dim=1)

    def logits(self, x: Float[Tensor, "b d t"]) -> Float[Tensor, "b v t"]:
        """Of the posterior."""
        prototypes = F.normalize(self.prototypes.float(), dim=1)
        return self.scale * torch.einsum("bet,ve->bvt", self.embed(x), prototypes)

    def evidence_logits(self, x: Float[Tensor, "b d t"]) -> Float[Tensor, "b t"]:
        return self.evidence(self.norm(x)).float()[:, 0]

    def forward(self, x: Float[Tensor, "b d t"]) -> Float[Tensor, "b v t"]:
        evidence = torch.sigmoid(self.evidence_logits(x))
        return self.logits(x).softmax(dim=1) * evidence[:, None]

    @torch.no_grad()
    def add(self, embeddings: Float[Tensor, "n e"]) -> None:
        """One more thing, behind the others: its prototype is the mean of these unit vectors."""
        mean = F.normalize(embeddings.to(self.prototypes).mean(dim=0, keepdim=True), dim=1)
        self.prototypes = nn.Parameter(torch.cat([self.prototypes, mean]))
