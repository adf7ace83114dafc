"""Whether a bundle's config.json describes a model that could exist, before it is built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from av_grounding.files import brief
from av_grounding.types import ModelSpec

MAX_LAYERS = 256
MAX_WIDTH = 1 << 14
"""Of any option that counts channels, pixels or coefficients."""
MAX_RATE_HZ = 192_000
MAX_HEADS = 64
MAX_STFT = 1 << 16
# Names of activations and norms; a slash would make `transformers` look for code on a hub.
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_HEAD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LAYERS = {"depth", "num_hidden_layers", "num_layers"}
_RATES = {"sample_rate_hz"}
SPEC_RANGES: dict[str, tuple[type, float, float]] = {
    "sample_rate_hz": (int, 1000, MAX_RATE_HZ),
    "window_s": (float, 0.01, 300.0),
    "hop_s": (float, 0.001, 300.0),
    "num_tokens": (int, 1, 100_000),
    "short_side_px": (int, 1, 8192),
    "patch_px": (int, 1, 1024),
    "context_s": (float, 0.0, 300.0),
    "token_spacing_s": (float, 0.0, 300.0),
    "token_offset_s": (float, 0.0, 300.0),
}
HEAD_RANGES = {"min_token_norm": (0.0, 1e6), "salience_power": (0.0, 100.0)}
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
    names = spec.head_names
    if not 0 < len(names) <= MAX_HEADS or len(set(names)) != len(names):
        raise ValueError(f"heads are {brief(names)}; expected up to {MAX_HEADS}, all different")
    for name, (kind, low, high) in SPEC_RANGES.items():
        value = getattr(spec, name)
        if name == "token_offset_s" and value is None:
            continue
        if not isinstance(value, (int, kind)) or not _is_within(value, low, high):
            raise ValueError(f"{name} is {brief(value)}; expected {low:g} to {high:g}")
    if spec.separation is not None:
        window, hop = spec.separation.stft_window, spec.separation.stft_hop
        if not (type(window) is type(hop) is int and 2 <= 2 * hop <= window <= MAX_STFT):
            raise ValueError(
                f"separation has an STFT of {brief(window)} samples every {brief(hop)}; expected "
                f"up to {MAX_STFT} samples, and a hop of at most half of them"
            )
        crop_px, max_px = spec.separation.crop_px, SPEC_RANGES["short_side_px"][2]
        if type(crop_px) is not int or not 0 <= crop_px <= max_px:
            raise ValueError(
                f"separation looks at places of {brief(crop_px)} pixels; expected 0 to {max_px}"
            )
    for head in spec.heads:
        if not isinstance(head.name, str) or not _HEAD.fullmatch(head.name):
            raise ValueError(
                f"head {brief(head.name)}; expected a name of small letters, digits and _, since "
                "topics are named after it"
            )
        if head.norm_order not in (1, 2):
            raise ValueError(
                f"norm_order of head {head.name!r} is {brief(head.norm_order)}; expected 1 or 2"
            )
        limits = {
            **{name: (getattr(head, name), *HEAD_RANGES[name]) for name in HEAD_RANGES},
            "scale": (head.calibration.scale, -MAX_CALIBRATION, MAX_CALIBRATION),
            "bias": (head.calibration.bias, -MAX_CALIBRATION, MAX_CALIBRATION),
        }
        for name, (value, low, high) in limits.items():
            if not _is_within(value, low, high):
                raise ValueError(
                    f"{name} of head {head.name!r} is {brief(value)}; expected {low:g} to {high:g}"
                )


def _is_within(value: object, low: float, high: float) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and low <= value <= high
