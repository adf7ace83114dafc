"""`evaluate_benchmark`: one model, one benchmark, any number of its protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from av_grounding.evaluation.benchmark import (
    HEADS,
    Benchmark,
    PairSample,
    SampleProblem,
    SeparationSample,
)
from av_grounding.evaluation.harness import (
    Evaluation,
    Progress,
    clip_of,
    default_num_workers,
    map_in_workers,
    predict_samples,
    score_samples,
)
from av_grounding.evaluation.noise import NoiseBank
from av_grounding.evaluation.prediction import PairFeatures, Predictor
from av_grounding.evaluation.protocols import Protocol, find_protocol
from av_grounding.evaluation.scoring import (
    localisation_summary,
    pairs,
    prompted,
    separating,
    video,
)
from av_grounding.evaluation.scoring.pooled import score_pool, set_average_precision
from av_grounding.evaluation.scoring.rows import (
    DEGENERATE,
    MODEL,
    Scored,
    UnreadableSample,
    loaded,
)


def evaluate_benchmark(
    benchmark: Benchmark,
    predictor: Predictor,
    protocols: Sequence[Protocol] = (),
    *,
    num_workers: int | None = None,
    noise: NoiseBank | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Predict every sample, score it under every protocol (the task's default for none).

    `progress` is called with the number of samples predicted and their total. Raises ValueError
    where no sample can be scored, or the model lacks what the task asks for.
    """
    info = benchmark.info
    chosen = tuple(protocols) or (find_protocol(None, info.task),)
    for protocol in chosen:
        find_protocol(protocol.name, info.task)
    heads = predictor.describe().get("heads", HEADS)
    if missing := [head for head in info.heads if head not in heads]:
        raise ValueError(
            f"{info.name} asks for {' and '.join(missing)}, this model has {', '.join(heads)}: "
            "take another benchmark, or a model with that head"
        )
    result = Evaluation(info, chosen, len(benchmark), list(benchmark.problems))
    if num_workers is None:
        num_workers = default_num_workers(len(benchmark))
    if info.task in ("retrieval", "disentanglement", "recognition"):
        _evaluate_pairs(result, benchmark, predictor, noise, progress)
    elif info.task == "separation":
        _evaluate_separation(result, benchmark, predictor, progress)
    else:
        _evaluate_maps(result, benchmark, predictor, num_workers, noise, progress)
    return result


def _evaluate_maps(
    result: Evaluation,
    benchmark: Benchmark,
    predictor: Predictor,
    num_workers: int,
    noise: NoiseBank | None,
    progress: Progress | None,
) -> None:
    task = result.info.task
    asked: list[Any] = []

    def jobs() -> Any:
        for job in predict_samples(benchmark, predictor, result.problems, noise, progress):
            asked.append(job)
            yield job

    scored: list[Scored] = []
    for number, one in enumerate(score_samples(jobs(), task, result.protocols, num_workers)):
        if one.problem is not None:
            result.problems.append(one.problem)
        else:
            scored.append(one)
            result.jobs[asked[number].sample.id] = asked[number]
    # A list that grew in the order of two loops would depend on their race.
    first = len(benchmark.problems)
    result.problems[first:] = sorted(
        result.problems[first:], key=lambda one: (one.kind, one.sample_id, one.detail)
    )
    result.rows = [one.row for one in scored if one.row is not None]
    if not result.rows:
        raise ValueError(_nothing_scored(result))
    if task in ("prompted", "simultaneous"):
        _summarise_prompted(result, scored, num_workers)
    elif task == "segmentation":
        for protocol in result.protocols:
            result.tables[protocol.name] = video.summarise_masks(scored, protocol)
    elif task == "semantic":
        names = result.info.class_names
        for protocol in result.protocols:
            table, per_class = video.summarise_classes(scored, protocol, names)
            result.tables[protocol.name] = table
            result.extras.setdefault("per_class", {})[protocol.name] = {
                name: {"iou": iou} for name, iou in per_class.items()
            }
    else:
        _summarise_localisation(result, scored)


def _summarise_localisation(result: Evaluation, scored: Sequence[Scored]) -> None:
    curves = [one.arrays["precision"] for one in scored if one.arrays]
    result.extras["precision_recall"] = {
        " and ".join(result.info.heads): np.mean(curves, axis=0).tolist()
    }
    for protocol in result.protocols:
        name = protocol.name
        table = localisation_summary.summarise(result.rows, protocol, result.info.task)
        if protocol.average_precision == "pooled":
            grids, masks = _of_sources(result, scored)
            for row in (MODEL, *DEGENERATE):
                table[row]["piap"] = set_average_precision(
                    grids, masks, row if row in DEGENERATE else ""
                )
        result.tables[name] = table
        result.extras.setdefault("success_curves", {})[name] = localisation_summary.success_curves(
            result.rows, protocol
        )
        result.extras.setdefault("size_bins", {})[name] = localisation_summary.size_bins(
            result.rows, protocol
        )


def _of_sources(result: Evaluation, scored: Sequence[Scored]) -> tuple[list, list]:
    """One map and one mask for each source of each sounding sample, maps by their class."""
    grids, masks = [], []
    for one in scored:
        assert one.row is not None
        job = result.jobs[one.row["id"]]
        for j, mask in enumerate(one.masks):
            head = job.sample.targets[j].head
            grid = job.grids.merged(head)
            if job.grids.is_by_target and len(maps := job.grids.logits[head]) > 1:
                if j >= len(maps):
                    continue
                grid = maps[j]
            grids.append(grid)
            masks.append(mask)
    return grids, masks


def _summarise_prompted(result: Evaluation, scored: Sequence[Scored], num_workers: int) -> None:
    jobs = [result.jobs[row["id"]] for row in result.rows]
    keyed = list(prompted.pools(result.rows, jobs, [one.masks for one in scored]))
    pooled = dict(
        zip(
            (key for key, _ in keyed),
            map_in_workers(score_pool, (pool for _, pool in keyed), num_workers),
            strict=True,
        )
    )
    for protocol in result.protocols:
        result.tables[protocol.name] = prompted.summarise(result.rows, pooled, protocol)
    per_class: dict[str, dict[str, float]] = {}
    curves: dict[str, list[list[float]]] = {}
    for (row, head, name), scores in pooled.items():
        if row == MODEL:
            own = per_class.setdefault(name, {})
            own[f"{head}_ap"], own[f"{head}_iou"] = scores["ap"], scores["iou_oracle"]
            curves.setdefault(head, []).append(scores["precision"])
    result.extras["size_bins"] = {
        protocol.name: prompted.size_bins(result.rows) for protocol in result.protocols
    }
    result.extras["per_class"] = {
        protocol.name: dict(sorted(per_class.items())) for protocol in result.protocols
    }
    result.extras["precision_recall"] = {
        head: np.mean(lists, axis=0).tolist() for head, lists in curves.items()
    }


def _evaluate_pairs(
    result: Evaluation,
    benchmark: Benchmark,
    predictor: Predictor,
    noise: NoiseBank | None,
    progress: Progress | None,
) -> None:
    features_of = getattr(predictor, "features", None)
    if features_of is None:
        raise ValueError(
            f"{result.info.name}: the model gives maps alone, expected one with features of "
            "images and clips"
        )
    features: list[PairFeatures] = []
    samples: list[PairSample] = []
    total = len(benchmark)
    for index in range(total):
        sample = benchmark[index]
        assert isinstance(sample, PairSample)
        try:
            clip = clip_of(sample, noise)
            assert clip is not None
            one = features_of(loaded(sample.load_image, sample.id), clip)
        except UnreadableSample as error:
            result.problems.append(error.problem)
        else:
            if np.isfinite(one.image).all() and np.isfinite(one.tokens).all():
                features.append(one)
                samples.append(sample)
            else:
                detail = "NaN or infinity in a feature"
                result.problems.append(SampleProblem("prediction_not_finite", sample.id, detail))
        if progress is not None:
            progress(index + 1, total)
    if not samples:
        raise ValueError(_nothing_scored(result))
    heads = tuple(predictor.describe().get("heads", HEADS[: features[0].image.shape[0]]))
    scores = pairs.similarity_matrices(features)
    result.rows = pairs.sample_rows(scores, samples)
    (protocol,) = result.protocols
    if result.info.task == "retrieval":
        table = pairs.retrieval_rows(scores, heads, samples)
    elif result.info.task == "recognition":
        table = pairs.recognition_rows(features, samples, heads)
    else:
        own = np.stack([np.diagonal(matrix) for matrix in scores], axis=1)
        table = pairs.disentanglement_rows(own, samples, heads)
    result.tables[protocol.name] = table


def _evaluate_separation(
    result: Evaluation, benchmark: Benchmark, predictor: Predictor, progress: Progress | None
) -> None:
    """Without a separator in the model the two references stand alone, and the report says so."""
    separate = getattr(predictor, "separate", None)
    total = len(benchmark)
    for index in range(total):
        sample = benchmark[index]
        assert isinstance(sample, SeparationSample)
        try:
            separated = None
            if separate is not None:
                images = [loaded(source.load_image, sample.id) for source in sample.sources]
                told: list[list[np.ndarray]] = []
                if all(source.load_mask for source in sample.sources):
                    told = [[loaded(s.load_mask, sample.id) for s in sample.sources]]
                separated = separate(images, loaded(sample.load_mixture, sample.id), *told)
            if separated is not None and not np.isfinite(separated).all():
                problem = SampleProblem("prediction_not_finite", sample.id, "NaN in an estimate")
                one = Scored(None, problem=problem)
            else:
                one = separating.score(sample, separated)
        except UnreadableSample as error:
            one = Scored(None, problem=error.problem)
        if one.row is not None:
            result.rows.append(one.row)
        if one.problem is not None:
            result.problems.append(one.problem)
        if progress is not None:
            progress(index + 1, total)
    if not result.rows:
        raise ValueError(_nothing_scored(result))
    result.extras["note"] = separating.told(result.rows, separate is not None)
    (protocol,) = result.protocols
    result.tables[protocol.name] = separating.summarise(result.rows)


def _nothing_scored(result: Evaluation) -> str:
    first = result.problems[0] if result.problems else None
    why = f"; the first problem: {first.kind}, {first.detail}" if first else ""
    return f"{result.info.name}: none of {result.num_samples} samples could be scored{why}"
