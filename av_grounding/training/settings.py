"""Settings of a run as JSON, and changed by `section.key=value`."""

from __future__ import annotations

import ast
import difflib
import math
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any


def run_to_json(run: Any) -> dict[str, Any]:
    """A run's settings as strict JSON: infinity is written as a word, as `override` reads it."""
    return _finite({**asdict(run), "model": run.model.to_json()})


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def override(config: Any, assignments: list[str]) -> Any:
    """Apply `key=value` or `section.key=value` settings to a frozen dataclass.

    Raises ValueError for a form that is not key=value, an unknown key (with the nearest one) or
    a value of another type than the default's.
    """
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator:
            raise ValueError(f"--set {assignment!r}; expected key=value, such as loop.steps=2000")
        config = assign(config, path.strip().split("."), text.strip(), path)
    return config


def assign(config: Any, keys: list[str], text: str, path: str) -> Any:
    names = [f.name for f in fields(config)]
    if keys[0] not in names:
        near = difflib.get_close_matches(keys[0], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names)}"
        raise ValueError(f"--set {path}: no setting {keys[0]!r}; {hint}")
    current = getattr(config, keys[0])
    if is_dataclass(current):
        if len(keys) == 1:
            raise ValueError(f"--set {path}: a section; name one of its keys, as {path}.key=value")
        return replace(config, **{keys[0]: assign(current, keys[1:], text, path)})
    if len(keys) > 1 and not isinstance(current, dict):
        raise ValueError(f"--set {path}: {keys[0]!r} has no keys of its own")
    value = parse(text, current, path)
    return replace(config, **{keys[0]: {**current, keys[1]: value} if len(keys) > 1 else value})


def parse(text: str, current: Any, path: str) -> Any:
    """Read `text` as a value of the kind of `current`."""
    if isinstance(current, str):
        return text
    try:
        value = {"true": True, "false": False, "none": None, "inf": float("inf")}.get(
            text.lower(), ...
        )
        value = ast.literal_eval(text) if value is ... else value
    except (ValueError, SyntaxError):
        raise ValueError(f"--set {path}={text}: not a value; expected e.g. {current!r}") from None
    numeric = isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool)
    same = numeric or current is None or value is None or isinstance(current, dict)
    if not same and type(value) is not type(current):
        raise ValueError(
            f"--set {path}={text}: got a {type(value).__name__}, expected a "
            f"{type(current).__name__} such as {current!r}"
        )
    return float(value) if numeric else value
