"""Retrieval and disentanglement: PlacesAudio (Harwath et al.) and AudioSet (Gemmeke et al.)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from av_grounding.evaluation.benchmark import BenchmarkInfo, ListBenchmark, PairSample
from av_grounding.evaluation.benchmarks.files import AudioFile, FileCheck, ImageFile, read_json

GALLERY_SIZE = 1000
GALLERY_SEED = 0
MIDDLE_FRAME = 5


def open_places_audio(root: Path) -> ListBenchmark:
    """1,000 pictures and the sentences that describe them."""
    listing, samples = FileCheck(), []
    content = read_json(root / "metadata" / "val.json")
    rows = content.get("data") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f"{root / 'metadata/val.json'}: expected an object with a list `data`")
    images = root / "images"
    images = images if images.is_dir() else root.parent / "places_subset"
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not {"wav", "image"} <= row.keys():
            listing.malformed_row(f"val.json[{number}]", f"lacks wav or image: {row}")
            continue
        name = str(row.get("uttid", Path(row["wav"]).stem))
        audio = root / "wavs" / row["wav"].removeprefix("wavs/")
        image = images / row["image"]
        if listing.has(name, image, audio):
            samples.append(
                PairSample(
                    id=name,
                    load_image=ImageFile(image),
                    load_clip=AudioFile(audio),
                    head="speech",
                    text=str(row.get("asr_text", "")),
                )
            )
    info = BenchmarkInfo(
        name="places-audio",
        task="retrieval",
        heads=("speech",),
        citation="Harwath et al., Jointly Discovering Visual Objects and Spoken Words, ECCV 2018",
        num_expected=GALLERY_SIZE,
        notes="The validation list of PlacesAudio 400k; a missing file makes the gallery smaller.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def open_audioset(root: Path) -> ListBenchmark:
    """1,000 clips of the evaluation segments, drawn once and for all, with their middle frame."""
    listing, samples = FileCheck(), []
    names = _class_names(root / "metadata" / "class_labels_indices.csv", listing)
    rows = _segments(root / "metadata" / "eval_segments.csv", listing)
    # Publications draw their own 1,000 and do not list them: this order is a fixed one.
    for index in np.random.default_rng(GALLERY_SEED).permutation(len(rows)):
        if len(samples) == GALLERY_SIZE:
            break
        ytid, start, end, labels = rows[index]
        name = f"{ytid}_{start}_{end}"
        audio = root / "audio" / f"{name}.mp3"
        image = root / "frames" / f"frame_{MIDDLE_FRAME}" / f"{name}.jpg"
        if listing.has(name, image, audio):
            samples.append(
                PairSample(
                    id=name,
                    load_image=ImageFile(image),
                    load_clip=AudioFile(audio),
                    head="sound",
                    class_name=names.get(labels[0], labels[0]),
                    text=", ".join(names.get(label, label) for label in labels),
                )
            )
    info = BenchmarkInfo(
        name="audioset",
        task="retrieval",
        heads=("sound",),
        citation="Gemmeke et al., Audio Set, ICASSP 2017",
        num_expected=GALLERY_SIZE,
        notes="No list of 1,000 clips is published: the segments, sorted by name, are shuffled "
        f"with seed {GALLERY_SEED}, and the first 1,000 with both files are taken; frame "
        f"{MIDDLE_FRAME} of 10. Numbers of galleries with other clips are not comparable.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def open_disentanglement(root: Path) -> ListBenchmark:
    """Both galleries together, spoken and sounding clips in turn: which head answers which?"""
    parts = (open_audioset(root / "audioset"), open_places_audio(root / "places-audio"))
    num = min(map(len, parts))
    samples = tuple(part[index] for index in range(num) for part in parts)
    info = BenchmarkInfo(
        name="audioset-places-disentanglement",
        task="disentanglement",
        heads=("sound", "speech"),
        citation='Hamilton et al., Separating the "Chirp" from the "Chat", CVPR 2024',
        num_expected=2 * GALLERY_SIZE,
        notes="As many clips of AudioSet as of PlacesAudio; see the notes of both.",
    )
    return ListBenchmark(info, samples, tuple(p for part in parts for p in part.problems))


def _class_names(path: Path, listing: FileCheck) -> dict[str, str]:
    if not path.is_file():
        return {}
    return {row["mid"]: row["display_name"] for row in listing.rows(path, ("mid", "display_name"))}


def _segments(path: Path, listing: FileCheck) -> list[tuple[str, str, str, list[str]]]:
    """YTID, start, end and labels, sorted; AudioSet's own lists begin with `#` lines."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(("#", "YTID")):
            continue
        # The labels hold commas themselves: quoted, behind the third comma.
        fields = [field.strip() for field in line.split(",", 3)]
        try:
            # Files are named by the seconds as floating-point numbers: 30.0, not 30.000.
            times = [str(float(field)) for field in fields[1:3]]
            labels = fields[3].strip('"')
        except (ValueError, IndexError):
            labels = ""
        if labels:
            rows.append((fields[0], *times, labels.split(",")))
        else:
            listing.malformed_row(f"{path.name}:{number}", line)
    return sorted(rows)
