"""Reading clips from WebDataset shards, in any order and from any process.

Tar files keep every member at a place of its own: so a clip is three reads at known places, and
a training run can be resumed at any batch. (Streaming readers of the same shards would have to
read up to that place again, and a shuffle buffer would be lost.) Nothing is unpickled.
"""

from __future__ import annotations

import logging
import os
import tarfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from av_grounding.files import STRANGE_ROWS, brief, one_line, read_json
from av_grounding.training.data import media
from av_grounding.training.data.clips import (
    KINDS,
    PICTURE_SUFFIXES,
    SOUND_SUFFIXES,
    Clip,
    ClipSet,
)
from av_grounding.training.data.shard_writer import FORMAT, INDEX

logger = logging.getLogger(__name__)
MAX_OPEN = 24
MAX_LISTED = 10
MAX_INDEX_BYTES = 1 << 26


@dataclass(frozen=True)
class Shard:
    path: Path
    kind: str
    num_clips: int


@dataclass(frozen=True)
class Member:
    """Where the bytes of one file of a clip are."""

    suffix: str
    offset: int
    num_bytes: int


def near(root: Path, pattern: str) -> list[Path]:
    """Matches in a folder and in those just below it: data sets hold millions of files deeper."""
    return sorted([*root.glob(pattern), *root.glob(f"*/{pattern}")])


def find_shards(root: Path, split: str) -> list[Shard]:
    """Shards of a split in `root`, or in all sets that lie side by side in it.

    A folder of tar files without an index, made by another program, counts as training data,
    and as speech where its name says so. ValueError for an index of another version.
    """
    shards = []
    for path in near(root, INDEX):
        try:
            shards += _indexed(path, split)
        except STRANGE_ROWS as error:
            raise ValueError(
                f"{path}: no index of shards ({type(error).__name__}: {one_line(error, 200)}); "
                "write them again with av-grounding data shard"
            ) from error
    if split == "train" and not near(root, INDEX):
        for path in near(root, "*.tar"):
            clips = list_members(path)
            if clips:
                shards.append(Shard(path, KINDS["speech" in path.stem], len(clips)))
    return shards


def _indexed(path: Path, split: str) -> list[Shard]:
    """The shards that an index lists; they lie beside or below it."""
    index = read_json(path, MAX_INDEX_BYTES)
    if index.get("format") != FORMAT:
        raise ValueError(
            f"{path}: shards of format {brief(index.get('format'))}; expected {FORMAT}: write "
            "them again with av-grounding data shard"
        )
    shards = []
    for row in index["shards"]:
        name, kind, num_clips = row["file"], row["kind"], row["num_clips"]
        if (
            not _is_inside(name)
            or kind not in KINDS
            or type(num_clips) is not int
            or num_clips < 0
        ):
            raise ValueError(f"{path}: {brief(row)} is no shard; expected a file, kind and number")
        if row["split"] == split:
            shards.append(Shard(path.parent / name, kind, num_clips))
    return shards


def _is_inside(name: object) -> bool:
    """Whether a name leads nowhere but further down."""
    is_text = isinstance(name, str) and name != "" and "\0" not in name
    return is_text and not Path(name).is_absolute() and ".." not in Path(name).parts


def list_members(path: Path) -> list[list[Member]]:
    """The files of every clip of a tar, in its order; ValueError for one that is cut short."""
    clips: OrderedDict[str, list[Member]] = OrderedDict()
    size, last = path.stat().st_size, -1
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                # A negative size would lead back, and around for ever.
                if info.offset <= last or not 0 <= info.size <= size - info.offset_data:
                    raise tarfile.TarError(f"{brief(info.name)} lies outside of the file")
                last = info.offset
                if info.isreg() and not info.issparse():
                    folder, _, base = info.name.rpartition("/")
                    key, _, suffix = base.partition(".")
                    member = Member(suffix.lower(), info.offset_data, info.size)
                    clips.setdefault(f"{folder}/{key}", []).append(member)
    except (tarfile.TarError, OSError, EOFError, ValueError, *STRANGE_ROWS) as error:
        raise ValueError(f"{path}: no readable tar ({one_line(error)}); write it again") from error
    return list(clips.values())


class ShardClips(ClipSet):
    """A `ClipSet` of shards of one kind; safe to share with forked workers."""

    def __init__(self, shards: list[Shard], sample_rate_hz: int) -> None:
        self.shards, self.sample_rate_hz = shards, sample_rate_hz
        self.sizes = [shard.num_clips for shard in shards]
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self._open: OrderedDict[int, tuple[int, list[list[Member]]]] = OrderedDict()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": OrderedDict()}

    def paths(self) -> list[Path]:
        return [shard.path for shard in self.shards]

    def read(self, index: int, rng: np.random.Generator, still: int | None = None) -> Clip:
        """Clip `index`; ValueError where it is damaged or has another sample rate.

        With `still` that one of its pictures, instead of any.
        """
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        path = self.shards[number].path
        file, clips = self.opened(number)
        members = clips[index - int(self.starts[number])]
        stills = [m for m in members if f".{m.suffix.rsplit('.', 1)[-1]}" in PICTURE_SUFFIXES]
        sounds = [m for m in members if f".{m.suffix.rsplit('.', 1)[-1]}" in SOUND_SUFFIXES]
        name = f"{path}[{index - int(self.starts[number])}]"
        if not (stills and sounds):
            found = ", ".join(brief(member.suffix)[1:-1] for member in members[:MAX_LISTED])
            raise ValueError(f"{name}: has {found}; expected a picture and a sound")
        chosen = stills[int(rng.integers(len(stills))) if still is None else still]
        image = media.decode_picture(pread(file, chosen), name)
        waveform, rate = media.decode_sound(pread(file, sounds[0]), name)
        if rate != self.sample_rate_hz:
            raise ValueError(
                f"{name}: sound at {rate} Hz, but the model hears {self.sample_rate_hz} Hz: write "
                f"the shards again with --sample-rate {self.sample_rate_hz}"
            )
        return Clip(name, waveform, rate, image)

    def opened(self, number: int) -> tuple[int, list[list[Member]]]:
        if number not in self._open:
            path = self.shards[number].path
            clips = list_members(path)
            if len(clips) < self.sizes[number]:
                raise ValueError(
                    f"{path}: holds {len(clips)} clips of {self.sizes[number]}: copy it again"
                )
            self._open[number] = (os.open(path, os.O_RDONLY), clips)
            if len(self._open) > MAX_OPEN:
                os.close(self._open.popitem(last=False)[1][0])
        self._open.move_to_end(number)
        return self._open[number]

    def __del__(self) -> None:
        for file, _ in self._open.values():
            os.close(file)


def pread(file: int, member: Member) -> bytes:
    """At a place of its own, so that processes that share the file do not move each other."""
    return os.pread(file, member.num_bytes, member.offset)
