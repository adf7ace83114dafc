"""One answer as the messages of all its topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from av_grounding.config import GroundingConfig
from av_grounding.image import resize_heatmap
from av_grounding.transports.messages import (
    CameraInfo,
    Fields,
    camera_info_fields,
    compressed_image_fields,
    heatmap_fields,
    image_fields,
    peaks_fields,
    peaks_of,
    rays_fields,
    score_fields,
)
from av_grounding.transports.topics.table import name_of, source_kind
from av_grounding.types import Frame, Grounding


@dataclass(frozen=True)
class OutputOptions:
    """How outputs are encoded; named like the runtime parameters."""

    heatmap_encoding: str = "32FC1"
    """32FC1, mono8 or mono16."""
    heatmap_size: tuple[int, int] | None = None
    """(H, W) pixels; None: the grid of the model."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Head -> calibrated value from which a maximum is a peak; 0.5 for others."""
    max_peaks: int = 5
    overlay_alpha: float = 0.55
    jpeg_quality: int = 85
    is_rectified: bool = False
    """Whether the images are rectified ones, which a CameraInfo's P describes."""

    @classmethod
    def of(cls, config: GroundingConfig, image_size: tuple[int, int]) -> OutputOptions:
        """What the runtime parameters say for images of (H, W) pixels."""
        size = None
        if config.heatmap.size:
            scale = config.heatmap.size / min(image_size)
            height, width = (max(1, round(side * scale)) for side in image_size)
            size = (height, width)
        return cls(
            heatmap_encoding=config.heatmap.encoding,
            heatmap_size=size,
            thresholds=config.thresholds(config.heads),
            max_peaks=config.peaks.max,
            overlay_alpha=config.overlay.alpha,
            is_rectified=config.image_rectified,
        )

    def threshold(self, head: str) -> float:
        return self.thresholds.get(head, 0.5)


def encode_outputs(
    frame: Frame,
    grounding: Grounding,
    options: OutputOptions | None = None,
    camera: CameraInfo | None = None,
    is_wanted: Callable[[str], bool] = lambda topic: True,
) -> Iterator[tuple[str, Fields]]:
    """(topic, fields) of every topic of `topics_of` that `is_wanted` and can be answered.

    Headers repeat the frame's. Rays and heatmap/camera_info need a calibrated `camera`.
    Heatmaps come first: they must not wait for a picture to be drawn.
    """
    options = options or OutputOptions()
    stamp, heads = (frame.stamp_ns, frame.frame_id), grounding.heads.items()
    for head, answer in heads:
        if is_wanted(name := name_of("heatmap", head)):
            size = options.heatmap_size
            shown = resize_heatmap(answer.heatmap, *size) if size else answer.heatmap
            yield name, heatmap_fields(shown, *stamp, options.heatmap_encoding)
    for head, answer in heads:
        names = [name_of(source_kind(1 + i), head) for i in range(answer.max_sources)]
        if not any(map(is_wanted, names)):
            continue
        for name, heatmap in zip(names, answer.source_heatmaps, strict=True):
            if is_wanted(name):
                size = options.heatmap_size
                shown = resize_heatmap(heatmap, *size) if size else heatmap
                yield name, heatmap_fields(shown, *stamp, options.heatmap_encoding)
    for head, answer in heads:
        if is_wanted(name := name_of("score", head)):
            yield name, score_fields(head, answer.score, *stamp)
    is_calibrated = camera is not None and camera.is_calibrated
    for head, answer in heads:
        peaks_name, rays_name = name_of("peaks", head), name_of("rays", head)
        is_rays = is_calibrated and is_wanted(rays_name)
        is_peaks = is_wanted(peaks_name)
        if not is_rays and not is_peaks:
            continue
        size = frame.image.shape[:2]
        peaks = peaks_of(head, answer, size, options.threshold(head), options.max_peaks)
        if is_peaks:
            yield peaks_name, peaks_fields(peaks, *stamp)
        if is_rays:
            assert camera is not None
            rays = [camera.ray(p.x_px, p.y_px, is_rectified=options.is_rectified) for p in peaks]
            yield rays_name, rays_fields(rays, *stamp)
    if camera is not None and heads and is_wanted(name := name_of("heatmap/camera_info")):
        # The heads of a model share one grid.
        grid = next(iter(grounding.heads.values())).logits.shape[1:]
        yield name, camera_info_fields(camera.scaled(*(options.heatmap_size or grid)), *stamp)
    yield from _overlays(frame, grounding, options, is_wanted)


def _overlays(
    frame: Frame, grounding: Grounding, options: OutputOptions, is_wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Fields]]:
    stamp = (frame.stamp_ns, frame.frame_id)
    for head in grounding.heads:
        raw, compressed = name_of("overlay", head), name_of("overlay/compressed", head)
        is_raw, is_compressed = is_wanted(raw), is_wanted(compressed)
        if not is_raw and not is_compressed:
            continue
        image = draw_overlay(frame, grounding, head, options.overlay_alpha)
        if is_raw:
            yield raw, image_fields(image[..., ::-1], "bgr8", *stamp)
        if is_compressed:
            yield compressed, compressed_image_fields(image, *stamp, options.jpeg_quality)


def draw_overlay(
    frame: Frame, grounding: Grounding, head: str, alpha: float = 0.55
) -> UInt8[np.ndarray, "H W 3"]:
    """One head's heatmap over the frame, RGB."""
    from av_grounding.drawing.overlay import overlay
    from av_grounding.drawing.styles import styles_of

    styles = styles_of(grounding.heads)
    return overlay(frame.image, {head: grounding[head]}, alpha, styles=styles)
