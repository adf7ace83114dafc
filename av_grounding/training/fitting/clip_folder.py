"""A folder of clips for calibration: what belongs together, and one picture of each."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from av_grounding.files import one_line
from av_grounding.sources.media_file import MediaFile
from av_grounding.training.data.clips import KINDS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipMedia:
    """A picture, or a video, and the sound that belongs to it; `head` None counts for both."""

    picture: MediaFile
    sound: MediaFile
    head: str | None


def find_clips(folder: Path) -> list[ClipMedia]:
    """Videos with sound, and pictures and sounds of the same name, anywhere below `folder`.

    Clips below `folder`/sound or `folder`/speech are for that head. Raises ValueError unless
    there are two or more.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected one with clips, or synthetic")
    by_name: dict[Path, list[MediaFile]] = {}
    unused: list[str] = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(p.startswith(".") for p in path.relative_to(folder).parts):
            continue
        try:
            media = MediaFile(path)
        except ValueError as error:  # a list, a licence, a transcript; or damaged
            unused.append(f"{path.name} ({one_line(error, 200)})")
            continue
        by_name.setdefault(path.with_suffix(""), []).append(media)
    clips = []
    for name, files in by_name.items():
        picture = next((file for file in files if file.has_video), None)
        sounds = sorted((file for file in files if file.has_audio), key=lambda f: f.has_video)
        used = [picture, *sounds[:1]] if picture is not None and sounds else []
        unused += [file.path.name for file in files if file not in used]
        if used:
            top = name.relative_to(folder).parts[0]
            clips.append(ClipMedia(picture, sounds[0], top if top in KINDS else None))
    if unused:
        logger.warning(
            "%s: %d files are part of no clip, first %s", folder, len(unused), unused[0]
        )
    if len(clips) < 2:
        raise ValueError(
            f"{folder} has {len(clips)} clips; expected at least 2: videos with sound, or "
            "pictures and sounds of the same name"
        )
    return clips
