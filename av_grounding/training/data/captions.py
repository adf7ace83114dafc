"""Captions of clips: which objects of a picture sound, and what else it shows (paper 004).

They lie beside each shard, in `<shard>.captions.jsonl`: a first line that says of which shard and
by whom, then one line a clip, with its captions or with what was wrong. What a language model
wrote is never trusted: it is checked, and what does not fit is a problem and not mended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from av_grounding.files import STRANGE_ROWS, brief, one_line, parse_json, read_text, write_text
from av_grounding.training.data.shards import list_members
from av_grounding.training.loop.run_folder import differences

FORMAT = 1
MAX_ANSWER, MAX_CAPTION, MAX_FILE_BYTES = 8000, 400, 1 << 28


@dataclass(frozen=True)
class Caption:
    """Of one picture: a caption an object that sounds, and one of all the rest ("": none)."""

    foreground: tuple[str, ...]
    background: str = ""

    def __post_init__(self) -> None:
        captions = [*self.foreground, *([self.background] if self.background else [])]
        if not self.foreground:
            raise ValueError("no caption of what sounds; expected one or more")
        for caption in captions:
            if not 0 < len(caption) <= MAX_CAPTION:
                raise ValueError(
                    f"caption {brief(caption)}; expected text of 1 to {MAX_CAPTION} characters"
                )
            if not caption.isprintable():
                raise ValueError(f"caption {brief(caption)}; expected one printable line")
        if len(set(self.foreground)) < len(self.foreground):
            raise ValueError(f"two of the captions are the same: {brief(self.foreground)}")


@dataclass(frozen=True)
class CaptionRow:
    """What became of clip `clip` of a shard, by its still `picture`: a caption, or a problem."""

    clip: int
    picture: int
    caption: Caption | None
    labels: tuple[str, ...] = ()
    problem: str = ""


def parse_answer(answer: str, num_sources: int) -> Caption:
    """The captions in a model's answer, which may talk around its JSON or fence it.

    `foreground` is a list of `num_sources` captions, or a single text where there is one source.
    ValueError in one line for everything else.
    """
    start, stop = answer.find("{"), answer.rfind("}")
    if len(answer) > MAX_ANSWER or not 0 <= start < stop:
        raise ValueError(f"expected a JSON object, got {brief(answer)}")
    try:
        value = parse_json(answer[start : stop + 1])
    except ValueError as error:
        raise ValueError(f"expected JSON, got {brief(answer)} ({error})") from None
    foreground = value.get("foreground")
    foreground = [foreground] if isinstance(foreground, str) else foreground
    if not _are_texts(foreground) or "background" not in value:
        raise ValueError(f"expected foreground and background, got {brief(value)}")
    if len(foreground) != num_sources:
        raise ValueError(
            f"{len(foreground)} captions of what sounds; expected {num_sources}, one a label"
        )
    background = value["background"]
    if not isinstance(background, str):
        raise ValueError(f"background is {brief(background)}; expected one text")
    return Caption(tuple(foreground), background.strip())


def check_labels(labels: Sequence[str]) -> None:
    """ValueError for labels that name no sources, or one of them twice."""
    if not labels:
        raise ValueError("it has no label; expected the classes of what sounds in it")
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels are {brief(tuple(labels))}; expected each once")


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def captions_path(shard: Path) -> Path:
    return shard.with_suffix(".captions.jsonl")


def fingerprint(shard: Path) -> str:
    """Of the names, places and sizes of a shard's files: cheap, and others in another shard."""
    places = [
        (member.suffix, member.offset, member.num_bytes)
        for clip in list_members(shard)
        for member in clip
    ]
    return hashlib.sha256(json.dumps(places).encode()).hexdigest()


def write_captions(shard: Path, facts: dict[str, Any], rows: Iterable[CaptionRow]) -> None:
    """The caption file of a shard, whole or not at all; `facts`: who wrote it, and how."""
    lines = [{**header(shard), **facts}, *(_to_json(row) for row in rows)]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(captions_path(shard), text)


def header(shard: Path) -> dict[str, Any]:
    return {"format": FORMAT, "shard": shard.name, "files": fingerprint(shard)}


def read_captions(shard: Path, facts: dict[str, Any] | None = None) -> list[CaptionRow]:
    """The rows of a shard's captions, in the order of its clips.

    FileNotFoundError where it has none. ValueError where they are of another shard, or damaged,
    or, with `facts`, by somebody else.
    """
    path = captions_path(shard)
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path.name} beside {shard}: write it with av-grounding data caption"
        )
    first, *lines = read_text(path, MAX_FILE_BYTES).splitlines() or [""]
    try:
        then, now = parse_json(first), header(shard)
        if changed := differences({key: then.get(key) for key in now}, now):
            raise ValueError(f"it belongs to another shard ({'; '.join(changed)})")
        if facts is not None and (changed := differences({**then, **now}, {**now, **facts})):
            raise ValueError(f"it was written otherwise ({'; '.join(changed)})")
        rows = [_from_json(parse_json(line)) for line in lines]
        num = len(list_members(shard))
        if [row.clip for row in rows] != list(range(num)):
            raise ValueError(f"{len(rows)} rows for {num} clips; expected one each, in order")
    except (ValueError, *STRANGE_ROWS) as error:
        raise ValueError(
            f"{path}: {one_line(error)}; remove it and write it again with av-grounding data "
            "caption"
        ) from None
    return rows


def _to_json(row: CaptionRow) -> dict[str, Any]:
    values = asdict(row)
    caption = values.pop("caption")
    if caption is None:
        return values
    del values["problem"]
    return {**values, **caption}


def _from_json(values: dict[str, Any]) -> CaptionRow:
    clip, picture = values["clip"], values["picture"]
    if type(clip) is not int or type(picture) is not int:
        raise ValueError(f"{brief(values)} numbers no clip and picture")
    if not (_are_texts(values["labels"]) and _are_texts(values.get("foreground", []))):
        raise ValueError(f"{brief(values)} holds no lists of texts")
    labels = tuple(values["labels"])
    if "problem" in values:
        return CaptionRow(clip, picture, None, labels, str(values["problem"]))
    check_labels(labels)
    caption = Caption(tuple(values["foreground"]), values["background"])
    return CaptionRow(clip, picture, caption, labels)
