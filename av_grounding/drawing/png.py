"""Writing pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from av_grounding.files import atomic_write


def write_png(path: Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write an RGB image as PNG; the file appears whole or not at all."""
    import cv2

    _, encoded = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    with atomic_write(path) as file:
        file.write(encoded.tobytes())
