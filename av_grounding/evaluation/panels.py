"""A contact sheet of grounded samples: what the numbers of a report look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from av_grounding.drawing.overlay import overlay
from av_grounding.drawing.png import write_png
from av_grounding.types import Grounding

COLUMNS = 4
CAPTION_LINE_PX = 16
GAP_PX = 6


class Panel(NamedTuple):
    """An image, its heatmaps, and lines of text to set below it."""

    image: UInt8[np.ndarray, "H W 3"]
    heatmaps: Grounding
    caption: tuple[str, ...]


def write_panels(path: Path, panels: Sequence[Panel]) -> None:
    """Write the panels as one PNG, which appears whole or not at all."""
    write_png(path, _sheet([_draw(panel) for panel in panels]))


def _sheet(tiles: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "H W 3"]:
    height = max(tile.shape[0] for tile in tiles) + GAP_PX
    width = max(tile.shape[1] for tile in tiles) + GAP_PX
    columns = min(COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    sheet = np.full((rows * height + GAP_PX, columns * width + GAP_PX, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * height + GAP_PX, i % columns * width + GAP_PX
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def _draw(panel: Panel) -> UInt8[np.ndarray, "H W 3"]:
    import cv2

    height, width = panel.image.shape[:2]
    caption_px = CAPTION_LINE_PX * len(panel.caption) + GAP_PX
    tile = np.full((height + caption_px, width, 3), 255, np.uint8)
    tile[:height] = overlay(panel.image, panel.heatmaps.heads)
    for i, line in enumerate(panel.caption):
        origin = (2, height + CAPTION_LINE_PX * (i + 1) - 4)
        cv2.putText(tile, line, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return tile
