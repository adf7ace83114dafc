"""Captions for all shards of a data set: by a multimodal model, or from their labels alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from av_grounding.drawing.captions import draw_text
from av_grounding.drawing.png import write_png
from av_grounding.files import brief, one_line, parse_json, write_json, write_text
from av_grounding.image import ResizeTransform
from av_grounding.training.data import media
from av_grounding.training.data.captions import (
    CaptionRow,
    captions_path,
    check_labels,
    parse_answer,
    read_captions,
    write_captions,
)
from av_grounding.training.data.clips import PICTURE_SUFFIXES, SPLITS
from av_grounding.training.data.shards import Member, find_shards, list_members, pread

INDEX, PROBLEMS, SHEET = "captions.json", "caption_problems.jsonl", "captions.png"
NUM_DRAWN, COLUMNS = 12, 3
TILE_PX, LINE_PX, NUM_LINES, WRAP = 320, 18, 6, 44

Picture = UInt8[np.ndarray, "_ _ 3"]


@runtime_checkable
class Captioner(Protocol):
    """Whoever writes captions."""

    def describe(self) -> dict[str, Any]:
        """What decides about its answers: name, revision, prompt; strict JSON."""
        ...

    def answer(self, images: Sequence[Picture], labels: Sequence[Sequence[str]]) -> list[str]:
        """For each picture the text with its captions as JSON, see `captions.parse_answer`."""
        ...


class LabelCaptions:
    """A caption from each label alone: for who has no large model, and as a control."""

    def describe(self) -> dict[str, Any]:
        return {"model": "labels"}

    def answer(self, images: Sequence[Picture], labels: Sequence[Sequence[str]]) -> list[str]:
        return [
            json.dumps({"foreground": [f"an image of {one}" for one in names], "background": ""})
            for names in labels
        ]


@dataclass(frozen=True)
class ClipToCaption:
    """A clip as the captioner sees it, or why it cannot be shown."""

    clip: int
    picture: int = 0
    image: Picture | None = None
    labels: tuple[str, ...] = ()
    problem: str = ""


def caption_shards(
    root: Path,
    captioner: Captioner,
    *,
    batch_size: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write captions beside every shard of sounds below `root`; returns the report.

    Beside them come captions.json, caption_problems.jsonl and captions.png, which shows some. A
    second call goes on behind the finished shards. ValueError for captions that are there and of
    another shard, or by somebody else.
    """
    shards = sound_shards(root)
    facts, total, done = captioner.describe(), sum(num for _, num in shards), 0
    drawn: list[tuple[Picture, CaptionRow]] = []
    counts, problems = {"num_captioned": 0, "num_problems": 0}, []
    for path, num in shards:
        if captions_path(path).is_file():
            rows = read_captions(path, facts)
        else:
            rows = []
            for image, row in caption_clips(path, captioner, batch_size):
                rows.append(row)
                if len(drawn) < NUM_DRAWN and row.caption is not None:
                    drawn.append((image, row))
                if progress:
                    progress(done + len(rows), total)
            write_captions(path, facts, rows)
        done += num
        for row in rows:
            if row.caption is None:
                why = {"shard": path.name, "clip": row.clip, "problem": row.problem}
                problems.append(why)
        counts["num_captioned"] += sum(row.caption is not None for row in rows)
        if progress:
            progress(done, total)
    counts["num_problems"] = len(problems)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in problems)
    write_text(root / PROBLEMS, text)
    report = {**facts, "num_shards": len(shards), **counts, "problems": str(root / PROBLEMS)}
    if drawn:
        write_png(root / SHEET, contact_sheet(drawn))
    write_json(root / INDEX, report)
    return report


def look_at(
    root: Path, captioner: Captioner, num: int, out: Path, batch_size: int = 4
) -> list[CaptionRow]:
    """Caption the first clips, draw them as `out`, and write nothing else: prompts are tried."""
    pairs = []
    for path, _ in sound_shards(root):
        pairs += islice(caption_clips(path, captioner, batch_size), num - len(pairs))
    write_png(out, contact_sheet([(image, row) for image, row in pairs if image is not None]))
    return [row for _, row in pairs]


def sound_shards(root: Path) -> list[tuple[Path, int]]:
    """Shards of sounds and how many clips each has; ValueError where there are none."""
    shards = [
        (shard.path, shard.num_clips)
        for split in SPLITS
        for shard in find_shards(root, split)
        if shard.kind == "sound"
    ]
    if not shards:
        raise ValueError(
            f"{root} has no shards of sounds; expected what av-grounding data shard wrote"
        )
    return shards


def caption_clips(
    shard: Path, captioner: Captioner, batch_size: int
) -> Iterator[tuple[Picture | None, CaptionRow]]:
    """Each clip of a shard in order: its picture, where there is one, and its row."""
    clips = shown_clips(shard)
    while batch := list(islice(clips, batch_size)):
        usable = [one for one in batch if one.image is not None]
        answers = captioner.answer([one.image for one in usable], [one.labels for one in usable])
        if len(answers) != len(usable):
            raise RuntimeError(f"{len(answers)} answers for {len(usable)} pictures")
        waiting = iter(answers)
        for one in batch:
            if one.image is None:
                yield None, CaptionRow(one.clip, one.picture, None, problem=one.problem)
                continue
            try:
                caption = parse_answer(next(waiting), len(one.labels))
                yield one.image, CaptionRow(one.clip, one.picture, caption, one.labels)
            except ValueError as error:
                why = one_line(error)
                yield one.image, CaptionRow(one.clip, one.picture, None, one.labels, why)


def shown_clips(shard: Path) -> Iterator[ClipToCaption]:
    """The middle still of every clip, and its labels."""
    with open(shard, "rb") as file:
        for number, members in enumerate(list_members(shard)):
            try:
                yield _shown(file.fileno(), f"{shard.name}[{number}]", number, members)
            except ValueError as error:
                yield ClipToCaption(number, problem=one_line(error))


def _shown(file: int, name: str, number: int, members: list[Member]) -> ClipToCaption:
    stills = [m for m in members if f".{m.suffix.rsplit('.', 1)[-1]}" in PICTURE_SUFFIXES]
    facts = [m for m in members if m.suffix == "json"]
    if not (stills and facts):
        raise ValueError("it has no picture or no .json of labels")
    meta = parse_json(pread(file, facts[0]).decode("utf-8", "replace"))
    labels = meta.get("labels") if isinstance(meta, dict) else None
    if not isinstance(labels, list) or not all(isinstance(one, str) for one in labels):
        raise ValueError(f"labels are {brief(labels)}; expected a list of texts")
    check_labels(labels)
    middle = len(stills) // 2
    image = media.decode_picture(pread(file, stills[middle]), name)
    return ClipToCaption(number, middle, image, tuple(labels))


def contact_sheet(pairs: Sequence[tuple[Picture, CaptionRow]]) -> Picture:
    """Pictures with their captions under them: + what sounds, - the rest, ! a problem."""
    height = TILE_PX + NUM_LINES * LINE_PX
    num_rows = max(1, -(-len(pairs) // COLUMNS))
    sheet = np.full((num_rows * height, COLUMNS * TILE_PX, 3), 24, np.uint8)
    for number, (image, row) in enumerate(pairs):
        top, left = number // COLUMNS * height, number % COLUMNS * TILE_PX
        scale = (TILE_PX - 8) / max(image.shape[:2])
        size = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
        small = ResizeTransform(*image.shape[:2], *size).apply(image)
        sheet[top + 4 : top + 4 + size[0], left + 4 : left + 4 + size[1]] = small
        for line, text in enumerate(lines_of(row)[:NUM_LINES]):
            y = top + TILE_PX + line * LINE_PX + LINE_PX - 5
            draw_text(sheet, text, (left + 4, y), 12, (230, 230, 230))
    return sheet


def lines_of(row: CaptionRow) -> list[str]:
    if row.caption is None:
        texts = [f"! {row.problem}"]
    else:
        texts = [f"+ {one}" for one in row.caption.foreground]
        texts += [f"- {row.caption.background}"] * bool(row.caption.background)
    plain = (text.encode("ascii", "replace").decode() for text in texts)
    return [text[at : at + WRAP] for text in plain for at in range(0, len(text), WRAP)]
