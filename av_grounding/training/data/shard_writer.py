"""WebDataset shards from any layout: tar files of short clips that decode quickly.

A clip is `<key>.json`, `<key>.flac` (mono, one rate) and `<key>.<n>.jpg`. Files longer than a
clip are cut, a video into one clip after the other. What was missing or unreadable is in
`problems.jsonl` with its reason; nothing takes its place. Clips in which nothing is heard are
listed there too, and left out where that is asked for.
"""

from __future__ import annotations

import io
import json
import math
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.files import write_text
from av_grounding.training.data import media
from av_grounding.training.data.clips import (
    KINDS,
    SPLITS,
    ClipFiles,
    Listing,
    Problem,
    split_of,
)
from av_grounding.training.data.shard_workers import run_in_workers
from av_grounding.training.loop.run_folder import differences

INDEX, PROBLEMS, PLAN = "shards.json", "problems.jsonl", "plan.json"
FORMAT = 1
# A piece of a video that is shorter is no clip.
MIN_PIECE_S = 1.0
# Far from memory limits, near enough to see and to resume.
MAX_PIECES = 360


@dataclass(frozen=True)
class ShardConfig:
    """How clips are stored. `files_per_shard` counts listed clips, before long ones are cut.

    `validation_fraction` of the recordings become the validation split, by their names.
    """

    clip_s: float = 10.0
    sample_rate_hz: int = 16_000
    short_side_px: int = 256
    num_frames: int = 3
    files_per_shard: int = 256
    validation_fraction: float = 0.02
    leave_out_muted: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (
            ("clip_s", 0.5, 3600.0), ("sample_rate_hz", 4000, 192_000),
            ("short_side_px", 16, 8192), ("num_frames", 1, 100),
            ("files_per_shard", 1, 100_000), ("validation_fraction", 0.0, 1.0),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {low} to {high}")


@dataclass(frozen=True)
class Piece:
    """A clip as it is stored: the suffix and the bytes of its files."""

    number: int
    members: dict[str, bytes]
    start_s: float
    duration_s: float
    is_muted: bool


def write_shards(
    listing: Listing,
    out: Path,
    config: ShardConfig,
    *,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write `out`/<split>/<kind>-<number>.tar and shards.json; returns the report.

    A second call with the same listing and settings goes on behind the finished shards; with
    others it raises ValueError. Raises OSError when the disk is full, and RuntimeError when a
    worker was killed; the finished shards stay.
    """
    out.mkdir(parents=True, exist_ok=True)
    tasks = plan(listing, config)
    settle_plan(out / PLAN, listing, config, len(tasks))
    waiting = [task for task in tasks if not (out / f"{task[0]}.json").exists()]
    total = sum(len(files) for _, files in tasks)
    done = total - sum(len(files) for _, files in waiting)
    if progress:
        progress(done, total)
    try:
        with closing(run_tasks(waiting, out, config, num_workers)) as sizes:
            for num_files in sizes:
                done += num_files
                if progress:
                    progress(done, total)
    except BrokenProcessPool as error:
        num_done = sum((out / f"{name}.json").exists() for name, _ in tasks)
        raise RuntimeError(
            f"a worker process was killed, as happens when memory runs out; {num_done} of "
            f"{len(tasks)} shards are written and stay: run the same command again with fewer "
            f"--workers than {num_workers}"
        ) from error
    return write_index(out, [name for name, _ in tasks], listing, config)


def plan(listing: Listing, config: ShardConfig) -> list[tuple[str, tuple[ClipFiles, ...]]]:
    """Name and clips of every shard: shuffled once, so that a shard is a fair sample."""
    order = np.random.default_rng(0).permutation(len(listing.clips))
    groups: dict[tuple[str, str], list[ClipFiles]] = {}
    for index in order:
        files = listing.clips[index]
        split = split_of(files.recording or files.id, config.validation_fraction)
        groups.setdefault((split, files.kind), []).append(files)
    size = config.files_per_shard
    return [
        (f"{split}/{kind}-{number:06d}", tuple(group[number * size : (number + 1) * size]))
        for (split, kind), group in sorted(groups.items())
        for number in range(math.ceil(len(group) / size))
    ]


def settle_plan(path: Path, listing: Listing, config: ShardConfig, num_shards: int) -> None:
    """Remember what is being written; refuse to go on with something else."""
    now = {"layout": listing.layout, "num_clips": len(listing.clips), "num_shards": num_shards}
    now |= asdict(config)
    if path.exists():
        then = json.loads(path.read_text(encoding="utf-8"))
        if changed := differences(then, now):
            raise ValueError(
                f"{path.parent} was begun from other data or settings ({'; '.join(changed)}): "
                "use them again or another --out"
            )
    write_text(path, json.dumps(now, indent=2))


def run_tasks(
    tasks: list[tuple[str, tuple[ClipFiles, ...]]],
    out: Path,
    config: ShardConfig,
    num_workers: int,
) -> Iterator[int]:
    """Write shards, in other processes where there are several; yields files as they are done."""
    arguments = [(out, name, files, config) for name, files in tasks]
    if num_workers <= 1 or len(tasks) <= 1:
        yield from map(write_shard, arguments)
        return
    yield from run_in_workers(write_shard, arguments, min(num_workers, len(tasks)))


def write_shard(task: tuple[Path, str, tuple[ClipFiles, ...], ShardConfig]) -> int:
    """One tar and, once it is whole, its record beside it; returns how many files it took."""
    out, name, sources, config = task
    path = out / f"{name}.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        record = fill_shard(partial, sources, config)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    if record["num_clips"]:
        os.replace(partial, path)
    else:
        partial.unlink()
    write_text(out / f"{name}.json", json.dumps(record))
    return len(sources)


def fill_shard(path: Path, sources: tuple[ClipFiles, ...], config: ShardConfig) -> dict[str, Any]:
    """All readable clips into one tar; returns how many, how long, and what was unreadable."""
    problems, muted, num_clips, duration_s = [], [], 0, 0.0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, files in enumerate(sources):
            try:
                for piece in encoded_pieces(files, config):
                    if piece.is_muted:
                        reason = f"nothing is heard for {piece.duration_s:.1f} s"
                        problem = Problem(files.id, f"{reason} from {piece.start_s:.1f} s on")
                        muted.append(asdict(problem))
                        if config.leave_out_muted:
                            continue
                    key = f"{number:06d}_{piece.number:03d}"
                    for suffix, data in piece.members.items():
                        info = tarfile.TarInfo(f"{key}.{suffix}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
                    num_clips += 1
                    duration_s += piece.duration_s
            except ValueError as error:
                problems.append(asdict(Problem(files.id, str(error))))
    return {
        "num_clips": num_clips, "duration_s": round(duration_s, 2), "problems": problems,
        "muted": muted,
    }  # fmt: skip


def encoded_pieces(files: ClipFiles, config: ShardConfig) -> Iterator[Piece]:
    """The clips of one listed clip, encoded; ValueError where it does not decode further."""
    is_cut = files.is_video and files.sound == files.pictures[0]
    sound_file = media.open_media(files.sound)
    with ExitStack() as opened:
        sound = opened.enter_context(closing(sound_file.sound_reader()))
        video = None
        if files.is_video:
            file = sound_file if is_cut else media.open_media(files.pictures[0])
            video = opened.enter_context(closing(file.picture_reader()))
        whole_s = sound_file.measured_duration_s()
        num_pieces = 1 + int((whole_s - MIN_PIECE_S) / config.clip_s) if is_cut else 1
        for number in range(min(max(1, num_pieces), MAX_PIECES)):
            start_s = number * config.clip_s
            waveform, _ = media.checked_sound(
                sound, config.sample_rate_hz, start_s, min(config.clip_s, whole_s - start_s)
            )
            duration_s = len(waveform) / config.sample_rate_hz
            places = (np.arange(config.num_frames) + 0.5) / config.num_frames
            if video is not None:
                images = [video.at(start_s + place * duration_s) for place in places]
            else:
                chosen = sorted({int(place * len(files.pictures)) for place in places})
                images = [media.read_still(files.pictures[index]) for index in chosen]
            yield encoded_piece(files, config, number, waveform, images)
    if num_pieces > MAX_PIECES:
        raise ValueError(
            f"lasts {whole_s:.0f} s, of which the first {MAX_PIECES * config.clip_s:.0f} s are "
            "used: cut it into several files"
        )


def encoded_piece(
    files: ClipFiles,
    config: ShardConfig,
    number: int,
    waveform: Float32[np.ndarray, " s"],
    images: list[UInt8[np.ndarray, "H W 3"]],
) -> Piece:
    start_s, duration_s = number * config.clip_s, len(waveform) / config.sample_rate_hz
    is_muted = media.is_muted(waveform)
    meta = {
        "id": files.id, "kind": files.kind, "labels": list(files.labels), "text": files.text,
        "recording": files.recording or files.id, "start_s": start_s, "is_muted": is_muted,
        "duration_s": round(duration_s, 3), "sample_rate_hz": config.sample_rate_hz,
    }  # fmt: skip
    members = {
        "json": json.dumps(meta).encode(),
        "flac": media.encode_flac(waveform, config.sample_rate_hz),
    }
    for i, image in enumerate(images):
        members[f"{i}.jpg"] = media.encode_jpeg(media.shrink(image, config.short_side_px))
    return Piece(number, members, start_s, duration_s, is_muted)


def write_index(
    out: Path, names: list[str], listing: Listing, config: ShardConfig
) -> dict[str, Any]:
    """shards.json, which training reads, and problems.jsonl, which people read."""
    records = {name: json.loads((out / f"{name}.json").read_text()) for name in names}
    unreadable = [p for record in records.values() for p in record["problems"]]
    muted = [p for record in records.values() for p in record["muted"]]
    missing = [asdict(problem) for problem in listing.missing]
    unused = [asdict(problem) for problem in listing.unused]
    lines = [{"why": "missing", **p} for p in missing]
    lines += [{"why": "unreadable", **p} for p in unreadable]
    lines += [{"why": "muted", **p} for p in muted]
    lines += [{"why": "unused", **p} for p in unused]
    write_text(out / PROBLEMS, "".join(json.dumps(line) + "\n" for line in lines))
    shards = [
        {"file": f"{name}.tar", "split": name.split("/")[0],
         "kind": name.split("/")[1].rsplit("-", 1)[0], "num_clips": record["num_clips"]}
        for name, record in records.items()
        if record["num_clips"]
    ]  # fmt: skip
    counts = Counter()
    for shard in shards:
        counts[f"{shard['split']} {shard['kind']}"] += shard["num_clips"]
    report = {
        "layout": listing.layout,
        "num_listed": len(listing.clips) + len(listing.missing),
        "num_missing": len(listing.missing),
        "num_unreadable": len({p["id"] for p in unreadable}),
        "num_muted": len(muted),
        "num_unused": len(unused),
        "num_clips": {f"{s} {k}": counts[f"{s} {k}"] for s in SPLITS for k in KINDS},
        "hours": round(sum(r["duration_s"] for r in records.values()) / 3600, 4),
        "problems": str(out / PROBLEMS),
    }
    if not shards:
        raise ValueError(f"none of {len(listing.clips)} clips can be used: see {out / PROBLEMS}")
    index = {"format": FORMAT, **asdict(config), "report": report, "shards": shards}
    write_text(out / INDEX, json.dumps(index, indent=2))
    return report
