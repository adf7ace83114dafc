"""Measures one trained recipe by the papers' tables, on the benchmarks of the synthetic world.

Structure as in 000: simultaneous (a mixture whose both parts are visible, table 1), clean
(tables 2, 3), mixed with off-screen audio of the other kind (tables 4, 5), and each head asked
about the other kind (table 6). Heatmaps are plain: the time mean of the similarity volume, over
the word's span for speech (000 section 4.3.2), under no calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.evaluation.benchmark import HEADS, GroundingSample
from av_grounding.evaluation.benchmarks.synthetic import SyntheticBenchmark, sample_of
from av_grounding.evaluation.harness import predict_samples
from av_grounding.evaluation.metrics.retrieval import disentanglement, recall_at
from av_grounding.evaluation.prediction import GrounderPredictor, HeadGrids, PairFeatures
from av_grounding.evaluation.scoring.heads import answers, published, score_heads
from av_grounding.evaluation.scoring.rows import GroundingJob, sigmoid, total_of
from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import Bundle
from av_grounding.synthetic.objects import CLASSES
from av_grounding.training.losses import all_pairs, objectives
from av_grounding.training.recipes.contrast import Contrast
from av_grounding.types import ModelSpec

PROTOCOL = "synthetic benchmarks, plain heatmaps, words timed"
"""What results of other versions were not measured by."""
CONDITIONS = ("simultaneous", "clean", "mixed")
CELL_STRIDE, TOKEN_POOL = 2, 2  # of the retrieval scores, whose volume is over all pairs


@torch.no_grad()
def measure(
    recipe: Contrast,
    spec: ModelSpec,
    num: int,
    progress: Callable[[int, int], None],
    seed: int = 0,
) -> dict[str, Any]:
    """All numbers of one run on `num` test scenes, in [0, 1]. `spec` is of the recipe's model."""
    backend = TorchBackend(Bundle(recipe.model.cpu().eval(), spec, "recipe"))
    predictor = GrounderPredictor(Grounder(backend), word_margin_s=0.0)
    report: dict[str, Any] = {"segmentation": {}, "retrieval": {"chance": {}}}
    own_scores = []
    for condition in CONDITIONS:
        is_paired = condition != "simultaneous"
        benchmark = SyntheticBenchmark(
            f"synthetic-{condition}", num=2 * num if is_paired else num, seed=seed
        )
        jobs: list[GroundingJob] = []
        features: dict[str, list[PairFeatures]] = {head: [] for head in HEADS}
        shown: dict[str, list[list[bool]]] = {head: [] for head in HEADS}
        for job in predict_samples(benchmark, predictor, [], None, progress):
            jobs.append(job)
            if is_paired:
                assert isinstance(job.sample, GroundingSample)
                assert job.sample.load_clip is not None
                head, clip = job.sample.targets[0].head, job.sample.load_clip()
                features[head].append(predictor.features(job.sample.load_image(), clip))
                scene = sample_of(benchmark.key, (len(jobs) - 1) // 2)
                present = {one["class"] for one in scene.objects}
                shown[head].append([name in present for name in CLASSES])
        report["segmentation"][condition] = segment(jobs)
        if not is_paired:
            continue
        of_kind = report["retrieval"][condition] = {}
        for kind, own in features.items():
            heard = [job.sample.targets[0] for job in jobs]
            heard = [CLASSES.index(one.class_name) for one in heard if one.head == kind]
            partners = np.array(shown[kind])[:, heard]  # image i shows clip j's class
            by_head = pair_scores(recipe, own, jobs[0].grids.merged(kind).shape)
            of_kind[kind] = retrieve(recipe.model.heads.index(kind), by_head, partners)
            report["retrieval"]["chance"][kind] = float(partners.mean())
            if condition == "clean":
                order = [recipe.model.heads.index(head) for head in HEADS]
                own_scores.append(np.stack([np.diagonal(by_head[k]) for k in order], axis=1))
    found = disentanglement(np.concatenate(own_scores), np.repeat([False, True], num))
    return {**report, "pred_dis": found.pred_dis, "act_dis": found.act_dis}


def segment(jobs: Sequence[GroundingJob]) -> dict[str, dict[str, dict[str, float]]]:
    """mAP and mIoU of each kind's own head, and of the maximum over heads (total)."""

    def total(grids: HeadGrids, head: str) -> Float32[np.ndarray, "h w"]:
        return sigmoid(total_of(grids))

    result: dict[str, dict[str, dict[str, float]]] = {head: {} for head in HEADS}
    for name, read in (("own", published), ("total", total)):
        for head in HEADS:
            asked = answers(jobs, (head,), timed=head == "speech", read=read)
            scores = score_heads(list(asked))[0][head]
            result[head][name] = {key: scores[key] for key in ("mAP", "miou")}
    return result


def pair_scores(
    recipe: Contrast, features: Sequence[PairFeatures], grid: tuple[int, int]
) -> list[np.ndarray]:
    """Per head, the score of every image (rows) with every clip, by the recipe's aggregation."""
    images = torch.from_numpy(np.stack([one.image for one in features])).unflatten(3, grid)
    cells = images[..., ::CELL_STRIDE, ::CELL_STRIDE].flatten(3)
    tokens = torch.from_numpy(np.stack([one.tokens for one in features])).transpose(2, 3)
    tokens = torch.nn.functional.avg_pool2d(tokens, (1, TOKEN_POOL))
    if recipe.pooling is not None:
        return [one.T.numpy() for one in objectives.global_scores(*recipe.pooling(tokens, cells))]
    return [
        all_pairs.head_peaks(tokens, cells, head).mean(dim=2).T.numpy()
        for head in range(tokens.shape[1])
    ]


def retrieve(
    own: int, by_head: list[np.ndarray], partners: Bool[np.ndarray, "n n"]
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
