"""How far a backend's answers are from another's on the same inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.types import Backend


@dataclass(frozen=True)
class Examples:
    """Real inputs in a model's own shapes: images it takes, windows of the spec's length."""

    images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    waveforms: Sequence[Float32[np.ndarray, " s"]]

    def __post_init__(self) -> None:
        if not self.images or len(self.images) != len(self.waveforms):
            raise ValueError(
                f"{len(self.images)} images and {len(self.waveforms)} waveforms; expected as many "
                "of each, at least one"
            )


@dataclass(frozen=True)
class Bounds:
    """The most that an export may differ from the eager model.

    Relative L2 errors are the largest over the examples; `heatmap` is the largest difference of a
    calibrated value in [0, 1], or of a mask; `peak` says how far below its own peak the eager map
    is where the export has its peak, relative to the map's range; `map_points` are percentage
    points of mAP.
    """

    image: float
    audio: float
    heatmap: float
    peak: float
    map_points: float = 1.0


BOUNDS = {
    "fp32": Bounds(1e-3, 1e-3, 5e-3, 1e-2),
    "fp16": Bounds(3e-2, 3e-2, 0.1, 0.1),
    "bf16": Bounds(8e-2, 8e-2, 0.2, 0.2),
    "int8": Bounds(0.2, 0.25, 0.5, 0.35),
}
"""By precision. What matters of a low precision is the benchmark; the rest catches damage."""
UNASKED = Bounds(4e-2, 4e-2, 0.05, 0.05)
"""Of a lower precision that nobody asked for."""


@dataclass(frozen=True)
class Parity:
    """Differences from the reference: the mean over the examples and the largest."""

    num_examples: int
    image_mean: float
    image_max: float
    audio_mean: float
    audio_max: float
    heatmap_max: float
    peak_max: float
    mask_max: float = 0.0
    """Of the masks of whole pictures; 0 where one of the backends does not separate."""


def compare(reference: Backend, candidate: Backend, examples: Examples) -> Parity:
    """Features and calibrated heatmaps of each image with its waveform, under both backends.

    Features are compared as the backends give them: the image's through similarities with the
    axes of the shared space, since tokens are opaque.
    """
    rows = np.array(list(_differences(reference, candidate, examples)))
    mean, largest = rows.mean(axis=0), rows.max(axis=0)
    return Parity(
        num_examples=len(rows),
        image_mean=float(mean[0]),
        image_max=float(largest[0]),
        audio_mean=float(mean[1]),
        audio_max=float(largest[1]),
        heatmap_max=float(largest[2]),
        peak_max=float(largest[3]),
        mask_max=float(largest[4]),
    )


def _differences(
    reference: Backend, candidate: Backend, examples: Examples
) -> Iterator[tuple[float, float, float, float, float]]:
    for image, waveform in zip(examples.images, examples.waveforms, strict=True):
        features, heatmaps, similarities, masks = [], [], [], []
        for backend in (reference, candidate):
            tokens = backend.encode_image(image)
            heard = np.asarray(backend.encode_audio(waveform))
            num_heads, num_channels = heard.shape[:2]
            axes = np.tile(np.eye(num_channels, dtype=np.float32), (num_heads, 1, 1))
            features.append((backend.similarity(tokens, axes), heard))
            pooled = np.ascontiguousarray(heard.mean(axis=2)[:, None])
            similarity = backend.similarity(tokens, pooled)
            heatmaps.append(_calibrated(reference, similarity))
            similarities.append(similarity[:, 0])
            everywhere = np.ones((1, similarity.shape[2]), np.float32)
            masks.append(backend.separation_masks(tokens, waveform, everywhere))
        (image_a, audio_a), (image_b, audio_b) = features
        difference = float(np.abs(heatmaps[0] - heatmaps[1]).max())
        peak = max(map(peak_loss, *similarities))
        mask = 0.0
        if masks[0] is not None and masks[1] is not None:
            mask = float(np.abs(masks[0] - masks[1]).max())
        yield relative_l2(image_a, image_b), relative_l2(audio_a, audio_b), difference, peak, mask


def peak_loss(reference: Float32[np.ndarray, " r"], values: Float32[np.ndarray, " r"]) -> float:
    """How far below its peak `reference` is where `values` peaks, as a share of its range.

    0: the same place, or one as high. Infinite where anything is not finite.
    """
    if not (np.isfinite(reference).all() and np.isfinite(values).all()):
        return float("inf")
    highest, span = float(reference.max()), float(np.ptp(reference))
    return (highest - float(reference[values.argmax()])) / span if span > 0.0 else 0.0


def _calibrated(backend: Backend, similarity: np.ndarray) -> np.ndarray:
    pairs = zip(backend.spec.heads, similarity, strict=True)
    return np.stack([head.calibration(values) for head, values in pairs])


def relative_l2(reference: np.ndarray, values: np.ndarray) -> float:
    """|values - reference| / |reference|; infinite where anything is not finite."""
    difference = np.linalg.norm((values - reference).astype(np.float64))
    error = difference / max(np.linalg.norm(reference.astype(np.float64)), 1e-12)
    return float(error) if np.isfinite(error) else float("inf")


def excesses(parity: Parity, maps: dict[str, tuple[float, float]], bounds: Bounds) -> list[str]:
    """What lies outside of the bounds, each as a phrase; empty where the export passes.

    `maps` has mAP in [0, 1] of each head before and after.
    """
    rows = [
        ("image features", parity.image_max, bounds.image, "relative L2"),
        ("audio features", parity.audio_max, bounds.audio, "relative L2"),
        ("heatmap", parity.heatmap_max, bounds.heatmap, "largest difference"),
        ("peak", parity.peak_max, bounds.peak, "of the map's range lower"),
        ("masks", parity.mask_max, bounds.heatmap, "largest difference"),
    ]
    for head, (before, after) in maps.items():
        rows.append((f"{head} mAP", 100 * (before - after), bounds.map_points, "points lost"))
    return [
        f"{name} {value:.3g} {unit}, at most {bound:g}"
        for name, value, bound, unit in rows
        # Written so that a value that is no number does not pass.
        if not value <= bound
    ]
