"""A folder of clips for calibration: what belongs together, and one picture of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from av_grounding.audio import NS_PER_S
from av_grounding.sources.media_file import MediaFile

HEADS = ("sound", "speech")


@dataclass(frozen=True)
class Clip:
    """A picture, or a video, and the sound that belongs to it; `head` None counts for both."""

    picture: MediaFile
    sound: MediaFile
    head: str | None


def find_clips(folder: Path) -> list[Clip]:
    """Videos with sound, and pictures and sounds of the same name, anywhere below `folder`.

    Clips below `folder`/sound or `folder`/speech are for that head. Raises ValueError unless
    there are two or more.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected one with clips, or synthetic")
    by_name: dict[Path, list[MediaFile]] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(p.startswith(".") for p in path.relative_to(folder).parts):
            continue
        try:
            media = MediaFile(path)
        except ValueError:  # A list, a licence, a transcript: no medium.
            continue
        by_name.setdefault(path.with_suffix(""), []).append(media)
    clips = []
    for name, files in by_name.items():
        picture = next((file for file in files if file.has_video), None)
        sounds = sorted((file for file in files if file.has_audio), key=lambda f: f.has_video)
        if picture is not None and sounds:
            top = name.relative_to(folder).parts[0]
            clips.append(Clip(picture, sounds[0], top if top in HEADS else None))
    if len(clips) < 2:
        raise ValueError(
            f"{folder} has {len(clips)} clips; expected at least 2: videos with sound, or "
            "pictures and sounds of the same name"
        )
    return clips


def middle_frame(media: MediaFile) -> UInt8[np.ndarray, "H W 3"]:
    """The first frame of the second half; the last one where the length is not known."""
    middle_ns = (media.duration_s or float("inf")) / 2 * NS_PER_S
    image = None
    frames = media.video_frames()
    try:
        for frame in frames:
            image = frame.image
            if frame.stamp_ns >= middle_ns:
                break
    finally:
        frames.close()
    if image is None:
        raise ValueError(f"{media.path}: no frame decodes; remove it from the folder")
    return image
