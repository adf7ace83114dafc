"""AVSBench: S4 and MS3 (Zhou et al., ECCV 2022) and AVSS (Zhou et al., IJCV 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from av_grounding.evaluation.benchmark import (
    BenchmarkInfo,
    GroundingSample,
    ListBenchmark,
    SemanticSample,
    Target,
)
from av_grounding.evaluation.benchmarks.files import (
    SCORED_PX,
    AudioFile,
    FileCheck,
    ImageFile,
    MaskFile,
    nearest,
    read_indices,
    read_json,
)
from av_grounding.evaluation.benchmarks.speaking import SpokenName

NUM_FRAMES = 5
NUM_SEMANTIC_FRAMES = 10
NUM_CLASSES = 71
CITATION = "Zhou et al., Audio-Visual Segmentation, ECCV 2022"
NOTES = "Test split; one sample a frame, frame i stands for second i; masks at 224x224."


def open_s4(root: Path) -> ListBenchmark:
    """740 test videos with one sounding object, five frames each."""
    listing, samples = FileCheck(), []
    media = _media(root, "s4_data")
    for row in listing.rows(root / "s4_meta_data.csv", ("name", "category", "split")):
        if row["split"] != "test":
            continue
        name, category = row["name"], row["category"]
        audio = media / "audio_wav" / "test" / category / f"{name}.wav"
        for number in range(1, NUM_FRAMES + 1):
            place = Path("test", category, name, f"{name}_{number}.png")
            image, mask = media / "visual_frames" / place, media / "gt_masks" / place
            samples += _frame(listing, name, number, category, (image, audio, mask))
    info = _info("avsbench-s4", 740 * NUM_FRAMES)
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def open_ms3(root: Path) -> ListBenchmark:
    """64 test videos with several sounding objects, five frames each; no class names."""
    listing, samples = FileCheck(), []
    media = _media(root, "ms3_data")
    for row in listing.rows(root / "ms3_meta_data.csv", ("video_id", "split")):
        if row["split"] != "test":
            continue
        name = row["video_id"]
        audio = media / "audio_wav" / "test" / f"{name}.wav"
        for number in range(1, NUM_FRAMES + 1):
            image = media / "visual_frames" / name / f"{name}.mp4_{number}.png"
            mask = media / "gt_masks" / "test" / name / f"{name}_{number}.png"
            samples += _frame(listing, name, number, "", (image, audio, mask))
    info = _info("avsbench-ms3", 64 * NUM_FRAMES)
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def _media(root: Path, published: str) -> Path:
    """The folder of pictures, sounds and masks: beside the list as published, or around it."""
    return root / published if (root / published).is_dir() else root


def _info(name: str, num_expected: int) -> BenchmarkInfo:
    return BenchmarkInfo(
        name=name,
        task="segmentation",
        heads=("sound",),
        citation=CITATION,
        num_expected=num_expected,
        notes=NOTES,
    )


def _frame(
    listing: FileCheck, video: str, number: int, category: str, files: tuple[Path, Path, Path]
) -> list[GroundingSample]:
    name = f"{video}_{number}"
    image, audio, mask = files
    if not listing.has(name, image, audio, mask):
        return []
    target = Target(head="sound", class_name=category, load_mask=MaskFile(mask, SCORED_PX))
    return [
        GroundingSample(
            id=name,
            load_image=ImageFile(image),
            load_clip=AudioFile(audio),
            targets=(target,),
            video_id=video,
            frame_s=number - 0.5,
        )
    ]


def open_semantic(root: Path) -> ListBenchmark:
    """1,554 test videos, ten frames each, of which a 5 s video's last five are padding."""
    listing, samples = FileCheck(), []
    class_names = _class_names(root / "label2idx.json")
    for row in listing.rows(root / "metadata.csv", ("uid", "label", "split")):
        if row["split"] != "test":
            continue
        video, folder = row["uid"], root / row["label"] / row["uid"]
        audio = folder / "audio.wav"
        num_real = NUM_SEMANTIC_FRAMES if row["label"] == "v2" else NUM_FRAMES
        for number in range(NUM_SEMANTIC_FRAMES):
            name = f"{video}_{number}"
            image = folder / "frames" / f"{number}.jpg"
            label = folder / "labels_semantic" / f"{number}.png"
            is_padding = number >= num_real
            if not listing.has(name, *((audio,) if is_padding else (image, audio, label))):
                continue
            samples.append(
                SemanticSample(
                    id=name,
                    load_image=BlackImage() if is_padding else ImageFile(image),
                    load_clip=AudioFile(audio),
                    load_class_map=NoClasses()
                    if is_padding
                    else ClassMapFile(label, len(class_names)),
                    video_id=video,
                    frame_s=number + 0.5,
                    is_padding=is_padding,
                )
            )
    info = BenchmarkInfo(
        name="avsbench-semantic",
        task="semantic",
        heads=("sound",),
        citation="Zhou et al., Audio-Visual Segmentation with Semantics, IJCV 2024",
        num_expected=1554 * NUM_SEMANTIC_FRAMES,
        notes="Test split; label pictures of class indices, nearest neighbour to 224x224. A 5 s "
        "video is padded to ten frames with black pictures and background, as in public code.",
        class_names=class_names,
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems), SpokenName())


def _class_names(path: Path) -> tuple[str, ...]:
    indices = read_json(path)
    names = sorted(indices, key=indices.get) if isinstance(indices, dict) else []
    if [indices[name] for name in names] != list(range(NUM_CLASSES)):
        raise ValueError(
            f"{path}: got {len(names)} classes; expected {NUM_CLASSES} with indices "
            f"0 to {NUM_CLASSES - 1}, background first"
        )
    return tuple(names)


@dataclass(frozen=True)
class ClassMapFile:
    """Reads a picture of class indices at 224x224; ValueError where one is unknown."""

    path: Path
    num_classes: int

    def __call__(self) -> Int[np.ndarray, "H W"]:
        classes = nearest(read_indices(self.path), SCORED_PX, SCORED_PX).astype(np.int32)
        if classes.max(initial=0) >= self.num_classes:
            raise ValueError(
                f"{self.path}: got class {classes.max()}, expected 0 to {self.num_classes - 1}"
            )
        return classes


@dataclass(frozen=True)
class BlackImage:
    """The picture of a padding frame."""

    def __call__(self) -> UInt8[np.ndarray, "H W 3"]:
        return np.zeros((SCORED_PX, SCORED_PX, 3), np.uint8)


@dataclass(frozen=True)
class NoClasses:
    """The class map of a padding frame: background everywhere."""

    def __call__(self) -> Int[np.ndarray, "H W"]:
        return np.zeros((SCORED_PX, SCORED_PX), np.int32)
