"""Folders without a list of their own: videos, pictures with sounds, samples of `synth`."""

from __future__ import annotations

from pathlib import Path

from av_grounding.files import (
    MAX_LIST_BYTES,
    STRANGE_ROWS,
    one_line,
    parse_json,
    read_text,
)
from av_grounding.training.data.clips import (
    KINDS,
    PICTURE_SUFFIXES,
    SOUND_SUFFIXES,
    VIDEO_SUFFIXES,
    ClipFiles,
    Listing,
    Problem,
)
from av_grounding.training.data.layouts import list_audioset, list_places, list_vggsound

ROLES = {"video": VIDEO_SUFFIXES, "picture": PICTURE_SUFFIXES, "sound": SOUND_SUFFIXES}
LAYOUTS = ("audioset", "places", "vggsound", "synthetic", "folder")


def detect_layout(root: Path) -> str:
    """Which of `LAYOUTS` the folder has, by the lists in it."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected one with clips")
    for layout, sign in (
        ("audioset", "metadata/class_labels_indices.csv"),
        ("places", "metadata/train.json"),
        ("vggsound", "vggsound.csv"),
        ("synthetic", "manifest.jsonl"),
    ):
        if (root / sign).exists():
            return layout
    return "folder"


def list_clips(
    root: Path, layout: str | None = None, split: str = "train", pictures: Path | None = None
) -> Listing:
    """What a folder holds, by its layout; `split` is the data set's own train or test.

    ValueError for an unknown layout or nothing usable, FileNotFoundError without its lists.
    """
    layout = layout or detect_layout(root)
    try:
        return _listed(root, layout, split, pictures)
    except STRANGE_ROWS as error:
        raise ValueError(
            f"{root}: its lists are not those of the layout {layout} ({type(error).__name__}: "
            f"{one_line(error, 200)}): take them as they are published"
        ) from error


def _listed(root: Path, layout: str, split: str, pictures: Path | None) -> Listing:
    if layout == "audioset":
        return list_audioset(root, split)
    if layout == "vggsound":
        return list_vggsound(root, split)
    if layout == "places":
        return list_places(root, split, pictures)
    if layout == "synthetic":
        return list_synthetic(root)
    if layout == "folder":
        return list_folder(root)
    raise ValueError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")


def list_folder(root: Path) -> Listing:
    """Videos with sound, and pictures and sounds of the same name, anywhere below `root`.

    Clips below `root`/speech are speech that describes its picture, all others sound (see
    `clip_folder`, which reads the same folders for calibration). A picture or a sound alone is
    missing its other half. A video beside a sound of the same name gives the pictures. Of several
    files that could, the first is taken; the others are unused, as are files of no known kind.
    """
    by_name: dict[Path, list[tuple[str, Path]]] = {}
    unused = []
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root)
        if any(part.startswith(".") for part in place.parts) or not path.is_file():
            continue
        suffix = path.suffix.lower()
        roles = [role for role, suffixes in ROLES.items() if suffix in suffixes]
        if roles:
            by_name.setdefault(path.with_suffix(""), []).append((roles[0], path))
        else:
            unused.append(Problem(place.as_posix(), "its name is of no known kind"))
    clips, missing = [], []
    for name, files in by_name.items():
        found: dict[str, Path] = {}
        for role, path in files:
            found.setdefault(role, path)
        ident = name.relative_to(root).as_posix()
        picture = found.get("video") or found.get("picture")
        sound = found.get("sound") or found.get("video")
        for path in (path for _, path in files if path not in (picture, sound)):
            reason = f"{(picture or sound).name} of the same name is used: rename it to use both"
            unused.append(Problem(path.relative_to(root).as_posix(), reason))
        if not (picture and sound):
            lacking = "sound" if picture else "picture"
            missing.append(Problem(ident, f"no {lacking} of the same name"))
            continue
        kind = KINDS[name.relative_to(root).parts[0] == "speech"]
        clips.append(ClipFiles(ident, sound, (picture,), kind=kind, recording=ident))
    return Listing("folder", tuple(clips), tuple(missing), tuple(unused))


def list_synthetic(root: Path) -> Listing:
    """What `av-grounding synth` wrote: every sample's sound, and its speech, with its image."""
    clips, missing = [], []
    for line in read_text(root / "manifest.jsonl", MAX_LIST_BYTES).splitlines():
        row = parse_json(line)
        recording = Path(row["image"]).stem
        for kind in KINDS:
            sound, picture = root / row[f"{kind}_wav"], root / row["image"]
            name = f"{recording}_{kind}"
            if not (sound.exists() and picture.exists()):
                missing.append(Problem(name, f"no {'sound' if picture.exists() else 'picture'}"))
                continue
            clips.append(
                ClipFiles(
                    name, sound, (picture,), kind=kind, labels=(row[f"{kind}_class"],),
                    text=row["text"] if kind == "speech" else "", recording=recording,
                )
            )  # fmt: skip
    return Listing("synthetic", tuple(clips), tuple(missing))
