"""Layouts of the data sets that the papers train on: which clips they list, and which are there.

Nothing is opened but the lists; folders are read once, so that millions of clips take seconds.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from av_grounding.files import MAX_LIST_BYTES, brief, read_json, read_text
from av_grounding.training.data.clips import ClipFiles, Listing, Problem

NUM_AUDIOSET_FRAMES = 10
AUDIOSET_LISTS = {
    "train": ("unbalanced_train_segments*.csv", "balanced_train_segments*.csv"),
    "test": ("eval_segments*.csv",),
}
PLACES_PICTURES = ("images", "places_subset", "../places_subset", ".")


class Folders:
    """Which files exist, by listing their folders instead of asking for every file."""

    def __init__(self) -> None:
        self.names = lru_cache(maxsize=None)(self._names)

    @staticmethod
    def _names(folder: Path) -> frozenset[str]:
        try:
            return frozenset(entry.name for entry in os.scandir(folder) if entry.is_file())
        except (OSError, ValueError):  # also for names that no file system takes
            return frozenset()

    def has(self, path: Path) -> bool:
        return path.name in self.names(path.parent)

    def first(self, paths: list[Path]) -> Path | None:
        return next((path for path in paths if self.has(path)), None)


def list_audioset(root: Path, split: str = "train") -> Listing:
    """`metadata/*_segments.csv`, `audio/<YTID>_<start>_<end>.mp3`, `frames/frame_<0-9>/….jpg`.

    Start and end may be written as 30, 30.0 or 30.000. A clip needs its sound and one frame.
    """
    metadata = root / "metadata"
    lists = [path for glob in AUDIOSET_LISTS[split] for path in sorted(metadata.glob(glob))]
    if not lists:
        raise FileNotFoundError(
            f"{metadata}: no {' nor '.join(AUDIOSET_LISTS[split])}; expected AudioSet's lists"
        )
    names = {}
    labels = metadata / "class_labels_indices.csv"
    if labels.exists():
        names = {row[1]: row[2] for row in rows(labels) if len(row) >= 3}
    folders, clips, missing, seen = Folders(), [], [], set()
    for path in lists:
        for ytid, start, end, mids in segments(path):
            stems = [f"{ytid}_{a}_{b}" for a, b in zip(spelled(start), spelled(end), strict=True)]
            if stems[0] in seen:
                continue
            seen.add(stems[0])
            sound = folders.first([root / "audio" / f"{stem}.mp3" for stem in stems])
            frames = tuple(
                frame
                for number in range(NUM_AUDIOSET_FRAMES)
                if (frame := folders.first(
                    [root / "frames" / f"frame_{number}" / f"{stem}.jpg" for stem in stems]
                ))
            )  # fmt: skip
            if sound is None or not frames:
                what = "no frame" if sound else "no sound" if frames else "neither sound nor frame"
                missing.append(Problem(stems[0], what))
                continue
            tags = tuple(names.get(mid, mid) for mid in mids)
            clips.append(ClipFiles(stems[0], sound, frames, labels=tags, recording=ytid))
    return Listing("audioset", tuple(clips), tuple(missing))


def segments(path: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """Rows of a segment list, with or without its header and comments; ValueError for others."""
    for number, row in enumerate(rows(path), 1):
        if not row or row[0].startswith("#") or row[0] == "YTID":
            continue
        if len(row) < 4:
            raise ValueError(
                f"{path}, row {number}: got {brief(row)}, expected YTID, start, end and labels: "
                "fetch it again"
            )
        yield row[0], row[1], row[2], [mid for mid in row[3].strip('"').split(",") if mid]


def rows(path: Path) -> Iterator[list[str]]:
    """Rows of a CSV file; ValueError naming the file where it is none."""
    lines = io.StringIO(read_text(path, MAX_LIST_BYTES), newline="")
    try:
        yield from csv.reader(lines, skipinitialspace=True)
    except csv.Error as error:
        raise ValueError(f"{path}: not valid CSV ({error}); fetch it again") from None


def spelled(seconds: str) -> tuple[str, ...]:
    """A time as file names may write it: 30.000, as it stands, 30.0, 30, 30000 (ms)."""
    try:
        value = float(seconds)
    except ValueError:
        raise ValueError(f"a clip begins or ends at {brief(seconds)}: expected seconds") from None
    return (f"{value:.3f}", seconds, f"{value}", f"{value:.0f}", f"{value * 1000:.0f}")


def list_vggsound(root: Path, split: str = "train") -> Listing:
    """`vggsound.csv` (ytid, start, label, split), `audio/<ytid>_<6 digits>.wav`, `frames/….jpg`.

    Where sound or frame is missing, `video/<same>.mp4` serves.
    """
    path = root / "vggsound.csv"
    folders, clips, missing = Folders(), [], []
    for number, row in enumerate(rows(path), 1):
        if row and len(row) < 4:
            reason = f"got {len(row)} columns, expected ytid, start, label and split"
            missing.append(Problem(f"{path.name}, row {number}", reason))
        if len(row) < 4 or row[3].strip() != split:
            continue
        name = f"{row[0]}_{int(float(spelled(row[1])[1])):06d}"
        sound = folders.first([root / "audio" / f"{name}.wav"])
        frame = folders.first([root / "frames" / f"{name}.jpg"])
        video = folders.first([root / "video" / f"{name}.mp4"])
        if not ((sound and frame) or video):
            parts = [what for what, found in (("sound", sound), ("frame", frame)) if not found]
            missing.append(Problem(name, f"no {' and no '.join(parts)}, and no video"))
            continue
        pair = (sound, (frame,)) if sound and frame else (video, (video,))
        clips.append(ClipFiles(name, *pair, labels=(row[2].strip(),), recording=row[0]))
    return Listing("vggsound", tuple(clips), tuple(missing))


def list_places(root: Path, split: str = "train", pictures: Path | None = None) -> Listing:
    """`metadata/<train|val>.json`: spoken captions and the pictures they describe.

    The base paths in the file are those of the machine that made it: where they do not exist,
    sounds are looked for below `root` and pictures below `pictures`, or in the usual places.
    """
    path = root / "metadata" / f"{'val' if split == 'test' else split}.json"
    content = read_json(path)
    folders, clips, missing = Folders(), [], []
    sounds = [Path(content.get("audio_base_path") or "."), root]
    bases = [Path(content.get("image_base_path") or "."), *(root / p for p in PLACES_PICTURES)]
    bases = [pictures] if pictures else bases
    for row in content["data"]:
        name = row.get("uttid") or Path(row["wav"]).stem
        sound = folders.first([root / base / row["wav"] for base in sounds])
        picture = folders.first([root / base / row["image"] for base in bases])
        if sound is None or picture is None:
            what = [what for what, found in (("sound", sound), ("picture", picture)) if not found]
            missing.append(Problem(name, f"no {' and no '.join(what)}"))
            continue
        clips.append(
            ClipFiles(
                name, sound, (picture,), kind="speech", text=row.get("asr_text", ""),
                recording=row["image"],
            )
        )  # fmt: skip
    return Listing("places", tuple(clips), tuple(missing))
