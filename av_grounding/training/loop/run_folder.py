"""What every training run does with its folder: settings that do not change under a resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from av_grounding.files import write_json
from av_grounding.training.loop.configuration import SssPaperRun, SssRun
from av_grounding.training.loop.settings import differences

Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with the stage's name, what is done, the total, and the newest numbers."""


def settle_settings(config: SssRun | SssPaperRun, path: Path) -> None:
    """Remember the run's settings; refuse to resume with others."""
    settings = json.loads(json.dumps(config.to_json()))
    if path.exists():
        before, now = flatten(json.loads(path.read_text())), flatten(settings)
        if changed := differences(before, now):
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
