"""The evaluation loop: every sample is predicted once and scored under every protocol.

The model runs here, one sample at a time; scoring runs in worker processes and takes no part in
the prediction. Rows come back in the benchmark's order, so results have the same bits for any
number of workers. What cannot be scored is listed with its reason and enters no mean.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from av_grounding.evaluation.benchmark import (
    AudioClip,
    Benchmark,
    BenchmarkInfo,
    GroundingSample,
    Sample,
    SampleProblem,
    SemanticSample,
)
from av_grounding.evaluation.noise import NoiseBank
from av_grounding.evaluation.prediction import HeadGrids, Predictor
from av_grounding.evaluation.protocols import Protocol
from av_grounding.evaluation.scoring import localisation, prompted, video
from av_grounding.evaluation.scoring.rows import (
    GroundingJob,
    Scored,
    UnreadableSample,
    loaded,
)

Progress = Callable[[int, int], None]
POLICY = {
    "missing_file": "left out when the benchmark is opened, or when the file turns out missing",
    "unreadable_file": "left out",
    "malformed_box": "the box is left out of the truth; the sample stays with its other boxes",
    "malformed_row": "left out when the benchmark is opened",
    "empty_ground_truth": "left out, since overlap with nothing is undefined",
    "prediction_not_finite": "left out; a model with any is not to be compared",
}
MIN_SAMPLES_FOR_WORKERS = 64
CHUNK = 8
MAX_CHUNKS_WAITING = 32
_SCORERS: dict[str, Callable[[GroundingJob, Sequence[Protocol]], Scored]] = {
    **dict.fromkeys(("prompted", "simultaneous"), prompted.score),
    **dict.fromkeys(
        ("localisation", "extended", "interactive", "multi_source"), localisation.score
    ),
    "segmentation": video.score_mask,
    "semantic": video.score_classes,
}


@dataclass
class Evaluation:
    """A model's answers to a benchmark, scored: what every summary and picture is made from."""

    info: BenchmarkInfo
    protocols: tuple[Protocol, ...]
    num_samples: int
    problems: list[SampleProblem]
    rows: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Protocol -> row of the table -> metric -> value."""
    extras: dict[str, Any] = field(default_factory=dict)
    """Curves, classes and size bins that the report shows beside the tables."""
    jobs: dict[str, GroundingJob] = field(default_factory=dict)
    """Sample id -> answer, for pictures."""


def default_num_workers(num_samples: int) -> int:
    """One per core that this process may use, and none for a handful of samples."""
    if num_samples < MIN_SAMPLES_FOR_WORKERS:
        return 0
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def score_samples(
    jobs: Iterable[GroundingJob], task: str, protocols: Sequence[Protocol], num_workers: int
) -> Iterator[Scored]:
    """Score jobs in their order; `num_workers` 0 does it in this process."""
    score = partial(_score_chunk, task, tuple(protocols))
    with _workers(num_workers) as executor:
        yield from _in_order(executor, score, _chunks(jobs, CHUNK))


def _score_chunk(
    task: str, protocols: tuple[Protocol, ...], jobs: Sequence[GroundingJob]
) -> list[Scored]:
    return [_score_one(_SCORERS[task], job, protocols) for job in jobs]


def _score_one(
    scorer: Callable[..., Scored], job: GroundingJob, protocols: Sequence[Protocol]
) -> Scored:
    try:
        return scorer(job, protocols)
    except UnreadableSample as error:
        return Scored(None, problem=error.problem)


@contextmanager
def _workers(num: int) -> Iterator[Executor | None]:
    if num == 0:
        yield None
        return
    # Spawned: a fork would copy the model and the locks of its threads.
    executor = ProcessPoolExecutor(num, multiprocessing.get_context("spawn"))
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def map_in_workers(function: Callable[[Any], Any], items: Iterable[Any], num: int) -> list[Any]:
    """`[function(item) for item in items]`, spread over processes."""
    with _workers(num) as executor:
        return list(_in_order(executor, partial(_map_chunk, function), _chunks(items, 1)))


def _map_chunk(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    return [function(item) for item in items]


def _in_order(
    executor: Executor | None,
    score: Callable[[list[Any]], list[Any]],
    chunks: Iterable[list[Any]],
) -> Iterator[Any]:
    if executor is None:
        for chunk in chunks:
            yield from score(chunk)
        return
    waiting: deque[Future] = deque()
    for chunk in chunks:
        waiting.append(executor.submit(score, chunk))
        # Answers that pile up cost memory, and the model must not run away from the scoring.
        while len(waiting) > MAX_CHUNKS_WAITING or (waiting and waiting[0].done()):
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def predict_samples(
    benchmark: Benchmark,
    predictor: Predictor,
    problems: list[SampleProblem],
    noise: NoiseBank | None = None,
    progress: Progress | None = None,
    *,
    times_words: bool = True,
) -> Iterator[GroundingJob]:
    """Ask the model for every sample's maps; samples that give none are added to `problems`.

    With `times_words` prompted samples are asked for twice: without their word's timing, and with.
    """
    total = len(benchmark)
    for index in range(total):
        sample = benchmark[index]
        try:
            job = _predict(benchmark, sample, predictor, noise, times_words)
        except UnreadableSample as error:
            problems.append(error.problem)
        else:
            bad = [head for head, grid in _all_grids(job) if not np.isfinite(grid).all()]
            if bad:
                detail = f"NaN or infinity in the map of {', '.join(sorted(set(bad)))}"
                problems.append(SampleProblem("prediction_not_finite", sample.id, detail))
            else:
                yield job
        if progress is not None:
            progress(index + 1, total)


def clip_of(
    sample: GroundingSample | SemanticSample | Any, noise: NoiseBank | None
) -> AudioClip | None:
    """What the model hears: the sample's clip, with noise where it was asked for."""
    if sample.load_clip is None:
        return None
    clip = loaded(sample.load_clip, sample.id)
    return noise.add(clip, sample.id) if noise else clip


def _predict(
    benchmark: Benchmark,
    sample: Sample,
    predictor: Predictor,
    noise: NoiseBank | None,
    times_words: bool,
) -> GroundingJob:
    assert isinstance(sample, GroundingSample | SemanticSample)
    image = loaded(sample.load_image, sample.id)
    clip = clip_of(sample, noise)
    if isinstance(sample, SemanticSample):
        return GroundingJob(
            sample,
            _classify(benchmark, predictor, image, clip),
            num_classes=len(benchmark.info.class_names),
        )
    # Only for models that tell sources apart, under a protocol of a known number of them.
    told = {}
    if getattr(predictor, "is_told_sources", False):
        told["num_sources"] = len(sample.targets)
    grids = predictor.ground(image, clip, None, sample.frame_s, **told)
    spans = [target.word_span_s for target in sample.targets if target.word_span_s is not None]
    timed = None
    if times_words and spans and benchmark.info.task in ("prompted", "simultaneous"):
        timed = predictor.ground(image, clip, spans[0], None)
    return GroundingJob(sample, grids, timed)


def _classify(
    benchmark: Benchmark, predictor: Predictor, image: np.ndarray, clip: AudioClip | None
) -> HeadGrids:
    classify, load_prompt = getattr(predictor, "classify", None), benchmark.load_prompt
    if classify is None or load_prompt is None:
        what = "the model tells no classes" if classify is None else "there are no class prompts"
        raise ValueError(
            f"{benchmark.info.name}: {what}, expected a model that answers for each class name "
            "and a benchmark that speaks them"
        )
    prompts = {name: partial(load_prompt, name) for name in benchmark.info.class_names[1:]}
    return classify(image, clip, prompts)


def _all_grids(job: GroundingJob) -> list[tuple[str, np.ndarray]]:
    timed = list(job.timed.logits.items()) if job.timed else []
    return [*job.grids.logits.items(), *timed]
