"""What paper 004 contrasts: soft masks, object-aware alignment, and LVS's contrast beside it.

Axes: `b` clips of the batch, `i` images and `j` clips of all pairs, `n` image cells, `c` channels.
Similarities are cosines. The masks are sigmoids of a cosine far below their thresholds as a rule:
they enter as logarithms, whose softmax over the cells is the same weighted mean, and which stay
exact where the sigmoid itself would be 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def positive_weights(
    similarity: Float[Tensor, "*b n"], threshold: float, width: float
) -> Float[Tensor, "*b n"]:
    """M^p = σ((S − α_p) / ω) (004 eq. 2) as weights whose sum over the cells is 1, in fp32."""
    return torch.softmax(F.logsigmoid((similarity.float() - threshold) / width), dim=-1)


def negative_weights(
    similarity: Float[Tensor, "*b n"], threshold: float, width: float
) -> Float[Tensor, "*b n"]:
    """M^n = 1 − σ((S − α_n) / ω) (004 eq. 2) as weights whose sum over the cells is 1, in fp32."""
    return torch.softmax(F.logsigmoid((threshold - similarity.float()) / width), dim=-1)


def masked_mean(
    cells: Float[Tensor, "b c n"], weights: Float[Tensor, "b n"]
) -> Float[Tensor, "b c"]:
    """GAP(F_v · M) (004 eq. 3) up to its length, which no cosine sees."""
    return torch.einsum("bcn,bn->bc", cells.float(), weights)


def true_negatives(similarity: Float[Tensor, "i j"], threshold: float) -> Bool[Tensor, "i j"]:
    """1[s_ij ≤ τ] of 004 eq. 4, without the diagonal: which other clips may be pushed away."""
    others = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    return (similarity.detach() <= threshold) & others


def foreground_alignment(
    positive: Float[Tensor, "b c"],
    negative: Float[Tensor, "b c"],
    text: Float[Tensor, "b c"],
    valid: Bool[Tensor, "b b"],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """L_frg (004 eq. 4): text i against its own image's sounding part, and not what is left of
    it, nor the sounding part of any image j that `valid[i, j]` allows."""
    own = F.cosine_similarity(positive, text, dim=1)
    hard = F.cosine_similarity(negative, text, dim=1)
    soft = F.normalize(text, dim=1) @ F.normalize(positive, dim=1).T
    soft = soft.masked_fill(~valid, float("-inf"))
    logits = torch.cat([own[:, None], hard[:, None], soft], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=own.device))


def background_alignment(
    positive: Float[Tensor, "b c"],
    negative: Float[Tensor, "b c"],
    text: Float[Tensor, "b c"],
    is_known: Bool[Tensor, " b"],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """L_bkg (004 eq. 5): the caption of the background against what does not sound, and not what
    does. Mean over the clips whose background `is_known`; 0 where none is."""
    logits = torch.stack(
        [
            F.cosine_similarity(negative, text, dim=1),
            F.cosine_similarity(positive, text, dim=1),
        ],
        dim=1,
    )
    target = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    losses = F.cross_entropy(logits / temperature, target, reduction="none")
    return (losses * is_known).sum() / is_known.sum().clamp_min(1)


def localising_contrast(
    similarity: Float[Tensor, "i j n"],
    valid: Bool[Tensor, "i j"],
    *,
    thresholds: tuple[float, float],
    width: float,
    temperature: float,
    is_symmetric: bool = False,
) -> Float[Tensor, ""]:
    """LVS's contrast, which 004's table 3 starts from: no text in it.

    The score of a pair is the mean similarity under its own positive mask. Image i must score
    higher with its own sound than with that of any clip j that `valid[i, j]` allows, and than the
    part that its negative mask leaves. `is_symmetric` adds that sound j must score higher with its
    own image than with any image i: that compares what looks alike for one sound.
    """
    positive = (positive_weights(similarity, thresholds[0], width) * similarity).sum(dim=-1)
    own = similarity.diagonal().T
    hard = (negative_weights(own, thresholds[1], width) * own).sum(dim=-1)
    keep = valid | torch.eye(len(valid), dtype=torch.bool, device=valid.device)
    logits = torch.cat([positive.masked_fill(~keep, float("-inf")), hard[:, None]], dim=1)
    target = torch.arange(len(valid), device=valid.device)
    loss = F.cross_entropy(logits / temperature, target)
    if not is_symmetric:
        return loss
    by_sound = positive.masked_fill(~keep, float("-inf")).T
    return 0.5 * (loss + F.cross_entropy(by_sound / temperature, target))
