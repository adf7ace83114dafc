"""Whether a bundle's config.json describes a model that could exist, before it is built."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from av_grounding.files import brief
from av_grounding.types import HeadCalibration, ModelSpec

MAX_LAYERS = 256
MAX_WIDTH = 1 << 14
"""Of any option that counts channels, pixels or coefficients."""
MAX_RATE_HZ = 192_000
MAX_HEADS = 64
# Names of activations and norms; a slash would make `transformers` look for code on a hub.
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LAYERS = {"depth", "num_hidden_layers", "num_layers"}
_RATES = {"sample_rate_hz"}
SPEC_RANGES: dict[str, tuple[type, float, float]] = {
    "sample_rate_hz": (int, 1000, MAX_RATE_HZ),
    "window_s": (float, 0.01, 300.0),
    "hop_s": (float, 0.001, 300.0),
    "num_tokens": (int, 1, 100_000),
    "short_side_px": (int, 1, 8192),
    "patch_px": (int, 1, 1024),
    "salience_power": (float, 0.0, 100.0),
    "context_s": (float, 0.0, 300.0),
    "token_spacing_s": (float, 0.0, 300.0),
}
MAX_CALIBRATION = 1e6


def check_model(values: Mapping[str, Any]) -> None:
    """ValueError for sizes that no model has, and for options that are not plain values."""
    heads = values.get("heads")
    is_list = isinstance(heads, list) and 0 < len(heads) <= MAX_HEADS
    if not is_list or not all(isinstance(head, str) for head in heads):
        raise ValueError(f"heads are {brief(heads)}; expected a list of names")
    for name, value in values.items():
        if name != "heads":
            _check_option(name, value)


def _check_option(name: str, value: object) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, dict) and name.endswith("_options"):
        for inner, option in value.items():
            _check_option(inner, option)
    elif isinstance(value, list):
        if len(value) > MAX_LAYERS:
            raise ValueError(f"{brief(name)} has {len(value)} entries; expected {MAX_LAYERS}")
        for option in value:
            if isinstance(option, list):
                raise ValueError(f"{brief(name)} is {brief(value)}; expected plain values")
            _check_option(name, option)
    elif isinstance(value, str):
        if not _WORD.fullmatch(value):
            raise ValueError(f"{brief(name)} is {brief(value)}; expected a plain word")
    elif isinstance(value, (int, float)):
        limit = MAX_LAYERS if name in _LAYERS else MAX_RATE_HZ if name in _RATES else MAX_WIDTH
        if not 0 <= value <= limit:
            raise ValueError(f"{brief(name)} is {brief(value)}; expected 0 to {limit}")
    else:
        raise ValueError(f"{brief(name)} is {brief(value)}; expected a plain value")


def check_spec(spec: ModelSpec) -> None:
    """ValueError for a spec that no window, image or answer can have."""
    heads = spec.heads
    if not 0 < len(heads) <= MAX_HEADS or not all(isinstance(head, str) for head in heads):
        raise ValueError(f"heads are {brief(heads)}; expected names")
    for name, (kind, low, high) in SPEC_RANGES.items():
        value = getattr(spec, name)
        is_number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise ValueError(f"{name} is {brief(value)}; expected {low:g} to {high:g}")
    if not isinstance(spec.min_token_norm, Mapping):
        raise ValueError(f"min_token_norm is {brief(spec.min_token_norm)}; expected a number each")
    numbers = list(spec.min_token_norm.values())
    for calibration in spec.calibration.values():
        assert isinstance(calibration, HeadCalibration)
        numbers += [calibration.scale, calibration.bias]
    for value in numbers:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not math.fabs(value) <= MAX_CALIBRATION:
            raise ValueError(f"got {brief(value)}; expected a number up to {MAX_CALIBRATION:g}")
