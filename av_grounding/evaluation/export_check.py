"""What an exported bundle is judged by: samples of either world, and mAP on drawn ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32

from av_grounding.audio import resample
from av_grounding.backends.parity import Examples
from av_grounding.evaluation.benchmark import (
    HEADS,
    AudioClip,
    BenchmarkInfo,
    GroundingSample,
    ListBenchmark,
)
from av_grounding.evaluation.benchmarks.synthetic_kinds import target_of
from av_grounding.evaluation.harness import predict_samples
from av_grounding.evaluation.prediction import GrounderPredictor
from av_grounding.evaluation.scoring.heads import answers, score_heads
from av_grounding.everyday.samples import EverydaySamples
from av_grounding.grounder import Grounder
from av_grounding.image import ResizeTransform
from av_grounding.synthetic.samples import CLIP_S, Sample, SyntheticSamples
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.types import Backend, ModelSpec


def draw_samples(
    split: str, seed: int, num: int, spec: ModelSpec, image_sizes: Sequence[tuple[int, int]]
) -> list[Sample]:
    """Samples whose images have the model's own sizes (H, W), each in turn.

    Their clips fill a window at least.
    """
    clip_s = max(spec.window_s, CLIP_S)
    worlds = [SyntheticSamples(split, seed, image_px=size, clip_s=clip_s) for size in image_sizes]
    return [worlds[index % len(worlds)][index] for index in range(num)]


def examples_of(samples: Sequence[Sample], spec: ModelSpec) -> Examples:
    """Each sample's image, and the last window of its mixture at the model's rate."""
    return Examples(
        [sample.image for sample in samples],
        [_last_window(sample.mixture, spec) for sample in samples],
    )


def _last_window(mixture: Float32[np.ndarray, " s"], spec: ModelSpec) -> Float32[np.ndarray, " n"]:
    """At the model's rate; a window that is longer than the clip hears it again."""
    heard = resample(mixture, SAMPLE_RATE_HZ, spec.sample_rate_hz)
    return np.resize(heard, max(heard.size, spec.num_window_samples))[-spec.num_window_samples :]


def everyday_examples(
    spec: ModelSpec, image_size: tuple[int, int], num: int, seed: int, first: int = 0
) -> Examples:
    """Photographic scenes of the validation part in this size (H, W), each with its mixture.

    `first` is the number of the first sample. Raises FileNotFoundError with the line that installs
    what they are made of.
    """
    samples = EverydaySamples("validation", seed)
    height, width = samples.image_px
    to_size = ResizeTransform(height, width, *image_size)
    images, windows = [], []
    for number in range(first, first + num):
        sample = samples[number]
        images.append(to_size.apply(sample.image))
        windows.append(_last_window(sample.mixture, spec))
    return Examples(images, windows)


def synthetic_map(
    backend: Backend, samples: Sequence[Sample], advance: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """mAP in [0, 1] per head, as the row `mixture` of `evaluate synthetic` defines it.

    `advance` is called after each sample. Heads that the backend does not have are left out.
    """
    heads = [head for head in HEADS if head in backend.spec.head_names]
    info = BenchmarkInfo(
        name="export", task="simultaneous", heads=HEADS, citation="", num_expected=len(samples)
    )
    mixtures = ListBenchmark(info, tuple(_mixture(i, one) for i, one in enumerate(samples)))
    jobs = predict_samples(
        mixtures, GrounderPredictor(Grounder(backend)), [], None, lambda *_: advance(),
        times_words=False,
    )  # fmt: skip
    scores, _ = score_heads(list(answers(jobs, heads)))
    return {head: scores[head]["mAP"] for head in heads}


def _mixture(number: int, sample: Sample) -> GroundingSample:
    return GroundingSample(
        id=str(number),
        load_image=lambda: sample.image,
        load_clip=lambda: AudioClip(sample.mixture, SAMPLE_RATE_HZ),
        targets=tuple(target_of(sample, head) for head in HEADS),
    )
