"""What the loaders share: lists on disk, a record of what is wrong, and picklable readers.

The readers are small frozen dataclasses, so that a sample can cross to a worker process.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import resample, to_mono
from av_grounding.evaluation.benchmark import (
    AudioClip,
    Benchmark,
    ListBenchmark,
    SampleProblem,
)
from av_grounding.evaluation.boxes import Box, BoxFormat, consensus_mask, parse_boxes, union_mask
from av_grounding.files import MAX_LIST_BYTES, one_line, read_json, read_text

SCORED_PX = 224
"""Side of the square on which the field scores boxes."""
LOSSY_SUFFIXES = {".jpg", ".jpeg"}


class FileCheck:
    """Collects what is wrong with a data set while its lists are read."""

    def __init__(self) -> None:
        self.problems: list[SampleProblem] = []

    def has(self, sample_id: str, *paths: Path) -> bool:
        """Whether all files are there; each that is not becomes a problem."""
        missing = [path for path in paths if not _is_file(path)]
        for path in missing:
            self.problems.append(SampleProblem("missing_file", sample_id, str(path)))
        return not missing

    def boxes(
        self,
        sample_id: str,
        values: Sequence[Sequence[float]],
        box_format: BoxFormat,
        scale: tuple[float, float] = (1, 1),
    ) -> tuple[Box, ...]:
        """The well-formed boxes; each malformed one becomes a problem and is left out."""
        parsed = parse_boxes(values, box_format, scale)
        for line in parsed.malformed:
            self.problems.append(SampleProblem("malformed_box", sample_id, line))
        return parsed.boxes

    def malformed_row(self, sample_id: str, detail: str) -> None:
        """A row that cannot be a sample; it is left out."""
        self.problems.append(SampleProblem("malformed_row", one_line(sample_id), one_line(detail)))

    def rows(self, path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
        """Rows of a CSV file with a header; rows without all of `columns` are left out.

        Raises ValueError where the header lacks a column.
        """
        reader = csv.DictReader(_lines(path), skipinitialspace=True)
        with explaining_csv(path):
            header = reader.fieldnames or []
        lacking = [name for name in columns if name not in header]
        if lacking:
            raise ValueError(
                f"{path}: got columns {one_line(', '.join(header), 200) or 'none'}; expected "
                f"{', '.join(columns)}: take the list that the data set publishes"
            )
        with explaining_csv(path):
            for row in reader:
                if any(row[name] is None for name in columns):
                    self.malformed_row(f"{path.name}:{reader.line_num}", f"too short: {row}")
                else:
                    yield row

    def bare_rows(self, path: Path, num_columns: int) -> Iterator[list[str]]:
        """Rows of a CSV file without a header; shorter ones are left out."""
        reader = csv.reader(_lines(path))
        with explaining_csv(path):
            for row in reader:
                if len(row) < num_columns or not row[0]:
                    self.malformed_row(f"{path.name}:{reader.line_num}", f"too short: {row}")
                else:
                    yield row

    def entries(self, path: Path, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Objects of a JSON list; those without all of `keys` are left out."""
        content = read_json(path)
        if not isinstance(content, list):
            raise ValueError(f"{path}: got a {type(content).__name__}, expected a list of objects")
        for number, entry in enumerate(content):
            if not isinstance(entry, dict) or any(key not in entry for key in keys):
                self.malformed_row(f"{path.name}[{number}]", f"lacks {', '.join(keys)}: {entry}")
            else:
                yield entry


@contextmanager
def explaining_csv(path: Path) -> Iterator[None]:
    """Turns what the parser stumbles over into a ValueError that names the file."""
    try:
        yield
    except csv.Error as error:
        raise ValueError(f"{path}: not valid CSV ({error}); fetch it again") from None


def _lines(path: Path) -> list[str]:
    """Its lines with their ends, which quoted fields may hold."""
    return io.StringIO(read_text(path, MAX_LIST_BYTES), newline="").readlines()


def _is_file(path: Path) -> bool:
    """Also for names that no file system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def first(benchmark: Benchmark, num: int | None) -> Benchmark:
    """The benchmark cut to its first `num` samples; its problems stay those of the whole."""
    if num is None or not isinstance(benchmark, ListBenchmark):
        return benchmark
    return replace(benchmark, samples=benchmark.samples[:num])


@dataclass(frozen=True)
class ImageFile:
    """Reads a picture as RGB."""

    path: Path

    def __call__(self) -> UInt8[np.ndarray, "H W 3"]:
        from av_grounding.sources.still import read_image

        return read_image(self.path)


@dataclass(frozen=True)
class SquareCrop:
    """Reads a picture cut to the square at its centre (resize short side, centre crop)."""

    path: Path

    def __call__(self) -> UInt8[np.ndarray, "H W 3"]:
        image = ImageFile(self.path)()
        side = min(image.shape[:2])
        top, left = ((size - side) // 2 for size in image.shape[:2])
        return np.ascontiguousarray(image[top : top + side, left : left + side])


@dataclass(frozen=True)
class SideBySide:
    """Several pictures as one: each squeezed to a square tile, from left to right."""

    paths: tuple[Path, ...]
    tile_px: int = 2 * SCORED_PX

    def __call__(self) -> UInt8[np.ndarray, "H W 3"]:
        from av_grounding.image import ResizeTransform

        tiles = []
        for path in self.paths:
            image = ImageFile(path)()
            place = ResizeTransform(*image.shape[:2], self.tile_px, self.tile_px)
            tiles.append(place.apply(image))
        return np.concatenate(tiles, axis=1)


@dataclass(frozen=True)
class AudioFile:
    """Reads a sound; with `middle_s` its middle seconds alone, as public code does."""

    path: Path
    middle_s: float | None = None

    def __call__(self) -> AudioClip:
        from av_grounding.sources.media_file import MediaFile

        waveform, rate_hz = MediaFile(self.path).read_audio()
        if self.middle_s is not None:
            keep = round(self.middle_s * rate_hz)
            start = max(0, (len(waveform) - keep) // 2)
            waveform = waveform[start : start + keep]
        return AudioClip(waveform, rate_hz)


@dataclass(frozen=True)
class SummedAudio:
    """Reads several sounds and sums them at one rate; the sum is scaled down where it clips.

    The sum is as long as the longest; `gain` multiplies every part.
    """

    parts: tuple[AudioFile, ...]
    rate_hz: int = 16_000
    gain: float = 1.0

    def __call__(self) -> AudioClip:
        waveforms = [mono_at(part(), self.rate_hz) for part in self.parts]
        total = np.zeros(max(len(waveform) for waveform in waveforms), np.float32)
        for waveform in waveforms:
            total[: len(waveform)] += np.float32(self.gain) * waveform
        peak = float(np.abs(total).max(initial=0.0))
        return AudioClip(total / np.float32(max(1.0, peak)), self.rate_hz)


def mono_at(clip: AudioClip, rate_hz: int) -> Float32[np.ndarray, " s"]:
    """The clip's mono waveform at another rate."""
    return resample(to_mono(clip.waveform), clip.sample_rate_hz, rate_hz)


@dataclass(frozen=True)
class BoxMask:
    """Draws boxes on the field's 224x224 grid; in tile `tile` of `num_tiles` side by side.

    `num_required` None takes the union; a number the consensus of so many annotators.
    """

    boxes: tuple[Box, ...]
    num_required: int | None = None
    tile: int = 0
    num_tiles: int = 1

    def __call__(self) -> Float32[np.ndarray, "H W"]:
        if self.num_required is None:
            mask = union_mask(self.boxes, SCORED_PX, SCORED_PX)
        else:
            mask = consensus_mask(self.boxes, SCORED_PX, SCORED_PX, self.num_required)
        before = self.tile * SCORED_PX
        after = (self.num_tiles - 1 - self.tile) * SCORED_PX
        return np.pad(mask, ((0, 0), (before, after)))


@dataclass(frozen=True)
class MaskFile:
    """Reads a binary mask: what is not black in a PNG, what is bright in a JPEG.

    With `side_px` it is resized to a square by nearest neighbour where it has another size.
    """

    path: Path
    side_px: int | None = None

    def __call__(self) -> Float32[np.ndarray, "H W"]:
        pixels = read_label(self.path)
        if pixels.ndim == 3:
            pixels = pixels[..., :3].max(axis=-1)
        # JPEG rings around edges, so that its black is not all zeros.
        threshold = 127 if self.path.suffix.lower() in LOSSY_SUFFIXES else 0
        mask = (pixels > threshold).astype(np.float32)
        return mask if self.side_px is None else nearest(mask, self.side_px, self.side_px)


def read_label(path: Path) -> np.ndarray:
    """A label picture with its own values: (H, W), or (H, W, channels) as blue, green, red."""
    import cv2

    encoded = np.fromfile(path, np.uint8)
    pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if encoded.size else None
    if pixels is None:
        raise ValueError(f"{path}: {encoded.size} bytes that do not decode as a picture")
    return pixels


def read_indices(path: Path) -> np.ndarray:
    """A label picture of one value a pixel, (H, W): grey values, or the indices of a palette."""
    import av

    label = read_label(path)
    if label.ndim == 2:
        return label
    # OpenCV turns a palette into its colours.
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        if frame.format.name == "pal8":
            return frame.to_ndarray()[0]
    if (label != label[..., :1])[..., :3].any():
        raise ValueError(f"{path}: got a picture in colour, expected one index a pixel")
    return label[..., 0]


def nearest(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """A label resized without new values: each pixel takes the one under its centre."""
    rows = ((np.arange(height) + 0.5) * label.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * label.shape[1] / width).astype(int)
    return label[np.ix_(rows, columns)]
