"""What training data is made of: clips on disk, what a layout lists, and one decoded clip."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.files import one_line

KINDS = ("sound", "speech")
SPLITS = ("train", "val")
# Of phones, camcorders, cameras, browsers and recorders. A .gif shows a video to another sound.
VIDEO_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".mpe",
    ".m2v", ".vob", ".mod", ".tod", ".ts", ".m2ts", ".m2t", ".mts", ".tts", ".trp", ".3gp",
    ".3gpp", ".3g2", ".3gp2", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".mxf", ".dv", ".nut",
    ".rm", ".rmvb", ".mj2", ".y4m", ".mjpg", ".mjpeg", ".gif", ".insv", ".lrv", ".360",
}  # fmt: skip
PICTURE_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".heic", ".heif", ".hif", ".avif", ".jp2", ".ppm", ".pgm", ".pnm", ".pbm",
}  # fmt: skip
SOUND_SUFFIXES = {
    ".wav", ".wave", ".w64", ".rf64", ".flac", ".mp3", ".mp2", ".mpga", ".ogg", ".oga",
    ".opus", ".spx", ".m4a", ".m4b", ".m4r", ".mp4a", ".aac", ".adts", ".wma", ".amr", ".awb",
    ".3ga", ".aif", ".aiff", ".aifc", ".caf", ".au", ".snd", ".mka", ".weba", ".ac3", ".eac3",
    ".dts", ".wv", ".ape", ".tta", ".voc", ".alac",
}  # fmt: skip


@dataclass(frozen=True)
class ClipFiles:
    """A clip that a layout lists, its files not opened yet.

    `pictures` are stills of the clip, or the one video whose sound it is.
    """

    id: str
    sound: Path
    pictures: tuple[Path, ...]
    kind: str = "sound"
    """speech: it describes the picture. sound: whatever else is heard."""
    labels: tuple[str, ...] = ()
    text: str = ""
    recording: str = ""
    """Clips of one recording never come on both sides of the validation split."""

    @property
    def is_video(self) -> bool:
        return self.pictures[0].suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Problem:
    """A clip that cannot be used, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What a data set lists: clips whose files are there, and those whose are not.

    `unused` are files that lie there and are no part of a clip.
    """

    layout: str
    clips: tuple[ClipFiles, ...]
    missing: tuple[Problem, ...] = ()
    unused: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        if not self.clips:
            found = f"{len(self.missing)} are missing" if self.missing else "none is listed"
            first = "".join(f", first {one_line(p.id, 80)}: {p.reason}" for p in self.missing[:1])
            raise ValueError(
                f"the {self.layout} data has no clip whose files are there ({found}{first}); "
                "expected the folders of its layout"
            )


@dataclass(frozen=True)
class Clip:
    """One decoded clip: (s,) float32 mono, one picture of it."""

    id: str
    waveform: Float32[np.ndarray, " s"]
    sample_rate_hz: int
    image: UInt8[np.ndarray, "H W 3"]


class ClipSet:
    """Clips of one kind and split, in any order; reading raises ValueError for unreadable ones."""

    sizes: list[int]
    """Clips per shard: neighbours in a shard are cheap to read together."""

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitem__(
        self, index: int
    ) -> tuple[UInt8[np.ndarray, "H W 3"], Float32[np.ndarray, " s"]]:
        """Picture and waveform of a clip, the same ones every time."""
        clip = self.read(index, np.random.default_rng(index))
        return clip.image, clip.waveform

    def paths(self) -> list[Path]:
        """The files that the clips lie in."""
        raise NotImplementedError(f"{type(self).__name__} does not tell its files")

    def read(self, index: int, rng: np.random.Generator) -> Clip:
        """Clip `index`; `rng` chooses among its pictures, and in a long file the place."""
        raise NotImplementedError(f"{type(self).__name__} does not read")


def split_of(recording: str, validation_fraction: float) -> str:
    """train or val, by the recording's name alone, so that it is the same in every run."""
    digest = hashlib.blake2b(recording.encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    return "val" if place < validation_fraction else "train"
