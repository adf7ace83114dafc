"""What an exported bundle is judged by: samples of the synthetic world, and mAP on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from av_grounding.backends.parity import Examples
from av_grounding.evaluation.synthetic import HEADS, score
from av_grounding.grounder import Grounder
from av_grounding.synthetic.samples import CLIP_S, Sample, SyntheticSamples
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.types import Backend, ModelSpec


def draw_samples(
    split: str, seed: int, num: int, spec: ModelSpec, image_sizes: Sequence[tuple[int, int]]
) -> list[Sample]:
    """Samples whose images have the model's own sizes (H, W), each in turn.

    Their clips fill a window at least.
    """
    if spec.sample_rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(
            f"the model hears {spec.sample_rate_hz} Hz; expected {SAMPLE_RATE_HZ}, the rate of "
            "the synthetic world that an export is judged by"
        )
    clip_s = max(spec.window_s, CLIP_S)
    worlds = [SyntheticSamples(split, seed, image_px=size, clip_s=clip_s) for size in image_sizes]
    return [worlds[index % len(worlds)][index] for index in range(num)]


def examples_of(samples: Sequence[Sample], spec: ModelSpec) -> Examples:
    """Each sample's image, and the last window of its mixture."""
    return Examples(
        [sample.image for sample in samples],
        [sample.mixture[-spec.num_window_samples :] for sample in samples],
    )


def synthetic_map(
    backend: Backend, samples: Sequence[Sample], advance: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """mAP in [0, 1] per head, as the `synthetic` benchmark's row `mixture` defines it.

    `advance` is called after each sample. Heads that the backend does not have are left out.
    """
    grounder = Grounder(backend)
    heatmaps = []
    for sample in samples:
        heatmaps.append(grounder.ground(sample.image, sample.mixture, SAMPLE_RATE_HZ))
        advance()
    maps = {}
    for head in (head for head in HEADS if head in backend.spec.heads):
        masks = [getattr(sample, f"mask_{head}") for sample in samples]
        classes = [getattr(sample, f"{head}_class") for sample in samples]
        grids = [answer.resized(*mask.shape) for answer, mask in zip(heatmaps, masks, strict=True)]
        maps[head] = score([getattr(grid, head) for grid in grids], masks, classes)[0]["map"]
    return maps
