"""Clips of one kind and split, from shards or straight from the files of a layout."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from av_grounding.training.data import media
from av_grounding.training.data.clips import KINDS, Clip, ClipFiles, ClipSet, split_of
from av_grounding.training.data.folder import list_clips
from av_grounding.training.data.shard_writer import INDEX
from av_grounding.training.data.shards import ShardClips, find_shards, near

VALIDATION_FRACTION = 0.02
NUM_PLACES = 16
"""So many are listened to in a file until something is heard."""


class FileClips(ClipSet):
    """A `ClipSet` straight from media files: for small sets; `data shard` is many times faster."""

    def __init__(self, files: list[ClipFiles], sample_rate_hz: int, max_s: float) -> None:
        self.files, self.sample_rate_hz, self.max_s = files, sample_rate_hz, max_s
        self.sizes = [len(files)]

    def paths(self) -> list[Path]:
        parts = ((one.sound, *one.pictures) for one in self.files)
        return [path for files in parts for path in dict.fromkeys(files)]

    def read(self, index: int, rng: np.random.Generator) -> Clip:
        """`max_s` seconds of clip `index`, from a random place of a video that is longer.

        Where nothing is heard there another place is tried: microphones are muted and stop.
        """
        files = self.files[index]
        picture = files.pictures[int(rng.integers(len(files.pictures)))]
        if not (files.is_video and files.sound == picture):
            waveform, rate = media.read_waveform(
                files.sound, self.sample_rate_hz, duration_s=self.max_s
            )
            middle_s = 0.5 * len(waveform) / rate
            if files.is_video:
                image = media.read_frames(picture, [middle_s])[0]
            else:
                image = media.read_still(picture)
            return Clip(files.id, waveform, rate, image)
        file = media.open_media(picture)
        spare_s = (file.duration_s or 0.0) - self.max_s
        clip_s = self.max_s if spare_s > 0.0 else file.duration_s or self.max_s
        with closing(file.sound_reader()) as sound, closing(file.picture_reader()) as pictures:
            for _ in range(NUM_PLACES if spare_s > 0.1 else 1):
                start_s = float(rng.uniform(0.0, spare_s)) if spare_s > 0.1 else 0.0
                waveform, rate = media.checked_sound(sound, self.sample_rate_hz, start_s, clip_s)
                if not media.is_muted(waveform):
                    break
            image = pictures.at(start_s + 0.5 * len(waveform) / rate)
        return Clip(files.id, waveform, rate, image)


def holds_clips(data: Path) -> bool:
    """Whether a folder holds shards or clips: the alternative is a folder of synthetic banks."""
    is_bank = any((data / name).is_dir() for name in ("scenes", "stages"))
    return data.is_dir() and not is_bank and any(data.iterdir())


def check_clips(data: Path) -> None:
    """ValueError, with the remedy, unless `data` holds shards or clips."""
    if not holds_clips(data):
        raise ValueError(
            f"{data} holds no clips; --preset paper trains on real data: expected a folder of "
            "shards or clips (see data shard)"
        )


def open_clips(
    data: Path,
    split: str,
    sample_rate_hz: int,
    max_s: float,
    validation_fraction: float = VALIDATION_FRACTION,
) -> dict[str, ClipSet]:
    """Kind -> its clips, for the kinds that `data` has in this split.

    Raises FileNotFoundError or ValueError where there is nothing to train on.
    """
    if near(data, INDEX) or near(data, "*.tar"):
        shards = find_shards(data, split)
        by_kind = {kind: [s for s in shards if s.kind == kind] for kind in KINDS}
        return {k: ShardClips(found, sample_rate_hz) for k, found in by_kind.items() if found}
    listing = list_clips(data)
    of_split = [
        files
        for files in listing.clips
        if split_of(files.recording or files.id, validation_fraction) == split
    ]
    found = {kind: [files for files in of_split if files.kind == kind] for kind in KINDS}
    return {k: FileClips(files, sample_rate_hz, max_s) for k, files in found.items() if files}
