"""Bundles: a model as a directory of `config.json` and `model.safetensors`.

Nothing is ever unpickled. Weights load strictly: missing, unexpected and wrong-shaped keys are
listed, and the file must have the hash that config.json states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from av_grounding.files import brief, one_line, replacing, sha256, write_json
from av_grounding.modeling.bundle_checks import check_model
from av_grounding.modeling.bundle_config import (
    CONFIG_FILE,
    FORMAT,
    WEIGHTS_FILE,
    read_config,
    spec_from_json,
    spec_to_json,
)
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.modeling.region_model import RegionConfig, RegionModel
from av_grounding.modeling.separator import SeparatingConfig, SeparatingEncoder
from av_grounding.types import ModelSpec

MAX_LISTED = 20
MODEL_TYPES: dict[str, tuple[type[torch.nn.Module], type]] = {
    "dual_encoder": (DualEncoder, ModelConfig),
    "separator": (SeparatingEncoder, SeparatingConfig),
    "region_model": (RegionModel, RegionConfig),
}
"""Type in config.json -> the model and its configuration."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: the model in eval mode (float32), its spec, and the rest of config.json."""

    model: DualEncoder
    spec: ModelSpec
    name: str
    info: dict[str, Any] = field(default_factory=dict)


def save_bundle(
    directory: str | Path,
    model: DualEncoder,
    spec: ModelSpec,
    *,
    name: str,
    info: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
    vocabulary: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write a bundle; each file appears whole or not at all. Returns the directory.

    `vocabulary` is which things each head knows, English nouns in the singular.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for key, value in model.state_dict().items()
    }
    # Networks may share a tensor between two names; a file of safetensors may not.
    places: set[int] = set()
    for key, value in state.items():
        if value.data_ptr() in places and value.numel():
            state[key] = value.clone()
        places.add(value.data_ptr())
    weights = directory / WEIGHTS_FILE
    try:
        with replacing(weights) as partial:
            save_file(state, partial)
    except SafetensorError as error:  # the disk is full, as a rule
        raise OSError(f"{weights} could not be written: {error}") from None
    config = {
        "format": FORMAT,
        "type": _type_of(model),
        "name": name,
        "model": model.config.to_json(),
        "spec": spec_to_json(spec),
        "weights": {"sha256": sha256(weights), "dtype": str(dtype).removeprefix("torch.")},
        "info": info or {},
    }
    if vocabulary is not None:
        config["vocabulary"] = {head: list(words) for head, words in vocabulary.items()}
    write_json(directory / CONFIG_FILE, config)
    return directory


def load_bundle(directory: str | Path) -> Bundle:
    """Read a bundle strictly.

    Raises FileNotFoundError for a missing file and ValueError for anything in it that does not
    fit, each naming what was found and what to do.
    """
    directory = Path(directory)
    config = read_config(directory)
    if config.get("type") not in tuple(MODEL_TYPES):
        raise ValueError(
            f"{directory / CONFIG_FILE} has type {brief(config.get('type'))}; expected one of "
            f"{', '.join(MODEL_TYPES)}: was this bundle written by a newer version?"
        )
    weights = directory / WEIGHTS_FILE
    if not weights.is_file():
        raise FileNotFoundError(f"no {WEIGHTS_FILE} in {directory}: the bundle is incomplete")
    expected = config["weights"]["sha256"]
    if (found := sha256(weights)) != expected:
        raise ValueError(
            f"{weights} has sha256 {found[:12]}…, its config.json says "
            f"{one_line(expected[:12])}…: "
            "the file is damaged or belongs to another bundle; copy the bundle again"
        )
    spec = spec_from_json(config["spec"])
    try:
        model = _build(config["type"], config["model"])
    except ValueError as error:
        raise ValueError(
            f"{directory / CONFIG_FILE}: no model can be built from it ({error}): copy the "
            "bundle again"
        ) from None
    load_weights(model, weights)
    return Bundle(model.eval(), spec, config["name"], config["info"])


def model_of(config: ModelConfig) -> DualEncoder:
    """A new model, of the type that belongs to its configuration."""
    return next(model for model, kind in MODEL_TYPES.values() if type(config) is kind)(config)


def _type_of(model: torch.nn.Module) -> str:
    return next(name for name, (kind, _) in MODEL_TYPES.items() if type(model) is kind)


def _build(type_name: str, values: dict[str, Any]) -> DualEncoder:
    """The model without values: nothing is drawn at random, no memory taken before they come."""
    check_model(values)
    model, options = MODEL_TYPES[type_name]
    try:
        with torch.device("meta"):
            return model(options.from_json(values))
    except Exception as error:  # constructors raise whatever they stumble over
        raise ValueError(one_line(error) or type(error).__name__) from None


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Give `model` the tensors of a safetensors file, each in the dtype that the model states.

    Tensors that are in this dtype already stay in the file, which is mapped into memory.
    """
    target = model.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            keys = set(file.keys())
            problems = [f"missing {key}" for key in sorted(set(target) - keys)]
            problems += [f"unexpected {key}" for key in sorted(keys - set(target))]
            for key in sorted(keys & set(target)):
                shape = tuple(file.get_slice(key).get_shape())
                if shape != tuple(target[key].shape):
                    problems.append(f"{key} is {shape}, expected {tuple(target[key].shape)}")
            if problems:
                rest = [f"{len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
                listed = "; ".join(brief(p)[1:-1] for p in [*problems[:MAX_LISTED], *rest])
                raise ValueError(f"{path} does not fit its config.json: {listed}")
            state = {key: file.get_tensor(key).to(target[key].dtype) for key in keys}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no safetensors file ({error}): copy the bundle again"
        ) from None
    model.load_state_dict(state, assign=True)
