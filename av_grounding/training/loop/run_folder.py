"""What every training run does with its folder: settings that do not change under a resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from av_grounding.files import write_json

Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with the stage's name, what is done, the total, and the newest numbers."""


def settle_settings(config: Any, path: Path) -> None:
    """Remember a run's settings (its `to_json`); refuse to resume with others.

    A setting that did not exist when the run began had its default.
    """
    settings = json.loads(json.dumps(config.to_json()))
    if path.exists():
        defaults = flatten(json.loads(json.dumps(type(config)().to_json())))
        before, now = flatten(json.loads(path.read_text())), flatten(settings)
        older = {key: defaults[key] for key in now.keys() & defaults.keys() - before.keys()}
        if changed := differences({**older, **before}, now):
            raise ValueError(
                f"{path.parent} was begun with other settings ({'; '.join(changed)}): "
                "use them again or another --out"
            )
    write_json(path, settings)


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by the dotted names that `--set` takes."""
    flat = {}
    for key, value in settings.items():
        is_section = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{key}.") if is_section else {prefix + key: value}
    return flat


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`name: old then, new now` for every setting that is not the same."""
    return [
        f"{key}: {then.get(key)!r} then, {now.get(key)!r} now"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
