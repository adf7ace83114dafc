"""VGGSound single, duet and trio (Mo and Tian, CVPR 2023), and recognition (OneAVM)."""

from __future__ import annotations

from pathlib import Path

from av_grounding.evaluation.benchmark import (
    BenchmarkInfo,
    GroundingSample,
    ListBenchmark,
    PairSample,
    Target,
)
from av_grounding.evaluation.benchmarks.files import (
    AudioFile,
    BoxMask,
    FileCheck,
    ImageFile,
    SideBySide,
    SummedAudio,
)
from av_grounding.evaluation.benchmarks.vgg_ss import NOTES, media

CITATION = "Mo and Tian, Audio-Visual Grouping Network, CVPR 2023"
TILE_NOTES = (
    "The sources' frames stand side by side, each squeezed to a square and scored as a 224x224 "
    "tile; a source's boxes lie in its own tile. The sounds are summed as waveforms."
)
Source = tuple[str, str]
"""File name and class."""


def open_single(root: Path) -> ListBenchmark:
    """VGG-SS by the class names of vggsound_single_test.csv."""
    listing = FileCheck()
    boxes = _boxes(root, listing)
    rows = listing.bare_rows(root / "vggsound_single_test.csv", 2)
    samples = _samples(root, listing, boxes, [[(row[0], row[1])] for row in rows])
    info = BenchmarkInfo(
        name="vggsound-single",
        task="localisation",
        heads=("sound",),
        citation=CITATION,
        num_expected=5158,
        notes=NOTES,
    )
    return ListBenchmark(info, samples, tuple(listing.problems))


def open_duet(root: Path) -> ListBenchmark:
    """Every clip of the single list mixed with the partner that the list names."""
    listing = FileCheck()
    boxes = _boxes(root, listing)
    rows = listing.bare_rows(root / "vggsound_duet_test.csv", 4)
    sources = [[(row[0], row[1]), (row[2], row[3])] for row in rows]
    info = BenchmarkInfo(
        name="vggsound-duet",
        task="multi_source",
        heads=("sound",),
        citation=CITATION,
        num_expected=5158,
        notes=f"{NOTES} {TILE_NOTES}",
    )
    samples = _samples(root, listing, boxes, sources)
    return ListBenchmark(info, samples, tuple(listing.problems))


def open_trio(root: Path) -> ListBenchmark:
    """Three clips at a time: by vggsound_trio_test.csv, else thirds of the sorted single list."""
    listing = FileCheck()
    boxes = _boxes(root, listing)
    published = root / "vggsound_trio_test.csv"
    if published.is_file():
        rows = listing.bare_rows(published, 6)
        sources = [[(row[0], row[1]), (row[2], row[3]), (row[4], row[5])] for row in rows]
    else:
        sources = thirds(listing, root / "vggsound_single_test.csv")
    info = BenchmarkInfo(
        name="vggsound-trio",
        task="multi_source",
        heads=("sound",),
        citation=CITATION,
        num_expected=None,
        notes=f"{NOTES} {TILE_NOTES} No list is published; without vggsound_trio_test.csv clip i "
        "of the sorted list is mixed with clips i + N/3 and i + 2N/3.",
    )
    samples = _samples(root, listing, boxes, sources)
    return ListBenchmark(info, samples, tuple(listing.problems))


def thirds(listing: FileCheck, path: Path) -> list[list[Source]]:
    """Triples of clips a third of the sorted list apart."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, and no vggsound_trio_test.csv beside it")
    clips = sorted((row[0], row[1]) for row in listing.bare_rows(path, 2))
    third = len(clips) // 3
    return [[clips[i], clips[i + third], clips[i + 2 * third]] for i in range(third)]


def open_recognition(root: Path) -> ListBenchmark:
    """The test clips of vggsound.csv, each with its class; classes.txt restricts the classes."""
    listing, samples = FileCheck(), []
    chosen = None
    if (root / "classes.txt").is_file():
        lines = (root / "classes.txt").read_text(encoding="utf-8").splitlines()
        chosen = {line.strip() for line in lines} - {""}
    for row in listing.bare_rows(root / "vggsound.csv", 4):
        ytid, start, label, split = row[:4]
        if split != "test" or (chosen is not None and label not in chosen):
            continue
        if not start.isdigit():
            listing.malformed_row(ytid, f"start {start!r} is not a whole number of seconds")
            continue
        name = f"{ytid}_{int(start):06d}"
        image, audio = media(root, name)
        if listing.has(name, image, audio):
            samples.append(
                PairSample(
                    id=name,
                    load_image=ImageFile(image),
                    load_clip=AudioFile(audio),
                    head="sound",
                    class_name=label,
                )
            )
    info = BenchmarkInfo(
        name="vggsound-recognition",
        task="recognition",
        heads=("sound",),
        citation="Mo and Morgado, A Unified Audio-Visual Learning Framework, ICML 2023",
        num_expected=None,
        notes="Gallery and queries are the test clips at hand."
        if chosen is None
        else f"Gallery and queries are the test clips of {len(chosen)} chosen classes.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def _boxes(root: Path, listing: FileCheck) -> dict[str, tuple]:
    return {
        str(entry["file"]): listing.boxes(str(entry["file"]), entry["bbox"], "xyxy")
        for entry in listing.entries(root / "vggss.json", ("file", "bbox"))
    }


def _samples(
    root: Path, listing: FileCheck, boxes: dict[str, tuple], mixtures: list[list[Source]]
) -> tuple[GroundingSample, ...]:
    samples = []
    for sources in mixtures:
        name = "+".join(file for file, _ in sources)
        unboxed = [file for file, _ in sources if file not in boxes]
        if unboxed:
            listing.malformed_row(name, f"not in vggss.json: {', '.join(unboxed)}")
            continue
        images, sounds = zip(*(media(root, file) for file, _ in sources), strict=True)
        if not listing.has(name, *images, *sounds):
            continue
        num = len(sources)
        targets = tuple(
            Target(
                head="sound",
                class_name=class_name,
                load_mask=BoxMask(boxes[file], tile=tile, num_tiles=num),
                boxes=tuple(
                    ((tile + left) / num, top, (tile + right) / num, bottom)
                    for left, top, right, bottom in boxes[file]
                ),
                tile=(tile / num, (tile + 1) / num),
            )
            for tile, (file, class_name) in enumerate(sources)
        )
        parts = tuple(AudioFile(path) for path in sounds)
        samples.append(
            GroundingSample(
                id=name,
                load_image=ImageFile(images[0]) if num == 1 else SideBySide(images),
                load_clip=parts[0] if num == 1 else SummedAudio(parts),
                targets=targets,
            )
        )
    return tuple(samples)
