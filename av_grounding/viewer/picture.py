"""A frame and its answers as bytes for the browser: JPEG, and one byte per cell of each map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.image import peak_cell, resize_heatmap
from av_grounding.types import HeadAnswer
from av_grounding.viewer.feed import Shot

MAX_SIDE_PX = 1280
MAX_GRID = 128
JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Picture:
    """A shot, encoded once for all clients: `header` describes the blobs in their order."""

    number: int
    header: dict[str, Any]
    blobs: tuple[bytes, ...]


def encode(shot: Shot) -> Picture:
    """Encode a shot; frames beyond 1280 pixels are reduced, the picture's true size is told."""
    height, width = shot.frame.image.shape[:2]
    jpeg = encode_jpeg(shot.frame.image)
    heads, blobs = {}, [jpeg]
    for head, answer in shot.grounding.heads.items():
        heads[head], blob = _encode_head(answer)
        blobs.append(blob)
    header = {
        "number": shot.number,
        "t": shot.time_ms,
        "width": width,
        "height": height,
        "frame_id": shot.grounding.frame_id,
        "jpeg_bytes": len(jpeg),
        "heads": heads,
    }
    return Picture(shot.number, header, tuple(blobs))


def encode_jpeg(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """An RGB image as JPEG, reduced to at most 1280 pixels a side."""
    import cv2

    scale = MAX_SIDE_PX / max(image.shape[:2])
    if scale < 1.0:
        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    is_encoded, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not is_encoded:
        raise RuntimeError(f"OpenCV could not write a JPEG of {image.shape}")
    return jpeg.tobytes()


def _encode_head(answer: HeadAnswer) -> tuple[dict[str, Any], bytes]:
    """The maps one after the other; none where nothing was heard."""
    grids = [_bounded(heatmap) for heatmap in answer.heatmaps]
    height, width = (grids or [_bounded(answer.heatmap)])[0].shape
    labels = answer.names or (None,) * len(grids)
    maps = [
        {"label": label, "peak": _peak(grid), "value": round(float(grid.max()), 4)}
        for label, grid in zip(labels, grids, strict=True)
    ]
    described = {
        "h": height,
        "w": width,
        "score": max((of_map["value"] for of_map in maps), default=0.0),
        "maps": maps,
    }
    return described, b"".join(np.rint(255.0 * grid).astype(np.uint8).tobytes() for grid in grids)


def _peak(heatmap: Float32[np.ndarray, "h w"]) -> list[float]:
    """Centre of the strongest cell, as shares of the picture's width and height."""
    height, width = heatmap.shape
    row, column = peak_cell(heatmap)
    return [round((column + 0.5) / width, 5), round((row + 0.5) / height, 5)]


def _bounded(heatmap: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "H W"]:
    heatmap = np.clip(np.nan_to_num(heatmap), 0.0, 1.0).astype(np.float32)
    largest = max(heatmap.shape)
    if largest <= MAX_GRID:
        return heatmap
    height, width = (max(1, round(side * MAX_GRID / largest)) for side in heatmap.shape)
    return resize_heatmap(heatmap, height, width)
