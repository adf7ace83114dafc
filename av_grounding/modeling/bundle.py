"""Bundles: a model as a directory of `config.json` and `model.safetensors`.

Nothing is ever unpickled. Weights load strictly: missing, unexpected and wrong-shaped keys are
listed, and the file must have the hash that config.json states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from av_grounding.files import (
    brief,
    one_line,
    parse_json,
    read_text,
    replacing,
    sha256,
    write_json,
)
from av_grounding.modeling.bundle_checks import check_model, check_spec
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.types import HeadCalibration, HeadSpec, ModelSpec

FORMAT = 2
"""Format 1 had no type, and named the answers of its heads apart from them; it is still read."""
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
OPTIONAL = ("vocabulary",)
"""Fields of config.json that a bundle may do without."""
MAX_LISTED = 20
MODEL_TYPES: dict[str, tuple[type[torch.nn.Module], type]] = {
    "dual_encoder": (DualEncoder, ModelConfig),
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
) -> Path:
    """Write a bundle; each file appears whole or not at all. Returns the directory."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for key, value in model.state_dict().items()
    }
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
    write_json(directory / CONFIG_FILE, config)
    return directory


def load_bundle(directory: str | Path) -> Bundle:
    """Read a bundle strictly.

    Raises FileNotFoundError for a missing file and ValueError for anything in it that does not
    fit, each naming what was found and what to do.
    """
    directory = Path(directory)
    config = read_config(directory)
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


def store_calibration(
    directory: str | Path, calibration: Mapping[str, HeadCalibration], facts: dict[str, Any]
) -> None:
    """Replace heads' calibration in a bundle's config.json; `facts` go to its info.

    Raises ValueError for a head that the bundle does not have.
    """
    spec = spec_from_json(read_config(Path(directory))["spec"])
    if unknown := sorted(set(calibration) - set(spec.head_names)):
        raise ValueError(
            f"calibration of {', '.join(unknown)}; expected only the bundle's "
            f"{', '.join(spec.head_names)}"
        )
    store_spec(directory, spec.with_heads(calibration=calibration), {"calibration": facts})


def store_spec(directory: str | Path, spec: ModelSpec, info: dict[str, Any]) -> None:
    """Replace the spec in a bundle's config.json; `info` joins what is there."""
    path = Path(directory) / CONFIG_FILE
    config = read_config(path.parent)
    config["spec"] = spec_to_json(spec)
    config["info"] |= info
    write_json(path, config)


def read_config(directory: Path) -> dict[str, Any]:
    """The bundle's config.json, checked for form."""
    path = directory / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no bundle at {directory}: it has no {CONFIG_FILE}")
    try:
        config = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): copy the bundle again") from None
    wanted = {"format": int, "name": str} | dict.fromkeys(
        ("model", "spec", "weights", "info"), dict
    )
    for key, kind in wanted.items():
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise ValueError(
                f"{path} has no valid {key!r} ({kind.__name__}): not a bundle's config"
            )
    if config["format"] not in (1, FORMAT):
        raise ValueError(
            f"{path} has format {brief(config['format'])}, this version reads 1 and {FORMAT}: "
            "update av_grounding"
        )
    if config["format"] == 1:
        config |= {"format": FORMAT, "type": "dual_encoder"}
        config["spec"] = _spec_of_format_1(config["spec"])
    if config.get("type") not in MODEL_TYPES:
        raise ValueError(
            f"{path} has type {brief(config.get('type'))}; expected one of "
            f"{', '.join(MODEL_TYPES)}: was this bundle written by a newer version?"
        )
    if unknown := sorted(set(config) - {*wanted, "type", *OPTIONAL}):
        raise ValueError(
            f"{path} has unknown fields {brief(unknown)}; expected only "
            f"{', '.join([*wanted, 'type', *OPTIONAL])}: was this bundle written by a newer "
            "version?"
        )
    if not isinstance(config["weights"].get("sha256"), str):
        raise ValueError(f"{path} states no sha256 of its weights: not a bundle's config")
    return config


def _spec_of_format_1(values: dict[str, Any]) -> dict[str, Any]:
    """The spec of a bundle whose heads were names, with what is known of each beside them."""
    values = dict(values)
    try:
        calibration, floors = values.pop("calibration"), values.pop("min_token_norm", {})
        power = values.pop("salience_power", 1.0)
        values["heads"] = [
            {
                "name": name,
                "listens": "utterance" if name == "speech" else "recent",
                "calibration": calibration.get(name, {}),
                "min_token_norm": floors.get(name, 0.0),
                "salience_power": power,
            }
            for name in values["heads"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        reason = one_line(repr(error))
        raise ValueError(f"the bundle's spec does not fit this version: {reason}") from None
    return values


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    values = asdict(spec)
    values["heads"] = list(values["heads"])
    if spec.token_offset_s is None:
        del values["token_offset_s"]
    return values


def spec_from_json(values: dict[str, Any]) -> ModelSpec:
    try:
        heads = tuple(
            HeadSpec(**{**head, "calibration": HeadCalibration(**head.get("calibration", {}))})
            for head in values["heads"]
        )
        spec = ModelSpec(**{**values, "heads": heads})
        check_spec(spec)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        reason = one_line(error)
        raise ValueError(f"the bundle's spec does not fit this version: {reason}") from None
    return spec
