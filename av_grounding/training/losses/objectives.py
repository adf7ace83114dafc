"""Contrastive objectives on all-pairs scores, as pure functions with the papers' equations.

Axes: `i` audio clips of the batch, `j` images of the batch, `t` audio tokens, `n` image cells.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def pool_space(volume: Float[Tensor, "*b n"], sharpness: float) -> Float[Tensor, "*b"]:
    """Spatial pooling over cells: the softmax-weighted mean, which hardens into the maximum.

    The papers take max over (h, w) (000 eq. 5). From pretrained backbones that maximum already
    points somewhere; from scratch it does not, so training begins soft. `sharpness` is the
    softmax's inverse temperature; infinity is the paper's maximum.
    """
    if sharpness == float("inf"):
        return volume.amax(dim=-1)
    return (volume * torch.softmax(sharpness * volume, dim=-1)).sum(dim=-1)


def pair_peaks(
    audio: Float[Tensor, "i k c t"], image: Float[Tensor, "j k c n"], sharpness: float
) -> Float[Tensor, "k i j t"]:
    """Spatially pooled similarity of every clip's every token with every image, per head."""
    volume = torch.einsum("ikct,jkcn->kijtn", audio, image)
    return pool_space(volume.float(), sharpness)


def head_max_peaks(
    audio: Float[Tensor, "i k c t"], image: Float[Tensor, "j k c n"], sharpness: float
) -> Float[Tensor, "i j t"]:
    """As `pair_peaks` on S_M, the maximum over heads before the spatial pooling (000 eq. 3, 5)."""
    volume = torch.einsum("ikct,jkcn->kijtn", audio, image).amax(dim=0)
    return pool_space(volume.float(), sharpness)


def global_scores(
    audio: Float[Tensor, "i k c"], image: Float[Tensor, "j k c"]
) -> Float[Tensor, "k i j"]:
    """Inner products of pooled vectors: what the global aggregations of 001 table 4 compare."""
    return torch.einsum("ikc,jkc->kij", audio, image).float()


def masked_time_mean(
    peaks: Float[Tensor, "i j t"], audible: Float[Tensor, "i t"]
) -> Float[Tensor, "i j"]:
    """Mean over the audible part of each clip (001's released code); silence alone gives zero.

    `audible` in [0, 1] weighs the tokens; all ones is the mean of 001 eq. 2.
    """
    return torch.einsum("ijt,it->ij", peaks, audible) / audible.sum(-1).clamp_min(1.0)[:, None]


def pool_time(
    peaks: Float[Tensor, "i j t"],
    evidence: Float[Tensor, "i t"] | None = None,
    floor: float = 0.0,
) -> Float[Tensor, "i j"]:
    """Mean over time (000 eq. 5, 6), or with `evidence` its evidence-weighted form.

    A token's vector already carries its evidence as length, so the weighted mean divides the sum
    by the total evidence. `floor`, in tokens, keeps a clip that shows no evidence near zero.
    """
    if evidence is None:
        return peaks.mean(dim=-1)
    return peaks.sum(dim=-1) / (evidence.sum(dim=-1) + floor)[:, None]


def info_nce(
    scores: Float[Tensor, "i j"], valid: Bool[Tensor, "i j"] | None = None
) -> Float[Tensor, ""]:
    """InfoNCE in both directions (000 eq. 1, applied symmetrically), mean over the batch.

    `scores` are already divided by the temperature; the positive of row i is column i. `valid`
    marks the pairs that may serve as negatives (the diagonal always counts): a pair that would
    be a true match by chance, such as two clips of one class, is left out of the denominator.
    """
    if scores.shape[0] != scores.shape[1]:
        raise ValueError(f"scores are {tuple(scores.shape)}; expected as many clips as images")
    if valid is not None:
        keep = valid | torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(~keep, float("-inf"))
    target = torch.arange(len(scores), device=scores.device)
    return 0.5 * (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target))


def correspondence(
    sound: Float[Tensor, "i j"],
    speech: Float[Tensor, "i j"],
    sound_valid: Bool[Tensor, "i j"] | None = None,
    speech_valid: Bool[Tensor, "i j"] | None = None,
) -> Float[Tensor, ""]:
    """L_cor (000 eq. 7) on s_M / tau of clean sound and clean speech with their own images."""
    return info_nce(sound, sound_valid) + info_nce(speech, speech_valid)


def disentanglement(
    mixture_to_sound_images: Float[Tensor, "i j"],
    mixture_to_speech_images: Float[Tensor, "i j"],
    sound_valid: Bool[Tensor, "i j"] | None = None,
    speech_valid: Bool[Tensor, "i j"] | None = None,
) -> Float[Tensor, ""]:
    """L_dis (000 eq. 9) on s_N / tau and s_N' / tau of the mixtures.

    The sound head's score with the sounds' images, the speech head's with the speeches' images.
    """
    return info_nce(mixture_to_sound_images, sound_valid) + info_nce(
        mixture_to_speech_images, speech_valid
    )


def mixed_info_nce(
    scores: Float[Tensor, "i j"],
    partner: Int[Tensor, " j"],
    share: float,
    valid: Bool[Tensor, "i j"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of clips with mixed pictures, both directions added (003 eq. 5).

    Picture j is `share` of picture j and the rest of picture `partner[j]`, so the clips j and
    partner[j] are its positives, with targets of these shares, both in the denominator: at a
    half each direction is at least ln 2. `valid` marks negatives, as in `info_nce`.
    """
    pictures = torch.arange(len(scores), device=scores.device)
    target = torch.zeros_like(scores)
    target[pictures, pictures] = share
    target[partner, pictures] += 1.0 - share
    if valid is not None:
        # Not infinite: a soft target of 0 times minus infinity is no number.
        scores = scores.masked_fill(~(valid | (target > 0)), -1e4)
    return F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target.T)
