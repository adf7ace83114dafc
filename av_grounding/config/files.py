"""Reads and checks parameters, nested or dotted, as a ROS parameter file has them.

A misspelt name is an error that offers the nearest one.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from av_grounding.config.schema import GroundingConfig, Parameter, parameters
from av_grounding.files import brief, one_line, parse_yaml, read_text

NODE_NAME = "grounding"
MAX_BYTES = 1 << 18
"""Parameter files of a whole robot have a tenth of this."""
MAX_DEPTH = 20
MAX_SHOWN_KEYS = 10

Section = TypeVar("Section")


def load_config(path: str | Path) -> GroundingConfig:
    """Read a ROS parameter file (`/**: ros__parameters: …`).

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
    try:
        document = parse_yaml(text, MAX_DEPTH)
        values: dict[str, bool | int | float | str] = {}
        for section in _node_sections(document):
            values.update(_checked(section))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return _build(GroundingConfig, values)


def config_from_mapping(values: Mapping[str, Any]) -> GroundingConfig:
    """Check parameters, nested or dotted, and return the configuration they describe."""
    return _build(GroundingConfig, _checked(values))


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


def _checked(values: Any) -> dict[str, bool | int | float | str]:
    known = {parameter.name: parameter for parameter in parameters()}
    sections = {name.rpartition(".")[0] for name in known} - {""}
    checked: dict[str, bool | int | float | str] = {}
    for name, value in _flatten(values, sections):
        if name not in known:
            raise ValueError(_unknown(name, known, sections))
        checked[name] = _check(known[name], value)
    return checked


def _flatten(values: Any, sections: set[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, Mapping):
        raise ValueError(
            f"got {_kind(values)} for {one_line(prefix, 80) or 'parameters'}, expected "
            "name: value pairs"
        )
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if name in sections or isinstance(value, Mapping):
            yield from _flatten(value, sections, name)
        else:
            yield name, value


def _unknown(name: str, known: Mapping[str, Parameter], sections: set[str]) -> str:
    nearest = difflib.get_close_matches(name, [*known, *sections], n=1, cutoff=0.5)
    if not nearest:  # the right name in the wrong section, or without one
        nearest = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    remedy = f"did you mean {nearest[0]!r}?" if nearest else "known: " + ", ".join(known)
    return f"got the unknown parameter {brief(name)}, expected a known one: {remedy}"


def _check(parameter: Parameter, value: Any) -> bool | int | float | str:
    name = parameter.name
    if isinstance(parameter.default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"got {brief(value)} for {name}, expected true or false")
        return value
    if isinstance(parameter.default, str):
        if not isinstance(value, str):
            raise ValueError(f"got {brief(value)} for {name}, expected text: put it in quotes")
        if parameter.choices and value not in parameter.choices:
            nearest = difflib.get_close_matches(value, parameter.choices, n=1)
            remedy = f"did you mean {nearest[0]!r}?" if nearest else "choose one of them"
            expected = ", ".join(parameter.choices)
            raise ValueError(
                f"got {brief(value)} for {name}, expected one of {expected}: {remedy}"
            )
        return value
    low, high = parameter.range or (-math.inf, math.inf)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ValueError(
            f"got {brief(value)} for {name}, expected a number: write it like {parameter.default}"
        )
    if not low <= value <= high or math.inf in (value, -value):
        raise ValueError(
            f"got {brief(value)} for {name}, expected {low:g} to {high:g}: {parameter.description}"
        )
    if isinstance(parameter.default, int):
        if value != int(value):
            raise ValueError(f"got {brief(value)} for {name}, expected a whole number")
        return int(value)
    return float(value)


def _build(section: type[Section], values: Mapping[str, Any], prefix: str = "") -> Section:
    arguments = {}
    for item in fields(section):
        name = prefix + item.name
        if is_dataclass(item.default_factory):
            arguments[item.name] = _build(item.default_factory, values, f"{name}.")
        elif name in values:
            arguments[item.name] = values[name]
    return section(**arguments)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        shown = [brief(str(key)) for key in itertools.islice(value, MAX_SHOWN_KEYS)]
        rest = ", …" if len(value) > MAX_SHOWN_KEYS else ""
        return "a mapping with " + (", ".join(shown) + rest or "no key")
    return f"{type(value).__name__} {brief(value)}"
