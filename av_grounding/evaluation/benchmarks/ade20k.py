"""ADE20K speech and sound prompted segmentation (Hamilton et al., CVPR 2024; 001)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from av_grounding.evaluation.benchmark import (
    BenchmarkInfo,
    GroundingSample,
    Head,
    ListBenchmark,
    Target,
)
from av_grounding.evaluation.benchmarks.files import (
    SCORED_PX,
    AudioFile,
    FileCheck,
    SquareCrop,
    nearest,
    read_label,
)
from av_grounding.files import parse_json

PROMPT_COLUMNS: dict[Head, str] = {"speech": "speech_prompt_file", "sound": "vggsound_file"}
NUM_SAMPLES: dict[Head, int] = {"speech": 3030, "sound": 106}
MAX_ASPECT = 32
NOTES = (
    "Picture and label are cut to the centre square, the label is scored at 224x224 by nearest "
    "neighbour, as in public code (the paper says original size). Rows of class 0 are no part "
    "of the set. A row whose word timing cannot be read is left out and listed."
)


def open_speech(root: Path) -> ListBenchmark:
    """3,030 spoken prompts of 478 classes, each with the timing of its word."""
    return _open(root, "speech")


def open_sound(root: Path) -> ListBenchmark:
    """106 sounds of VGGSound for 20 classes."""
    return _open(root, "sound")


def _open(root: Path, head: Head) -> ListBenchmark:
    listing, samples = FileCheck(), []
    column = PROMPT_COLUMNS[head]
    columns = ["image_location", column, "ade_class_id", *(["timing"] if head == "speech" else [])]
    for row in listing.rows(root / "prompted_segmentation.csv", columns):
        if not row[column]:
            continue
        location = row["image_location"]
        prompt = row[column].rsplit("/", 1)[-1]
        name = f"{location}+{prompt}"
        class_id = _whole_number(row["ade_class_id"])
        span = _span(row["timing"]) if head == "speech" else None
        if class_id is None:
            listing.malformed_row(name, f"ade_class_id {row['ade_class_id']!r} is no number")
        elif class_id == 0:
            continue
        elif head == "speech" and span is None:
            listing.malformed_row(name, f"timing {row['timing']!r}; expected [start, end] in s")
        else:
            image = root / "frames" / location
            label = root / "annotations" / location.replace(".jpg", "_seg.png")
            audio = root / "audio" / prompt
            if listing.has(name, image, label, audio):
                target = Target(
                    head=head,
                    class_name=f"ade {class_id}",
                    load_mask=ClassMask(label, class_id),
                    word_span_s=span,
                )
                samples.append(
                    GroundingSample(
                        id=name,
                        load_image=SquareCrop(image),
                        load_clip=AudioFile(audio),
                        targets=(target,),
                    )
                )
    info = BenchmarkInfo(
        name=f"ade20k-{head}",
        task="prompted",
        heads=(head,),
        citation='Hamilton et al., Separating the "Chirp" from the "Chat", CVPR 2024',
        num_expected=NUM_SAMPLES[head],
        notes=NOTES,
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def _whole_number(text: str) -> int | None:
    try:
        number = float(text)  # a table that once held a gap spells its integers as 12.0
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _span(text: str) -> tuple[float, float] | None:
    try:
        start, end = parse_json(text)
        span = float(start), float(end)
    except (TypeError, ValueError, OverflowError):
        return None
    return span if all(map(math.isfinite, span)) and 0.0 <= span[0] < span[1] else None


@dataclass(frozen=True)
class ClassMask:
    """Reads the pixels of one class from an ADE20K `_seg.png`, centre square at 224x224."""

    path: Path
    class_id: int

    def __call__(self) -> Float32[np.ndarray, "H W"]:
        label = read_label(self.path)
        if label.ndim != 3:
            raise ValueError(f"{self.path}: got a grey picture, expected ADE20K's colour codes")
        height, width = label.shape[:2]
        short = min(height, width)
        if max(height, width) > MAX_ASPECT * short:
            raise ValueError(f"{self.path}: got a picture of {width}x{height}, expected a photo's")
        rows = max(SCORED_PX, int(SCORED_PX * height / short))
        columns = max(SCORED_PX, int(SCORED_PX * width / short))
        classes = nearest(class_ids(label), rows, columns)
        top, left = round((rows - SCORED_PX) / 2), round((columns - SCORED_PX) / 2)
        square = classes[top : top + SCORED_PX, left : left + SCORED_PX]
        return (square == self.class_id).astype(np.float32)


def class_ids(label: np.ndarray) -> Int[np.ndarray, "H W"]:
    """Class of each pixel of a `_seg.png` in OpenCV's order: int(red / 10) · 256 + green."""
    return label[..., 2].astype(np.int32) // 10 * 256 + label[..., 1]
