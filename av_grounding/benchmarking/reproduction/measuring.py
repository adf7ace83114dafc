"""Measures one trained recipe by the papers' tables, on samples of the synthetic test split.

Structure as in 000: simultaneous (a mixture whose both parts are visible, table 1), clean
(tables 2, 3), mixed with off-screen audio of the other kind (tables 4, 5), and each head asked
about the other kind (table 6). Grounding are plain: the time mean of the similarity volume, over
the word's span for speech (000 section 4.3.2), without gates or calibration.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from av_grounding.evaluation import metrics
from av_grounding.evaluation.metrics.retrieval import disentanglement, recall_at
from av_grounding.image import ResizeTransform, resize_heatmap
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.synthetic.acoustics import mix
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.samples import SyntheticSamples
from av_grounding.training.losses import all_pairs, objectives
from av_grounding.training.recipes.contrast import Contrast

KINDS = ("sound", "speech")
# What a head hears in each condition.
TRACKS = {
    "simultaneous": {"sound": "mixture", "speech": "mixture"},
    "clean": {"sound": "sound", "speech": "speech"},
    "mixed": {"sound": "mixed_sound", "speech": "mixed_speech"},
}
BATCH = 25
CELL_STRIDE, TOKEN_POOL = 2, 2  # of the retrieval scores, whose volume is over all pairs
Progress = Callable[[int, int], None]


def draw_samples(path: Path, num: int, progress: Progress, seed: int = 0) -> dict[str, np.ndarray]:
    """`num` test samples as arrays, drawn once for all runs and kept in `path` (.npz)."""
    if path.exists():
        with np.load(path) as stored:
            if len(stored["image"]) == num:
                return dict(stored)
    samples = SyntheticSamples("test", seed)
    columns: dict[str, list[Any]] = {}
    for index in range(num):
        sample, absent = samples[index], samples.absent(index)
        shown = {one["class"] for one in sample.objects}
        row = {
            "image": sample.image,
            "mask_sound": sample.mask_sound,
            "mask_speech": sample.mask_speech,
            "sound": sample.sound,
            "speech": sample.speech,
            "mixture": sample.mixture,
            "mixed_sound": mix(sample.sound, absent["speech"], 0.0).mixture,
            "mixed_speech": mix(absent["sound"], sample.speech, 0.0).mixture,
            "sound_class": CLASSES.index(sample.sound_class),
            "speech_class": CLASSES.index(sample.speech_class),
            "word_span_s": sample.word_span_s,
            "present": [name in shown for name in CLASSES],
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
        progress(index + 1, num)
    drawn = {name: np.stack([np.asarray(v) for v in rows]) for name, rows in columns.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, **drawn)
    os.replace(partial, path)
    return drawn


@torch.no_grad()
def measure(
    recipe: Contrast, samples: dict[str, np.ndarray], short_side_px: int
) -> dict[str, Any]:
    """All numbers of one run, in [0, 1]."""
    model = recipe.model.cpu().eval()
    images = encode_images(model, samples["image"], short_side_px)
    names = sorted({track for of_kind in TRACKS.values() for track in of_kind.values()})
    tokens = {name: encode_clips(model, samples[name]) for name in names}
    token_samples = model.audio_backbone.token_samples * model.audio_aligner.stride
    token_s = token_samples / model.config.sample_rate_hz
    spans = word_weights(samples["word_span_s"], tokens["speech"].shape[3], token_s)
    report: dict[str, Any] = {"segmentation": {}, "retrieval": {}}
    for condition, of_kind in TRACKS.items():
        report["segmentation"][condition] = {
            kind: segment(kind, model.heads.index(kind), tokens[track], images, spans, samples)
            for kind, track in of_kind.items()
        }
    chance = {}
    for kind in KINDS:
        partners = samples["present"][:, samples[f"{kind}_class"]]  # image i shows clip j's class
        chance[kind] = float(partners.mean())
        for condition in ("clean", "mixed"):
            by_head = pair_scores(recipe, tokens[TRACKS[condition][kind]], images)
            report["retrieval"].setdefault(condition, {})[kind] = retrieve(
                model.heads.index(kind), by_head, partners
            )
            if condition == "clean":
                own = np.stack([np.diagonal(scores) for scores in by_head], axis=1)
                report.setdefault("own_pairs", {})[kind] = own
    report["retrieval"]["chance"] = chance
    own = report.pop("own_pairs")
    order = [model.heads.index(kind) for kind in KINDS]
    scores = np.concatenate([own[kind][:, order] for kind in KINDS])
    is_speech = np.repeat([False, True], [len(own["sound"]), len(own["speech"])])
    found = disentanglement(scores, is_speech)
    return {**report, "pred_dis": found.pred_dis, "act_dis": found.act_dis}


def encode_images(
    model: DualEncoder, images: np.ndarray, short_side_px: int
) -> Float[Tensor, "n k c h w"]:
    placement = ResizeTransform.fit(*images.shape[1:3], short_side_px, model.patch_px)
    placed = np.stack([placement.apply(image) for image in images])
    pixels = torch.from_numpy(placed).permute(0, 3, 1, 2)
    return torch.cat([model.encode_image(part.float() / 255.0) for part in pixels.split(BATCH)])


def encode_clips(model: DualEncoder, clips: np.ndarray) -> Float[Tensor, "n k c t"]:
    parts = torch.from_numpy(clips).float().split(BATCH)
    return torch.cat([model.encode_audio(part) for part in parts]).float()


def word_weights(
    spans_s: Float[np.ndarray, "n 2"], num_tokens: int, token_s: float
) -> Float[Tensor, "n t"]:
    """1 for tokens whose middle lies in the word; the nearest token for a shorter word."""
    centres = (np.arange(num_tokens) + 0.5) * token_s
    inside = (centres >= spans_s[:, :1]) & (centres <= spans_s[:, 1:])
    nearest = np.abs(centres - spans_s.mean(axis=1, keepdims=True)).argmin(axis=1)
    inside[np.arange(len(inside)), nearest] = True
    return torch.from_numpy(inside).float()


def segment(
    kind: str,
    head: int,
    tokens: Float[Tensor, "n k c t"],
    images: Float[Tensor, "n k c h w"],
    spans: Float[Tensor, "n t"],
    samples: dict[str, np.ndarray],
) -> dict[str, dict[str, float]]:
    """mAP and mIoU of the kind's own head, and of the maximum over heads (total)."""
    weight = spans if kind == "speech" else torch.ones_like(spans)
    masks = list(samples[f"mask_{kind}"])
    classes = [CLASSES[index] for index in samples[f"{kind}_class"]]
    maps: dict[str, list[np.ndarray]] = {"own": [], "total": []}
    for one, mask in enumerate(masks):
        heard = weight[one] > 0
        volume = torch.einsum("kct,kchw->kthw", tokens[one][:, :, heard], images[one].float())
        for name, grid in (("own", volume[head].mean(0)), ("total", volume.amax(0).mean(0))):
            maps[name].append(resize_heatmap(grid.numpy(), *mask.shape))
    return {
        name: {
            "map": metrics.pooled_average_precision(grids, masks, classes).mean,
            "miou": metrics.mean_iou(grids, masks, classes).mean,
        }
        for name, grids in maps.items()
    }


def pair_scores(
    recipe: Contrast, tokens: Float[Tensor, "n k c t"], images: Float[Tensor, "n k c h w"]
) -> list[np.ndarray]:
    """Per head, the score of every image (rows) with every clip, by the recipe's aggregation."""
    cells = images[..., ::CELL_STRIDE, ::CELL_STRIDE].flatten(3).float()
    tokens = torch.nn.functional.avg_pool2d(tokens, (1, TOKEN_POOL))
    if recipe.pooling is not None:
        return [one.T.numpy() for one in objectives.global_scores(*recipe.pooling(tokens, cells))]
    return [
        all_pairs.head_peaks(tokens, cells, head).mean(dim=2).T.numpy()
        for head in range(tokens.shape[1])
    ]


def retrieve(
    own: int, by_head: list[np.ndarray], partners: np.ndarray
) -> dict[str, dict[str, float]]:
    """R@1 of the head `own`, of the opposite one, and of the sum over heads (000 eq. 12).

    An answer is right if the image shows the clip's class: with few classes, one partner among
    many equal ones could not be told by anybody.
    """
    matrices = {"own": by_head[own], "opposite": by_head[1 - own], "total": sum(by_head)}
    return {
        name: {
            "i2a": recall_at(matrix, 1, partners=partners),
            "a2i": recall_at(matrix.T, 1, partners=partners.T),
        }
        for name, matrix in matrices.items()
    }
