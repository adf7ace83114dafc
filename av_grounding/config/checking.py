"""Settings as dataclasses that pydantic checks; a mistake is one line: got, expected, remedy."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, NamedTuple, TypeVar, get_args

from pydantic import BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

from av_grounding.files import brief

Value = bool | int | float | str
Settings = TypeVar("Settings")
CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
MAX_MISTAKES = 3
"""So many mistakes of a set are told at once."""


def _whole(value: Any) -> Any:
    # YAML and JavaScript write whole numbers as 3.0 too.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or factor == 1.0:
        return value
    # Rounded, so that 70.1 ms are 0.0701 s and 70.1 ms again; an int may exceed every float.
    return round(value * factor, 9) if abs(value) < 1e12 else value


Whole = BeforeValidator(_whole)
Integer = Annotated[int, Strict(), Whole]


class Parameter(NamedTuple):
    """One setting as YAML, ROS and the command line know it."""

    name: str
    default: Value
    description: str
    range: tuple[float, float] | None
    choices: tuple[int | str, ...]
    is_live: bool
    """Whether it is followed while a stream runs; the others count where that is made."""
    path: tuple[str, ...]
    """Where its value stands in the dataclass, from attribute to attribute."""
    scale: float
    """The parameter is its value times this: 1000 for milliseconds of a value in seconds."""

    def inward(self, value: Any) -> Any:
        """The value for the dataclass."""
        return _scaled(value, 1.0 / self.scale)

    def outward(self, value: Any) -> Any:
        """The value as the parameter has it; inverse of `inward`."""
        return _scaled(value, self.scale)

    def expected(self, got: Any) -> str:
        """What would have been right, and how to write it."""
        if self.choices:
            names = [str(choice) for choice in self.choices]
            nearest = difflib.get_close_matches(str(got), names, n=1)
            remedy = f"did you mean {nearest[0]!r}?" if nearest else "choose one of them"
            return f"one of {', '.join(names)}: {remedy}"
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return "text: put it in quotes"
        if isinstance(got, bool) or not isinstance(got, (int, float)) or got != got:
            return f"a number: write it like {self.default}"
        low, high = self.range or (got, got)
        if low <= got <= high:
            return "a whole number"
        return f"{low:g} to {high:g}: {self.description}"


def setting(
    default: Value,
    *,
    range: tuple[float, float] | None = None,
    section: str = "",
    name: str = "",
    scale: float = 1.0,
    live: bool = False,
) -> Any:
    """A field of `settings`, whose docstring is its description.

    `range` is of the field; `section` or the whole `name` are the parameter's, where they differ
    from where the field stands.
    """
    bounds = {} if range is None else {"ge": range[0], "le": range[1]}
    extra = {"range": range, "section": section, "name": name, "scale": scale, "live": live}
    return Field(default, json_schema_extra=extra, **bounds)


@dataclass_transform(frozen_default=True, field_specifiers=(setting, Field))
def settings(cls: type[Settings]) -> type[Settings]:
    """A frozen dataclass whose values are checked; ValueError in one line by the fields' names."""
    checked = dataclass(frozen=True, config=CONFIG)(cls)
    build = checked.__init__

    @functools.wraps(build)
    def in_one_line(self: Any, *args: Any, **values: Any) -> None:
        try:
            build(self, *args, **values)
        except ValidationError as error:
            fields = (p._replace(name=p.path[-1]) for p in parameters(checked, scaled=False))
            raise ValueError(complaint(error, fields)) from None

    checked.__init__ = in_one_line
    return checked


def parameters(
    section: type, path: tuple[str, ...] = (), prefix: str = "", scaled: bool = True
) -> Iterator[Parameter]:
    """The settings below a dataclass in its order, named below `prefix`."""
    for key, field in section.__pydantic_fields__.items():
        if is_dataclass(field.annotation):
            yield from parameters(field.annotation, (*path, key), key, scaled)
        elif extra := field.json_schema_extra:
            place, scale = extra["section"] or prefix, extra["scale"] if scaled else 1.0
            choices = () if isinstance(field.annotation, type) else get_args(field.annotation)
            yield Parameter(
                name=extra["name"] or ".".join(part for part in (place, key) if part),
                default=_scaled(field.default, scale),
                description=" ".join((field.description or "").split()),
                range=extra["range"] and tuple(_scaled(end, scale) for end in extra["range"]),
                choices=choices,
                is_live=extra["live"],
                path=(*path, key),
                scale=scale,
            )


def complaint(error: ValidationError, known: Iterable[Parameter]) -> str:
    """What pydantic found, by the names of `known`; the first mistakes, on one line."""
    found = {parameter.path: parameter for parameter in known}
    mistakes = error.errors(include_url=False)[:MAX_MISTAKES]
    return "; ".join(_mistake(mistake, found) for mistake in mistakes)


def _mistake(mistake: Mapping[str, Any], known: Mapping[tuple, Parameter]) -> str:
    path = mistake["loc"]
    if mistake["type"] == "value_error":  # what our own validators raise: complete sentences
        return str(mistake["ctx"]["error"])
    if mistake["type"] == "unexpected_keyword_argument":
        return unknown(str(path[-1]), [parameter.name for parameter in known.values()])
    if path not in known:
        place = ".".join(map(str, path))
        return f"got {brief(mistake['input'])} for {place}, expected settings: {mistake['msg']}"
    got = known[path].outward(mistake["input"])
    return f"got {brief(got)} for {known[path].name}, expected {known[path].expected(got)}"


def unknown(name: str, known: list[str], others: Iterable[str] = ()) -> str:
    """That nothing is called `name`, and what was probably meant."""
    nearest = difflib.get_close_matches(name, [*known, *others], n=1, cutoff=0.5)
    if not nearest:  # the right name in the wrong section, or without one
        nearest = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    remedy = f"did you mean {nearest[0]!r}?" if nearest else "known: " + ", ".join(known)
    return f"got the unknown parameter {brief(name)}, expected a known one: {remedy}"
