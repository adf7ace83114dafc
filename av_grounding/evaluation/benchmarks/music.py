"""MUSIC (Zhao et al., ECCV 2018): solos and duets with boxes, and separation of two solos."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from av_grounding.evaluation.benchmark import (
    BenchmarkInfo,
    GroundingSample,
    ListBenchmark,
    SeparationSample,
    SeparationSource,
    Target,
)
from av_grounding.evaluation.benchmarks.excerpts import Excerpt, ExcerptSum
from av_grounding.evaluation.benchmarks.files import (
    AudioFile,
    BoxMask,
    FileCheck,
    ImageFile,
)

HEARD_S = 3.0
SEPARATED_RATE_HZ = 11_025
SEPARATED_SAMPLES = 65_535
UNIFIED_RATE_HZ, UNIFIED_SAMPLES = 8_000, 24_000
MUSIC_CITATION = "Zhao et al., The Sound of Pixels, ECCV 2018"
UNIFIED_CITATION = (
    "Mo and Morgado, A Unified Audio-Visual Learning Framework, ICML 2023, on MUSIC (Zhao et al. "
    "2018)"
)
BOX_CITATION = f"Mo and Tian, Audio-Visual Grouping Network, CVPR 2023, on {MUSIC_CITATION}"
BOX_NOTES = (
    "Boxes are normalised x, y, width, height; public code that reads them as two corners "
    "empties most of them. Scored at 224x224, edges at int(224 v). The clip is the middle 3 s of "
    "the video's sound, as in public code."
)


def open_solo(root: Path) -> ListBenchmark:
    """2,124 frames with one instrument."""
    listing, samples = FileCheck(), []
    for entry in listing.entries(root / "music_solo.json", ("file", "class", "bbox")):
        sample = _sample(root, listing, entry["file"], [(entry["class"], entry["bbox"])])
        if sample is not None:
            samples.append(sample)
    info = BenchmarkInfo(
        name="music-solo",
        task="localisation",
        heads=("sound",),
        citation=BOX_CITATION,
        num_expected=2124,
        notes=BOX_NOTES,
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def open_duet(root: Path) -> ListBenchmark:
    """1,020 frames with two instruments that play together."""
    listing, samples = FileCheck(), []
    keys = ("file", "class_src1", "bbox_src1", "class_src2", "bbox_src2")
    for entry in listing.entries(root / "music_duet.json", keys):
        sources = [(entry[f"class_src{n}"], entry[f"bbox_src{n}"]) for n in (1, 2)]
        sample = _sample(root, listing, entry["file"], sources)
        if sample is not None:
            samples.append(sample)
    info = BenchmarkInfo(
        name="music-duet",
        task="multi_source",
        heads=("sound",),
        citation=BOX_CITATION,
        num_expected=1020,
        notes=BOX_NOTES,
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def _sample(
    root: Path, listing: FileCheck, name: str, sources: list[tuple[str, list[float]]]
) -> GroundingSample | None:
    image, audio = media(root, name)
    targets = []
    for class_name, box in sources:
        boxes = listing.boxes(name, [box], "xywh")
        targets.append(
            Target(head="sound", class_name=class_name, load_mask=BoxMask(boxes), boxes=boxes)
        )
    if not listing.has(name, image, audio):
        return None
    return GroundingSample(
        id=name,
        load_image=ImageFile(image),
        load_clip=AudioFile(audio, HEARD_S),
        targets=tuple(targets),
    )


def open_separation(root: Path) -> ListBenchmark:
    """Mixtures as Sound of Pixels has them."""
    how = Excerpts(SEPARATED_RATE_HZ, SEPARATED_SAMPLES, 0.5)
    notes = "each source is divided by two before the sum"
    return _separation(root, "music-separation", how, MUSIC_CITATION, notes)


def open_separation_8khz(root: Path) -> ListBenchmark:
    """The same pairs as OneAVM hears them."""
    how = Excerpts(UNIFIED_RATE_HZ, UNIFIED_SAMPLES, 1.0)
    return _separation(root, "music-separation-8khz", how, UNIFIED_CITATION, "summed as they are")


class Excerpts(NamedTuple):
    """What mixtures are made of."""

    rate_hz: int
    num_samples: int
    gain: float


def _separation(root: Path, name: str, how: Excerpts, citation: str, notes: str) -> ListBenchmark:
    """Mixtures of two solos of different instruments.

    One frame a video, videos sorted by name; each is paired with the first one behind the
    middle of the list whose instrument differs, so that every video is used about twice.
    """
    listing, videos = FileCheck(), {}
    for entry in listing.entries(root / "music_solo.json", ("file", "class", "bbox")):
        file = str(entry["file"])
        image, audio = media(root, file)
        if audio.stem not in videos and listing.has(file, image, audio):
            videos[audio.stem] = (str(entry["class"]), image, audio)
    names = sorted(videos)
    samples = []
    for number, one in enumerate(names):
        partner = _partner(number, [videos[other][0] for other in names])
        if partner is not None:
            samples.append(_mixture(videos, how, one, names[partner]))
    info = BenchmarkInfo(
        name=name,
        task="separation",
        heads=("sound",),
        citation=citation,
        num_expected=None,
        notes=f"Middle {how.num_samples:,} samples at {how.rate_hz:,} Hz; {notes}. No list of "
        "test mixtures is published: see the pairing in the loader.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def _partner(number: int, classes: list[str]) -> int | None:
    middle = len(classes) // 2
    for step in range(len(classes)):
        other = (number + middle + step) % len(classes)
        if classes[other] != classes[number]:
            return other
    return None


def _mixture(
    videos: dict[str, tuple[str, Path, Path]], how: Excerpts, *names: str
) -> SeparationSample:
    clips = tuple(Excerpt(videos[name][2], *how) for name in names)
    sources = tuple(
        SeparationSource(
            class_name=videos[name][0], load_image=ImageFile(videos[name][1]), load_clip=clip
        )
        for name, clip in zip(names, clips, strict=True)
    )
    return SeparationSample(id="+".join(names), load_mixture=ExcerptSum(clips), sources=sources)


def media(root: Path, name: str) -> tuple[Path, Path]:
    """The frame `<ytid>_<SSS>_<FFFFF>` and the sound of its video, `<ytid>`."""
    return root / "frames" / f"{name}.jpg", root / "audio" / f"{name[:-10]}.wav"
