"""Images on the model's grid and heatmaps back on the image: one invertible `ResizeTransform`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

MAX_ASPECT = 3.0
"""Longest model input side in multiples of the short one: bounds the cost of a panorama."""
MAX_SUMMED = np.iinfo(np.uint16).max // 255
"""Pixels whose sum 16 bits hold."""
CACHED_SUMS = 1 << 16
"""Sums of 16 bits that stay in a core's cache."""
GREY = 127
"""What networks take for the middle of a picture's values, or next to it."""


def check_image(image: np.ndarray) -> np.ndarray:
    """The image itself; ValueError unless it is (H, W, 3) uint8 with at least one pixel."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            f"image of shape {image.shape} and type {image.dtype}: expected (H, W, 3) uint8 RGB; "
            "convert grey, BGRA or floating-point images first"
        )
    return image


@dataclass(frozen=True, slots=True)
class ResizeTransform:
    """How an image of one size lies on the model's input: the whole field of view, no crop.

    Both axes are scaled separately, so that each input side is a multiple of the patch; cell and
    pixel coordinates are therefore proportional on each axis.
    """

    height: int
    width: int
    input_height: int
    input_width: int

    @classmethod
    def fit(cls, height: int, width: int, short_side_px: int, patch_px: int) -> ResizeTransform:
        """Short side about `short_side_px`, both sides multiples of `patch_px`.

        The long side is clamped to three times the short one, where the picture is squeezed.
        """
        for name, value in (
            ("height", height),
            ("width", width),
            ("short_side_px", short_side_px),
            ("patch_px", patch_px),
        ):
            if value < 1:
                raise ValueError(f"{name} {value}: expected at least 1")
        short = max(1, round(short_side_px / patch_px))
        aspect = min(MAX_ASPECT, max(height, width) / min(height, width))
        long = max(short, round(short_side_px * aspect / patch_px))
        long = min(long, int(short * MAX_ASPECT))
        rows, columns = (short, long) if height <= width else (long, short)
        return cls(height, width, rows * patch_px, columns * patch_px)

    def apply(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The image resized to the model's input size."""
        image = check_image(image)
        if image.shape[:2] != (self.height, self.width):
            raise ValueError(
                f"image of {image.shape[0]}x{image.shape[1]} pixels: this placement is for "
                f"{self.height}x{self.width}; make one with ResizeTransform.fit"
            )
        if image.shape[:2] == (self.input_height, self.input_width):
            return np.ascontiguousarray(image)
        return _resize(np.ascontiguousarray(image), self.input_height, self.input_width)

    def to_image_xy(
        self, x_cell: int | float, y_cell: int | float, grid: tuple[int, int]
    ) -> tuple[float, float]:
        """Pixel coordinates (x, y) of a point on a grid of (h, w) cells.

        Whole numbers are centres in both systems: cell 0 covers cell coordinates -0.5 to 0.5.
        """
        return (
            (x_cell + 0.5) * self.width / grid[1] - 0.5,
            (y_cell + 0.5) * self.height / grid[0] - 0.5,
        )

    def to_cell_xy(
        self, x_px: int | float, y_px: int | float, grid: tuple[int, int]
    ) -> tuple[float, float]:
        """Inverse of `to_image_xy`."""
        return (
            (x_px + 0.5) * grid[1] / self.width - 0.5,
            (y_px + 0.5) * grid[0] / self.height - 0.5,
        )


def cut_out(
    image: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The box around what a mask marks, grey off the mask: the thing without its surroundings.

    ValueError for an empty mask.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        raise ValueError("the mask marks nothing: expected at least one pixel")
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return np.where(mask[box][..., None], check_image(image)[box], np.uint8(GREY))


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Area averaging where an axis shrinks, which alone does not alias; else bilinear.

    Averaging by whole factors is several times faster than by fractions. So whole factors that
    divide the image go first; the little that remains then needs no averaging.
    """
    import cv2

    rows = _whole_factor(image.shape[0], height)
    columns = _whole_factor(image.shape[1], width)
    if rows > 1 or columns > 1:
        image = _averaged(image, rows, columns)
    if image.shape[:2] == (height, width):
        return image
    needs_average = image.shape[0] > 1.5 * height or image.shape[1] > 1.5 * width
    interpolation = cv2.INTER_AREA if needs_average else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=interpolation)


def _averaged(
    image: UInt8[np.ndarray, "H W 3"], rows: int, columns: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Means of `rows` x `columns` pixels: OpenCV's INTER_AREA to the bit, in half the time.

    OpenCV adds pixel by pixel; here whole lines are added at once, as many as a cache holds. Only
    2 x 2 it adds as fast, and rounds in a way of its own.
    """
    import cv2

    height, width = image.shape[0] // rows, image.shape[1] // columns
    if rows == columns == 2 or rows * columns > MAX_SUMMED:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    lines = image.reshape(height, rows, -1)
    means = np.empty((height, width, 3), np.uint8)
    num_lines = max(1, CACHED_SUMS // lines.shape[2])
    buffers = np.empty((2, num_lines * lines.shape[2]), np.uint16)
    for top in range(0, height, num_lines):
        block = lines[top : top + num_lines]
        sums, wide = buffers[:, : len(block) * lines.shape[2]]
        np.add.reduce(block, axis=1, dtype=np.uint16, out=sums.reshape(len(block), -1))
        picked = sums.reshape(len(block), -1, 3)
        if columns > 1:
            # Sums over a line's end hold pixels of the next; nobody picks them.
            np.add(sums[:-3], sums[3:], out=wide[:-3])
            for column in range(2, columns):
                wide[: -3 * column] += sums[3 * column :]
            wide = wide.reshape(len(block), -1, 3)
            picked = cv2.resize(wide, (width, len(block)), interpolation=cv2.INTER_NEAREST)
        cv2.convertScaleAbs(picked, means[top : top + num_lines], alpha=1.0 / (rows * columns))
    return means


def _whole_factor(size: int, target: int) -> int:
    """Largest divisor of `size` that does not shrink it below `target`."""
    return next(factor for factor in range(max(1, size // target), 0, -1) if size % factor == 0)


def resize_heatmap(
    heatmap: Float32[np.ndarray, "h w"], height: int, width: int
) -> Float32[np.ndarray, "H W"]:
    """Bilinear interpolation with half-pixel centres: values stay within the heatmap's range."""
    if heatmap.ndim != 2 or heatmap.size == 0 or height < 1 or width < 1:
        raise ValueError(
            f"heatmap of shape {heatmap.shape} to {height}x{width}: expected a non-empty (h, w) "
            "heatmap and a size of at least 1x1"
        )
    import cv2

    heatmap = np.ascontiguousarray(heatmap, np.float32)
    resized = cv2.resize(heatmap, (width, height), interpolation=cv2.INTER_LINEAR)
    # Rounding may leave the range by a bit in the last place, and 1.0000001 is no probability.
    return np.clip(resized, heatmap.min(), heatmap.max(), out=resized)


def peak_cell(heatmap: Float[np.ndarray, "h w"]) -> tuple[int, int]:
    """(row, column) of the largest value, which must be finite.

    Where cells share it, as those of a region do, the one deepest inside the patch that holds the
    first of them: the first itself lies on its rim, next to something else.
    """
    largest = heatmap == heatmap.max()
    row, column = np.unravel_index(int(np.argmax(largest)), heatmap.shape)
    if np.count_nonzero(largest) > 1:
        import cv2

        # What lies beyond the picture counts as outside.
        framed = np.pad(largest.astype(np.uint8), 1)
        _, patches = cv2.connectedComponents(framed, connectivity=4)
        patch = (patches == patches[row + 1, column + 1]).astype(np.uint8)
        depth = cv2.distanceTransform(patch, cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(int(np.argmax(depth)), heatmap.shape)
    return int(row), int(column)


def letterbox(
    image: UInt8[np.ndarray, "H W 3"], height: int, width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The whole image, scaled to fit without distortion and centred on black."""
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return np.ascontiguousarray(image)
    import cv2

    # Padding of a pixel to an even side is no reason to blur the picture.
    is_padding = 0 <= height - rows <= 1 and 0 <= width - columns <= 1
    scale = 1.0 if is_padding else min(height / rows, width / columns)
    size = max(1, min(height, round(rows * scale))), max(1, min(width, round(columns * scale)))
    interpolation = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    if size != (rows, columns):
        image = cv2.resize(image, size[::-1], interpolation=interpolation)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + size[0], left : left + size[1]] = image
    return canvas
