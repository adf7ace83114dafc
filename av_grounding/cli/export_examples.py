"""`av-grounding export --examples VIDEO|BAG|FOLDER`: where real inputs are read from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from av_grounding.cli.run_bag import PREFIX

if TYPE_CHECKING:
    from av_grounding.backends.parity import Examples
    from av_grounding.evaluation.export_examples import ExampleRecording
    from av_grounding.types import ModelSpec

BAG_SUFFIXES = {".mcap", ".db3", ".bag"}


def read_examples(
    where: str,
    spec: ModelSpec,
    image_size: tuple[int, int],
    num: int,
    advance: Callable[[int], None],
) -> tuple[Examples, Examples]:
    """(calibration, test) from a media file, a bag, or a folder of media files.

    A folder's pictures without sound are paired with its sounds without picture, in the order of
    their names. Raises FileNotFoundError or ValueError for what gives nothing.
    """
    from av_grounding.evaluation.export_examples import ExampleRecording, split_examples

    path = Path(where.removeprefix(PREFIX))
    if not path.exists():
        raise FileNotFoundError(f"no examples at {path}: name a video, a bag or a folder of them")

    def recording() -> ExampleRecording:
        return ExampleRecording(spec, image_size)

    if is_bag(where, path):
        files, pairs = [], _of_bag(path, recording())
    else:
        inside = path.iterdir() if path.is_dir() else [path]
        files, pairs = sorted(file for file in inside if file.is_file()), []
    silent, unseen = recording(), []
    for number, file in enumerate(files):
        advance(number)
        one = recording()
        _read_media(file, one, is_only=path.is_file())
        pairs += one.pairs()
        if one.pictures and not one.chunks:
            silent.pictures += one.pictures
        elif one.chunks and not one.pictures:
            unseen.append(one)
    for number, (_, picture) in enumerate(silent.pictures):
        if unseen:
            sound = unseen[number % len(unseen)]
            sound.pictures = [(sound.begin_ns, picture)]
            pairs += sound.pairs()
    return split_examples(pairs, num, str(path))


def is_bag(where: str, path: Path) -> bool:
    return (
        where.startswith(PREFIX)
        or path.suffix.lower() in BAG_SUFFIXES
        or (path / "metadata.yaml").is_file()
    )


def _of_bag(path: Path, recording: ExampleRecording) -> list:
    from av_grounding.transports.bag.source import open_bag

    video, audio, _ = open_bag(path, realtime=False)
    for source in (audio, video):
        if source is not None:
            try:
                recording.read(source)
            finally:
                source.close()
    return recording.pairs()


def _read_media(path: Path, recording: ExampleRecording, *, is_only: bool) -> None:
    """What a file holds; nothing of one that is no medium, unless it is the only one."""
    from av_grounding.sources.media_file import MediaFile

    try:
        file = MediaFile(path)
        sources = [
            *([file.audio_chunks()] if file.has_audio else []),
            *([file.video_frames()] if file.has_video else []),
        ]
    except (ValueError, OSError):
        if is_only:
            raise
        return
    for source in sources:
        try:
            recording.read(source)
        finally:
            source.close()
