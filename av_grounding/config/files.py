"""Reads and checks parameters, nested or dotted, as a ROS parameter file has them.

A misspelt name is an error that offers the nearest one.
"""

from __future__ import annotations

import difflib
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from av_grounding.config.checking import complaint, unknown
from av_grounding.config.schema import HEADS, GroundingConfig, HeadSettings, parameters, put
from av_grounding.files import brief, one_line, parse_yaml, read_text

NODE_NAME = "grounding"
MAX_BYTES = 1 << 18
"""Parameter files of a whole robot have a tenth of this."""
MAX_DEPTH = 20
MAX_SHOWN_KEYS = 10
SIMILAR = 0.75
"""A section this much like a known one (difflib's ratio) is that one misspelt, not a head."""


def load_config(path: str | Path, changes: Mapping[str, Any] | None = None) -> GroundingConfig:
    """Read a ROS parameter file (`/**: ros__parameters: …`); `changes` go before it.

    Sections of other nodes are ignored; of this node's, later ones win. Raises
    FileNotFoundError, or ValueError in one line for whatever else is wrong with the file.
    """
    path = Path(path)
    try:
        text = read_text(path, MAX_BYTES)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"got configuration file {path}, which does not exist: expected a parameter file "
            "such as config/grounding.yaml"
        ) from None
    values: dict[str, Any] = {}
    try:
        for section in _node_sections(parse_yaml(text, MAX_DEPTH)):
            values.update(_flatten(section))
        config = config_from_mapping(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return config_from_mapping(values | dict(changes)) if changes else config


def config_from_mapping(values: Mapping[str, Any]) -> GroundingConfig:
    """Check parameters, nested or dotted, and return the configuration they describe."""
    flat = dict(_flatten(values))
    heads = [*HEADS, *extra_heads(flat)]
    known = {parameter.name: parameter for parameter in parameters(heads)}
    document: dict[str, Any] = {"heads": {head: {} for head in heads}}
    for name, value in flat.items():
        if name not in known:
            raise ValueError(unknown(name, list(known), _sections()))
        put(document, known[name].path, known[name].inward(value))
    try:
        return TypeAdapter(GroundingConfig).validate_python(document)
    except ValidationError as error:
        raise ValueError(complaint(error, known.values())) from None


def extra_heads(names: Iterable[str]) -> list[str]:
    """Heads that the dotted names of parameters speak of beside those of the shipped file."""
    sections, settings = _sections(), HeadSettings.__pydantic_fields__
    found = (name.partition(".")[::2] for name in names)
    heads = (head for head, leaf in found if leaf in settings and head.isidentifier())
    return [
        head
        for head in dict.fromkeys(heads)
        if head not in sections
        and not difflib.get_close_matches(head, sections, n=1, cutoff=SIMILAR)
    ]


@functools.cache
def _sections() -> frozenset[str]:
    return frozenset(parameter.name.rpartition(".")[0] for parameter in parameters()) - {""}


def _node_sections(document: Any) -> Iterator[Any]:
    expected = f"expected '/**:' or '{NODE_NAME}:' with 'ros__parameters:' below it"
    if not isinstance(document, Mapping):
        raise ValueError(
            f"got {_kind(document)} at the top, {expected}: see config/grounding.yaml"
        )
    ours = [key for key in document if str(key).rpartition("/")[2] in ("**", "*", NODE_NAME)]
    if not ours:
        raise ValueError(f"got {_kind(document)} at the top, {expected}: rename one")
    for key in ours:
        content = document[key]
        if not isinstance(content, Mapping) or set(content) != {"ros__parameters"}:
            raise ValueError(
                f"got {_kind(content)} below {brief(key)}, {expected}: indent the parameters"
            )
        yield content["ros__parameters"] or {}


def _flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, Mapping):
        raise ValueError(
            f"got {_kind(values)} for {one_line(prefix, 80) or 'parameters'}, expected "
            "name: value pairs"
        )
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if name in _sections() or isinstance(value, Mapping):
            yield from _flatten(value, name)
        else:
            yield name, value


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        shown = [brief(str(key)) for key in itertools.islice(value, MAX_SHOWN_KEYS)]
        rest = ", …" if len(value) > MAX_SHOWN_KEYS else ""
        return "a mapping with " + (", ".join(shown) + rest or "no key")
    return f"{type(value).__name__} {brief(value)}"
