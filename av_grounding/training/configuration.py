"""Settings of a training run: typed dataclasses, overridden by `section.key=value`."""

from __future__ import annotations

import ast
import difflib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

from av_grounding.modeling.dual_encoder import ModelConfig
from av_grounding.training.loop import LoopConfig
from av_grounding.training.recipes.sss import SssConfig


@dataclass(frozen=True)
class DataConfig:
    """The synthetic banks and the batches drawn from them."""

    num_scene_groups: int = 3000
    num_sounds_per_class: int = 80
    num_utterances_per_class: int = 250
    bank_seed: int = 1
    batch_size: int = 32
    pretext_groups: int = 4
    pretext_clips: int = 64
    num_calibration_samples: int = 300
    calibration_seed: int = 0


@dataclass(frozen=True)
class SssRun:
    """Everything that `train sss` needs for the small bundle."""

    name: str = "synthetic-small"
    window_s: float = 2.56
    hop_s: float = 0.16
    short_side_px: int = 160
    salience_power: float = 2.0
    """How strongly the speech head prefers tokens whose own map is peaked (see ModelSpec)."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    recipe: SssConfig = field(default_factory=SssConfig)
    pretext: LoopConfig = field(default_factory=lambda: LoopConfig(steps=700, seed=1))
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=2000, seed=2))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "model": self.model.to_json()}


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
